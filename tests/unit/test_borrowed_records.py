"""What reads find below the active memtable stays in it: at hand, never in the way, and within its room."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from kvbus.errors import ReadOnly
from kvbus.sim.disk import MemoryDisk
from kvbus_storage import LsmEngine
from kvbus_storage.memtable import Memtable
from tests.unit.lsm_workload import Clock, drain, opened, settle, state_of, used_bytes
from tests.unit.test_lsm_maintenance import PLAIN, flushed, put


def reopened(*batches: tuple[bytes, ...]) -> LsmEngine:
    """Return an engine that has just started with a table for each of ``batches``."""
    disk, _, _ = flushed(*batches)
    return opened(disk.kill(), PLAIN)[0]


def looks(engine: LsmEngine) -> int:
    stats = engine.stats()
    return stats["bloom_probes"] + stats["cache_hits"] + stats["cache_misses"]


@pytest.mark.parametrize("alone", [True, False])
def test_a_key_that_is_read_again_takes_no_look_into_tables(alone: bool) -> None:
    engine = reopened((b"a", b"b"), (b"b", b"c"))

    def read() -> list[bytes | None]:
        keys = (b"c", b"b", b"a")
        return [engine.get(key) for key in keys] if alone else engine.multi_get(keys)

    assert read() == [b"1", b"1", b"0"]
    before = looks(engine)
    assert read() == [b"1", b"1", b"0"]
    assert looks(engine) == before > 0


def test_explain_shows_the_way_that_found_it() -> None:
    engine = reopened((b"a",))
    first = engine.explain(b"a")
    assert engine.get(b"a") == b"0"
    before = looks(engine)
    path = engine.explain(b"a")
    assert looks(engine) == before
    assert first["memtable"] == path["memtable"] == "miss"
    assert path["sstables"][0]["found"]
    put(engine, b"a", record=b"2")
    assert engine.explain(b"a")["memtable"] == "hit"


def test_it_is_not_taken_for_what_was_written() -> None:
    """Neither the gauge of what waits for a flush nor the flush itself knows of it."""
    engine = reopened(tuple(b"%04d" % key for key in range(2000)))
    assert None not in engine.multi_get([b"%04d" % key for key in range(2000)])
    assert engine.stats()["memtable_bytes"] == 0
    assert not engine.flush_due()
    put(engine, b"0007", record=b"written")
    assert 0 < engine.stats()["memtable_bytes"] < 200


def test_reads_take_no_more_than_their_room_and_those_of_late_stay() -> None:
    record, options = bytes(4000), replace(PLAIN, memory_bytes=4 << 20)
    disk = MemoryDisk()
    engine, worker = opened(disk, options)
    for number in range(1600):
        engine.apply([b"%03d" % number], [record])
        engine.commit()
        drain(worker)
    engine.flush()
    settle(engine, worker)
    engine = opened(disk.kill(), options)[0]
    random = Random(3)
    for _ in range(5000):
        key = b"%03d" % random.randrange(1600)
        assert engine.get(key) == record
        assert engine.stats()["memory_bytes"] < options.memory_bytes
        before = looks(engine)
        assert engine.multi_get([key]) == [record]
        assert looks(engine) == before
    assert engine.stats()["flushes"] == 0


def test_what_a_full_disk_refuses_leaves_it_as_it_was() -> None:
    disk, clock = MemoryDisk(), Clock()
    engine, worker = opened(disk, PLAIN, clock)
    put(engine, b"a", b"b")
    engine.flush()
    drain(worker)
    put(engine, b"b", record=b"newer")
    previous = engine.multi_get([b"a", b"b", b"c"])
    before = engine.stats()["memtable_bytes"], engine.stats()["memory_bytes"]
    disk.capacity_bytes = used_bytes(disk)
    engine.apply([b"a", b"b", b"c"], [b"x" * 5000] * 3, None, previous)
    with pytest.raises(ReadOnly):
        engine.commit()
    assert engine.multi_get([b"a", b"b", b"c"]) == previous == [b"v", b"newer", None]
    assert (engine.stats()["memtable_bytes"], engine.stats()["memory_bytes"]) == before


def test_nothing_of_it_comes_back() -> None:
    disk = flushed((b"a", b"b", b"c", b"d"))[0].kill()
    engine, worker = opened(disk, PLAIN)
    assert None not in engine.multi_get([b"a", b"b", b"c", b"d"])
    engine.purge([b"a"])
    engine.commit()
    engine.drop_range(b"b", b"c")
    put(engine, b"c", record=b"new")
    engine.multi_get([b"d"])
    assert state_of(engine) == {b"c": b"new", b"d": b"0"}
    engine.flush()
    drain(worker)
    for found in (engine, opened(disk.kill(), PLAIN)[0]):
        assert found.multi_get([b"a", b"b", b"c", b"d"]) == [None, None, b"new", b"0"]
        assert state_of(found) == {b"c": b"new", b"d": b"0"}


def test_a_table_weighs_itself_anew_where_the_caller_saw_more_than_it_holds() -> None:
    table = Memtable({b"a": b"12", b"b": b"3456"})
    undo = table.put([b"a", b"c"], [b"1", b"789"], [b"12", b"what lies below"])
    assert table.data_bytes == len(b"a1b3456c789")
    undo()
    assert table.multi_get([b"a", b"b", b"c"]) == [b"12", b"3456", b"what lies below"]
    assert table.data_bytes == len(b"a12b3456cwhat lies below")
