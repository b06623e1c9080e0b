"""Memtables that are in tables already: few are kept, and nothing that is newer is hidden by them."""

from __future__ import annotations

from kvbus.sim.disk import MemoryDisk
from tests.unit.lsm_workload import drain, opened, settle, state_of
from tests.unit.test_lsm_maintenance import PLAIN, flushed, put


def test_few_flushed_memtables_are_kept_however_small_they_are() -> None:
    _, engine, worker = flushed(*[(b"%d" % number,) for number in range(20)])
    before = engine.stats()["memory_bytes"]
    for number in range(20, 200):
        put(engine, b"%d" % number)
        engine.flush()
        drain(worker)
    settle(engine, worker)
    assert engine.stats()["memory_bytes"] < 2 * before
    assert len(state_of(engine)) == 200


def test_a_backlog_of_memtables_goes_when_it_is_flushed() -> None:
    engine, worker = opened(MemoryDisk(), PLAIN)
    for number in range(12):
        put(engine, b"%d" % number, record=bytes(200_000))
    assert engine.stats()["frozen_memtables"] > 5
    settle(engine, worker)
    assert engine.stats()["memory_bytes"] < PLAIN.memory_bytes
