"""Memtables that are in tables already: they go bit by bit, the newest one's records to those at hand."""

from __future__ import annotations

from itertools import pairwise

import pytest

from kvbus.sim.disk import MemoryDisk
from tests.unit.lsm_workload import drain, opened, settle, state_of
from tests.unit.test_lsm_maintenance import PLAIN, flushed, put


def test_flushed_memtables_go_however_small_they_are() -> None:
    _, engine, worker = flushed(*[(b"%d" % number,) for number in range(200)])
    settle(engine, worker)
    engine.commit()
    assert engine._generations.memory_bytes == 0
    assert len(state_of(engine)) == 200


def test_a_backlog_of_memtables_goes_when_it_is_flushed() -> None:
    engine, worker = opened(MemoryDisk(), PLAIN)
    for number in range(12):
        put(engine, b"%d" % number, record=bytes(200_000))
    assert engine.stats()["frozen_memtables"] > 5
    settle(engine, worker)
    assert engine.stats()["memory_bytes"] < PLAIN.memory_bytes


@pytest.mark.parametrize("scans", [False, True])
def test_a_memtable_that_goes_is_freed_bit_by_bit(scans: bool) -> None:
    engine, worker = opened(MemoryDisk(), PLAIN)
    for number in range(4):
        put(engine, *(b"%d/%d" % (number, key) for key in range(2000)))
        assert not scans or len(state_of(engine)) == 2000 * (number + 1)
        engine.flush()
    drain(worker)
    entries = [sum(map(len, engine._generations.leaving))]
    memory = engine.stats()["memory_bytes"]
    while entries[-1]:
        engine.commit()
        entries.append(sum(map(len, engine._generations.leaving)))
    assert entries[0] > 2000
    assert {before - after for before, after in pairwise(entries[:-1])} == {512}
    assert memory - engine.stats()["memory_bytes"] > entries[0] * 100
    assert len(state_of(engine)) == 8000


def test_a_snapshot_keeps_the_memtables_that_it_reads() -> None:
    engine, worker = opened(MemoryDisk(), PLAIN)
    put(engine, *(b"a/%d" % key for key in range(2000)), record=b"old")
    engine.flush()
    snapshot = engine.snapshot()
    drain(worker)
    for number in range(6):
        put(engine, *(b"a/%d" % key for key in range(2000)), record=b"%d" % number)
        engine.flush()
        drain(worker)
        engine.commit()
    assert dict(snapshot.scan(b"a", b"b")) == {b"a/%d" % key: b"old" for key in range(2000)}
    assert snapshot.get(b"a/1999") == b"old"
