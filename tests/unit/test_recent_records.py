"""Records that were read or written of late stay at hand in front of the tables, within their room."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from kvbus.errors import ReadOnly
from kvbus.sim.disk import MemoryDisk
from kvbus_storage import EngineOptions, LsmEngine
from tests.unit.lsm_workload import Clock, drain, opened, settle, state_of, used_bytes
from tests.unit.test_lsm_maintenance import PLAIN, flushed, put

ROOMY = replace(PLAIN, memory_bytes=8 << 20)


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
    options = replace(PLAIN, memory_bytes=4 << 20)
    engine, keys = with_tables(1600, bytes(4000), options)
    random = Random(3)
    for _ in range(5000):
        key = random.choice(keys)
        assert engine.get(key) == bytes(4000)
        assert engine.stats()["memory_bytes"] < options.memory_bytes
        before = looks(engine)
        assert engine.multi_get([key]) == [bytes(4000)]
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
    before = engine.stats()["memtable_bytes"]
    disk.capacity_bytes = used_bytes(disk)
    engine.apply([b"a", b"b", b"c"], [b"x" * 5000] * 3, None, previous)
    with pytest.raises(ReadOnly):
        engine.commit()
    assert engine.multi_get([b"a", b"b", b"c"]) == previous == [b"v", b"newer", None]
    assert engine.stats()["memtable_bytes"] == before


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


def with_tables(count: int, record: bytes, options: EngineOptions) -> tuple[LsmEngine, list[bytes]]:
    """Return an engine that has just started, with ``count`` keys in tables, and the keys."""
    disk = MemoryDisk()
    engine, worker = opened(disk, options)
    keys = [b"%05d" % number for number in range(count)]
    for key in keys:
        engine.apply([key], [record])
        engine.commit()
        drain(worker)
    engine.flush()
    settle(engine, worker)
    return opened(disk.kill(), options)[0], keys


def test_one_read_of_all_takes_no_more_than_its_room() -> None:
    engine, keys = with_tables(4000, bytes(4000), ROOMY)
    assert None not in engine.multi_get(keys)
    assert engine.stats()["memory_bytes"] < ROOMY.memory_bytes
    put(engine, b"new")
    engine.flush()
    assert not engine.read_only


def test_what_is_read_again_stays_although_the_log_is_not_empty() -> None:
    engine, keys = with_tables(1500, bytes(1000), ROOMY)
    put(engine, b"new")
    engine.multi_get(keys)
    engine.multi_get(keys[:300])
    before = looks(engine)
    assert None not in engine.multi_get(keys[:300])
    assert looks(engine) == before


def test_writes_are_not_refused_earlier_for_what_was_read() -> None:
    """The worker does nothing: what waits for it is what was written, and writers rest before there is no room."""
    waiting: list[int] = []
    for reads in (0, 4):
        options = replace(ROOMY, memory_bytes=64 << 20)
        engine, keys = with_tables(3000, bytes(16000), options)
        number = 0
        while not engine.read_only:
            engine.multi_get([keys[(number * reads + each) % len(keys)] for each in range(reads)])
            engine.apply([b"w%05d" % number], [bytes(16000)])
            engine.commit()
            number += 1
        assert engine.rest_seconds > 0.01
        waiting.append(engine.stats()["frozen_memtables"])
    assert waiting[1] == waiting[0] > 5


def test_reads_alone_free_what_they_push_out() -> None:
    engine, keys = with_tables(30_000, bytes(100), ROOMY)
    for begin in range(0, len(keys), 5000):
        engine.multi_get(keys[begin : begin + 5000])
        assert engine.stats()["memory_bytes"] < ROOMY.memory_bytes
    assert sum(map(len, engine._generations.leaving)) < 1000


def test_a_scan_and_a_snapshot_know_nothing_of_it() -> None:
    engine, keys = with_tables(500, b"v", PLAIN)
    assert None not in engine.multi_get(keys)
    assert state_of(engine) == dict.fromkeys(keys, b"v")
    assert engine.stats()["keys"] == 500


def test_large_records_after_small_ones_take_no_more_than_their_room() -> None:
    options = replace(PLAIN, memory_bytes=16 << 20)
    engine, worker = opened(MemoryDisk(), options)
    for number in range(30_000):
        engine.apply([b"%06d" % number], [bytes(100)])
        if number % 100 == 0:
            engine.commit()
            drain(worker)
    for number in range(40):
        put(engine, *(b"%02d/%d" % (number, key) for key in range(256)), record=bytes(10_000))
        engine.flush_due()
        drain(worker)
        assert engine.stats()["memory_bytes"] < options.memory_bytes


def test_flushed_memtables_do_not_pile_up_behind_large_commits() -> None:
    engine, worker = opened(MemoryDisk(), PLAIN)
    waiting: list[int] = []
    for number in range(60):
        put(engine, *(b"%02d/%d" % (number, key) for key in range(2000)), record=bytes(1000))
        engine.flush_due()
        drain(worker)
        waiting.append(sum(each.memory_bytes for each in engine._generations.leaving))
    assert max(waiting) < 2 * 2000 * 1200


def test_while_much_waits_to_be_flushed_nothing_is_kept_at_hand() -> None:
    engine, keys = with_tables(500, bytes(1000), ROOMY)
    assert None not in engine.multi_get(keys)
    for number in range(6):
        put(engine, b"new", record=b"%d" % number * 1000)
        engine.flush()
    assert engine.get(b"new") == b"5" * 1000
    for number in range(6, 12):
        put(engine, *(b"%d/%d" % (number, key) for key in range(400)), record=bytes(2000))
    assert engine.stats()["frozen_memtables"] > 3
    assert engine._recent.memory_bytes == 0
    put(engine, b"new", record=b"newest")
    assert engine.multi_get([b"new", keys[0]]) == [b"newest", bytes(1000)]
    assert engine._recent.memory_bytes == 0


def with_a_flushed_memtable(count: int) -> tuple[LsmEngine, list[bytes]]:
    """Return an engine whose last memtable was flushed and has handed on nothing yet, and its keys."""
    engine, worker = opened(MemoryDisk(), ROOMY)
    keys = [b"%05d" % number for number in range(count)]
    engine.apply(keys, [b"old"] * count)
    engine.flush()
    drain(worker)
    return engine, keys


def test_what_was_flushed_goes_over_to_what_is_at_hand_some_at_a_time() -> None:
    engine, keys = with_a_flushed_memtable(3000)
    at_hand = [0]
    while engine._generations.flushed is not None:
        put(engine, b"new")
        at_hand.append(sum(1 for _ in engine._recent.items()))
    assert {after - before for before, after in pairwise(at_hand[:-1])} == {16}
    before = looks(engine)
    assert engine.multi_get(keys) == [b"old"] * len(keys)
    assert looks(engine) == before


def test_a_node_that_idles_hands_on_more_and_one_large_commit_not_without_end() -> None:
    engine, _ = with_a_flushed_memtable(3000)
    engine.commit()
    assert sum(1 for _ in engine._recent.items()) == 512
    put(engine, b"large", record=bytes(1 << 19))
    assert sum(1 for _ in engine._recent.items()) == 512 + 1024


@pytest.mark.parametrize("is_frozen", [False, True])
def test_what_was_replaced_meanwhile_does_not_come_back(is_frozen: bool) -> None:
    engine, keys = with_a_flushed_memtable(40)
    engine.apply(keys[:10], [b"new"] * 10)
    engine.purge(keys[10:20])
    if is_frozen:
        engine.flush()
    else:
        engine.drop_range(keys[20], keys[30])
    while engine._generations.flushed is not None:
        engine.commit()
    gone = 10 if is_frozen else 20
    expected = [b"new"] * 10 + [None] * gone + [b"old"] * (30 - gone)
    assert engine.multi_get(keys) == expected
    assert not {key for key, _ in engine._recent.items()}.intersection(keys[:20])
