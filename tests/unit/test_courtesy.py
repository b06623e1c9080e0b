"""The worker gives way: between small parts of its work, and never so long that it starves."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import pytest

from kvbus.runtime import courtesy
from kvbus.runtime.courtesy import Courtesy
from kvbus.sim.disk import MemoryDisk
from kvbus_storage import EngineOptions, open_lsm
from tests.unit.lsm_workload import LateWorker, drain, settle

_PARTS = 1000


class Processor:
    """A clock, and a processor that others use for ``taken_s`` each time somebody gives way."""

    def __init__(self, taken_s: float) -> None:
        self.now_s = 50.0
        self.yields = 0
        self._taken_s = taken_s

    def clock(self) -> float:
        return self.now_s

    def give(self) -> None:
        self.yields += 1
        self.now_s += self._taken_s


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Processor]:
    def make(taken_s: float) -> Processor:
        found = Processor(taken_s)
        monkeypatch.setattr(courtesy, "perf_counter", found.clock)
        monkeypatch.setattr(courtesy, "_yield", found.give)
        return found

    return make


def work(processor: Processor) -> float:
    """Do a job of many parts of a millisecond each, and return how long it took in seconds."""
    give_way = Courtesy()
    begun = processor.now_s
    for _ in range(_PARTS):
        processor.now_s += 0.001
        give_way()
    return processor.now_s - begun


def test_a_job_gives_way_each_time_where_that_costs_little(processor: Callable[[float], Processor]) -> None:
    idle = processor(0.0001)
    work(idle)
    assert idle.yields == _PARTS


def test_a_job_does_not_starve_where_others_always_work(processor: Callable[[float], Processor]) -> None:
    """A quarter of its time is given away, and what it does itself takes the rest."""
    crowded = processor(0.01)
    taken_s = work(crowded)
    assert crowded.yields > 10
    assert taken_s == pytest.approx(_PARTS * 0.001 / 0.75, rel=0.02)


def test_a_job_takes_it_along_to_its_process(processor: Callable[[float], Processor]) -> None:
    idle = processor(0.0)
    sent = copy(Courtesy())
    sent()
    assert idle.yields == 1


def test_flush_and_compaction_give_way_at_every_block() -> None:
    class Counting(LateWorker):
        given = 0

        @property
        def give_way(self) -> Callable[[], object]:
            return self.count

        def count(self) -> None:
            self.given += 1

    options = EngineOptions(memory_bytes=1 << 20, block_bytes=256, compression="none", level0_runs=2)
    worker = Counting()
    engine = open_lsm(MemoryDisk(), options, worker)
    for number in range(2):
        for key in range(100):
            engine.apply([b"%d-%d" % (key, number)], [bytes(250)])
            engine.commit()
        engine.flush()
        drain(worker)
    settle(engine, worker)
    assert engine.stats()["compactions"] == 1
    # Two flushes of a hundred log records and as many blocks, then two hundred blocks in a compaction.
    assert worker.given >= 600
