"""A flush reads the log from its newest record to its oldest, and writes what a replay in order would leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvbus.errors import CorruptionError
from kvbus.sim.disk import MemoryDisk
from kvbus_storage import EngineOptions
from kvbus_storage.log.format import segment_name
from kvbus_storage.log.reader import read_records, read_records_back
from kvbus_storage.lsm.flush import FlushTask, Newest, flush
from kvbus_storage.memory_engine import open_engine
from kvbus_storage.memtable import Memtable
from kvbus_storage.removed import REMOVED
from kvbus_storage.table.output import OutputPlan
from tests.unit.lsm_workload import drain, opened, state_of
from tests.unit.test_lsm_maintenance import PLAIN as LSM
from tests.unit.test_lsm_maintenance import flushed, put

KEYS = [b"%d" % number for number in range(6)]
PLAN = OutputPlan(first_number=1, lsn=9, guards=(), table_bytes=1 << 20, block_bytes=4096, compression="none")

some_keys = st.lists(st.sampled_from(KEYS), min_size=1, max_size=4)
steps = st.one_of(
    st.tuples(st.just("put"), some_keys, st.binary(max_size=3)),
    st.tuples(st.just("applied"), some_keys, st.binary(max_size=3)),
    st.tuples(st.just("purge"), some_keys, st.just(b"")),
    st.tuples(st.just("drop"), st.lists(st.sampled_from(KEYS), min_size=2, max_size=2), st.just(b"")),
)


def written(history: Sequence[tuple[str, list[bytes], bytes]]) -> tuple[MemoryDisk, int, dict[bytes, bytes]]:
    """Return a disk with one segment, where its records end, and what stands at each key after them."""
    disk, expected = MemoryDisk(), Memtable()
    engine = open_engine(disk, EngineOptions())
    applied = 0
    for kind, keys, record in history:
        if kind in ("put", "applied"):
            records = [record + b"%d" % place for place in range(len(keys))]
            if kind == "put":
                engine.apply(keys, records)
            else:
                applied += 1
                engine.raft_log.append(1, applied, [1], [b"entry"])
                engine.raft_log.apply(1, applied, keys, records)
            expected.put(keys, records)
        elif kind == "purge":
            engine.purge(keys)
            expected.remove(keys)
        else:
            engine.drop_range(min(keys), max(keys))
            expected = expected.without(min(keys), max(keys))
        engine.commit()
    return disk, engine.stats()["log_bytes"], dict(expected.items())


@given(st.lists(steps, min_size=1, max_size=12))
def test_what_is_newest_is_what_a_replay_in_order_leaves(history: list[tuple[str, list[bytes], bytes]]) -> None:
    disk, end, expected = written(history)
    file = disk.open(segment_name(1))
    assert list(read_records_back(file, 1, end)) == list(read_records(file, 1, end))[::-1]
    newest = Newest()
    for record in read_records_back(file, 1, end):
        newest.take(record)
    assert newest.records == expected


def test_records_of_more_than_one_window_come_back_in_order() -> None:
    disk = MemoryDisk()
    engine = open_engine(disk, EngineOptions())
    for number, size in enumerate([100, 2_500_000, 600_000, 600_000, 1 << 20, 10, 3_000_000, 5]):
        engine.apply([b"%d" % number], [bytes([number]) * size])
        engine.commit()
    end = engine.stats()["log_bytes"]
    file = disk.open(segment_name(1))
    assert list(read_records_back(file, 1, end)) == list(read_records(file, 1, end))[::-1]


def test_several_segments_are_read_the_newest_first() -> None:
    disk = MemoryDisk()
    engine = open_engine(disk, EngineOptions(segment_bytes=4096))
    ends = []
    for number in range(3):
        engine.apply([b"a", b"%d" % number], [b"%d" % number, bytes(5000)])
        engine.flush_due()
        ends.append((number + 1, len(disk.read(segment_name(number + 1)))))
    # The mark at the end of a segment says nothing about keys.
    assert [meta.entries for meta in flush(FlushTask(disk=disk, segments=ends, output=PLAN))] == [4]
    newest = Newest()
    for segment, end in reversed(ends):
        for record in read_records_back(disk.open(segment_name(segment)), segment, end):
            newest.take(record)
    assert newest.records[b"a"] == b"2"


@pytest.mark.parametrize("number", range(5))
def test_damage_is_found_where_it_is(number: int) -> None:
    history = [("put", [key], key * 50) for key in KEYS[:5]]
    disk, end, _ = written(history)
    records = list(read_records(disk.open(segment_name(1)), 1, end))
    begin = records[number].offset
    for at in range(begin, records[number].end):
        data = bytearray(disk.read(segment_name(1)))
        data[at] ^= 1
        rotten = MemoryDisk()
        rotten.replace(segment_name(1), bytes(data))
        with pytest.raises(CorruptionError) as found:
            flush(FlushTask(disk=rotten, segments=[(1, end)], output=PLAN))
        assert found.value.offset == begin


def test_a_removed_key_that_comes_again_and_a_dropped_one_that_was_removed() -> None:
    history = [("put", [b"1", b"2"], b"x"), ("purge", [b"1", b"2"], b""), ("put", [b"1"], b"y")]
    disk, end, expected = written([*history, ("drop", [b"2", b"3"], b""), ("purge", [b"4"], b"")])
    assert expected == {b"1": b"y0", b"4": REMOVED}
    (meta,) = flush(FlushTask(disk=disk, segments=[(1, end)], output=PLAN))
    assert (meta.entries, meta.removals) == (2, 1)


def test_many_small_batches_are_flushed_before_a_start_would_take_long() -> None:
    disk, engine, worker = flushed(options=replace(LSM, segment_batches=5))
    for number in range(12):
        put(engine, b"a", record=b"%d" % number)
        drain(worker)
    assert engine.stats()["flushes"] == 2
    again, _ = opened(disk.kill(), LSM)
    assert again.stats()["applied_lsn"] == 12
    assert state_of(again) == {b"a": b"11"}


def test_what_a_start_finds_in_the_log_counts_towards_its_flush() -> None:
    disk, engine, worker = flushed(options=replace(LSM, segment_batches=5))
    for life in range(4):
        put(engine, b"a", record=b"%d" % life)
        put(engine, b"b", record=b"%d" % life)
        drain(worker)
        assert engine.stats()["flushes"] == (1 if life == 2 else 0)
        disk = disk.kill()
        engine, worker = opened(disk, replace(LSM, segment_batches=5))
    assert state_of(engine) == {b"a": b"3", b"b": b"3"}
