"""Flush, compaction and dropped ranges of the log-structured engine: facts one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from kvbus.errors import ShuttingDown
from kvbus.ports.worker import Argument, Result
from kvbus.sim.disk import MemoryDisk
from kvbus_storage import EngineOptions, LsmEngine, open_lsm
from kvbus_storage.log.format import segment_number
from kvbus_storage.lsm.catalog import Catalog
from kvbus_storage.lsm.manifest_format import Edit
from tests.unit.lsm_workload import (
    HIGHEST,
    LOWEST,
    TINY,
    Clock,
    LateWorker,
    blank_segments,
    drain,
    opened,
    settle,
    state_of,
    used_bytes,
)

PLAIN = EngineOptions(memory_bytes=1 << 20)


def put(engine: LsmEngine, *keys: bytes, record: bytes = b"v") -> None:
    engine.apply(keys, [record] * len(keys))
    engine.commit()


def flushed(*batches: tuple[bytes, ...], options: EngineOptions = PLAIN) -> tuple[MemoryDisk, LsmEngine, LateWorker]:
    """Return an engine with a table for each of ``batches``."""
    disk = MemoryDisk()
    engine, worker = opened(disk, options)
    for number, keys in enumerate(batches):
        put(engine, *keys, record=b"%d" % number)
        engine.flush()
        drain(worker)
    return disk, engine, worker


def segments(disk: MemoryDisk) -> list[str]:
    blank = blank_segments(disk)
    return [name for name in disk.list() if segment_number(name) is not None and name not in blank]


def test_flushed_data_are_read_from_tables_after_a_restart() -> None:
    disk, _, _ = flushed((b"a", b"b"), (b"b", b"c"))
    engine, _ = opened(disk.kill(), PLAIN)
    assert engine.stats()["tables"] == 2
    assert engine.stats()["memtable_bytes"] == 0
    assert engine.multi_get([b"c", b"b", b"a", b"x"]) == [b"1", b"1", b"0", None]


def test_flush_takes_the_log_it_covers_away() -> None:
    disk, engine, _ = flushed((b"a",))
    assert segments(disk) == ["log-00000002"]
    assert engine.stats()["log_segments"] == 1


def test_purged_key_stays_gone_over_older_tables() -> None:
    disk, engine, worker = flushed((b"a", b"b"))
    engine.purge([b"a"])
    engine.flush()
    settle(engine, worker)
    again, _ = opened(disk.kill(), PLAIN)
    assert state_of(again) == {b"b": b"0"}
    assert (again.get(b"a"), again.multi_get([b"a", b"b"])) == (None, [None, b"0"])


def test_full_compaction_leaves_no_removed_key_and_no_dropped_range() -> None:
    disk, engine, worker = flushed((b"a", b"b", b"c", b"d"))
    engine.purge([b"a"])
    engine.drop_range(b"c", b"d")
    engine.flush()
    settle(engine, worker)
    engine.compact()
    settle(engine, worker)
    stats = engine.stats()
    assert (stats["tables"], stats["keys"]) == (1, 2)
    assert state_of(opened(disk.kill(), PLAIN)[0]) == {b"b": b"0", b"d": b"0"}


def test_purge_of_everything_leaves_no_table() -> None:
    _, engine, worker = flushed((b"a", b"b"))
    engine.purge([b"a", b"b"])
    engine.flush()
    settle(engine, worker)
    engine.compact()
    settle(engine, worker)
    assert engine.stats()["tables"] == 0
    assert state_of(engine) == {}


def test_stored_bytes_of_the_mark_are_a_record() -> None:
    record = b"\0kvbus removed\0"
    disk, engine, worker = flushed((b"a",))
    put(engine, b"b", record=record)
    engine.flush()
    settle(engine, worker)
    engine.compact()
    settle(engine, worker)
    again, _ = opened(disk.kill(), PLAIN)
    assert (again.get(b"b"), again.multi_get([b"b"])) == (record, [record])
    assert state_of(again)[b"b"] == record


def test_drop_in_the_middle_of_a_compaction_holds_for_what_it_writes() -> None:
    disk, engine, worker = flushed((b"a", b"c"), (b"b", b"d"))
    engine.compact()
    worker.do()
    engine.drop_range(b"b", b"d")
    put(engine, b"b", record=b"new")
    worker.tell()
    for each in (engine, opened(disk.kill(), PLAIN)[0]):
        assert state_of(each) == {b"a": b"0", b"b": b"new", b"d": b"1"}
    settle(engine, worker)
    engine.compact()
    settle(engine, worker)
    assert state_of(engine) == {b"a": b"0", b"b": b"new", b"d": b"1"}


def test_drop_in_the_middle_of_a_flush_holds_for_what_it_writes() -> None:
    disk = MemoryDisk()
    engine, worker = opened(disk, PLAIN)
    put(engine, b"a", b"b", b"c")
    engine.flush()
    worker.do()
    engine.drop_range(b"b", b"c")
    worker.tell()
    for each in (engine, opened(disk.kill(), PLAIN)[0]):
        assert state_of(each) == {b"a": b"v", b"c": b"v"}
    engine.flush()
    settle(engine, worker)
    assert state_of(opened(disk.kill(), PLAIN)[0]) == {b"a": b"v", b"c": b"v"}


def test_range_that_ends_before_it_starts_drops_nothing() -> None:
    _, engine, worker = flushed((b"a", b"b", b"c", b"d"))
    engine.drop_range(b"c", b"b")
    put(engine, b"e")
    engine.flush()
    worker.work()
    engine.compact()
    settle(engine, worker)
    assert [key for key, _ in engine.scan(LOWEST, HIGHEST)] == [b"a", b"b", b"c", b"d", b"e"]
    assert engine.stats()["keys"] == 5


def test_scan_goes_on_over_tables_that_a_compaction_has_removed() -> None:
    disk, engine, worker = flushed((b"a", b"c"), (b"b", b"d"))
    engine, worker = opened(disk.kill(), PLAIN)
    found = engine.scan(LOWEST, HIGHEST)
    first = next(found)
    engine.compact()
    settle(engine, worker)
    put(engine, b"bb")
    assert engine.stats()["tables"] == 1
    assert [first, *found] == [(b"a", b"0"), (b"b", b"1"), (b"c", b"0"), (b"d", b"1")]


def test_scan_shows_a_range_that_was_dropped_after_its_call() -> None:
    disk, _, _ = flushed((b"a", b"c", b"e"))
    engine, _ = opened(disk.kill(), PLAIN)
    put(engine, b"b")
    found = engine.scan(LOWEST, HIGHEST)
    engine.drop_range(b"b", b"d")
    assert [key for key, _ in found] == [b"a", b"b", b"c", b"e"]


def test_dead_worker_leaves_nothing_and_the_job_is_done_again() -> None:
    disk = MemoryDisk()
    engine, worker = opened(disk, PLAIN)
    put(engine, b"a")
    engine.flush()
    assert worker.die()
    assert not [name for name in disk.list() if name.startswith("table-")]
    assert engine.stats()["maintenance_failures"] == 1
    assert engine.flush_due()
    worker.work()
    assert engine.stats()["tables"] == 1


def test_result_that_comes_after_the_close_changes_nothing() -> None:
    disk = MemoryDisk()
    engine, worker = opened(disk, PLAIN)
    put(engine, b"a")
    engine.flush()
    worker.do()
    engine.close()
    files = disk.list()
    worker.tell()
    assert disk.list() == files
    with pytest.raises(ShuttingDown):
        engine.compact_due()
    again, _ = opened(disk, PLAIN)
    assert state_of(again) == {b"a": b"v"}
    assert not [name for name in disk.list() if name.startswith("table-")], "the job's table was a leftover"


def test_flush_after_a_restart_needs_no_write() -> None:
    disk = MemoryDisk()
    engine, _ = opened(disk, PLAIN)
    put(engine, b"a")
    engine.close()
    engine, worker = opened(disk, PLAIN)
    engine.flush()
    settle(engine, worker)
    assert engine.stats()["tables"] == 1


def test_flush_after_a_restart_is_done_with_the_next_write() -> None:
    disk = MemoryDisk()
    engine, _ = opened(disk, PLAIN)
    put(engine, b"a")
    engine.close()
    engine, worker = opened(disk, PLAIN)
    put(engine, b"b")
    engine.flush()
    settle(engine, worker)
    assert engine.stats()["tables"] == 1
    assert state_of(opened(disk.kill(), PLAIN)[0]) == {b"a": b"v", b"b": b"v"}


def two_memtables_in_the_log() -> MemoryDisk:
    disk = MemoryDisk()
    engine, _ = opened(disk)
    for number in range(0, 3000, 50):
        put(engine, *(b"%05d" % key for key in range(number, number + 50)))
    return disk.kill()


def test_start_with_several_memtables_in_the_log_flushes_all_but_the_newest() -> None:
    disk = two_memtables_in_the_log()
    engine, _ = opened(disk)
    stats = engine.stats()
    assert (stats["flushes"] > 0, stats["frozen_memtables"]) == (True, 1)
    assert len(state_of(engine)) == 3000


def test_log_bytes_are_those_on_disk_after_a_start_that_flushes() -> None:
    disk = two_memtables_in_the_log()
    engine, worker = opened(disk)
    engine.compact_due()
    drain(worker)
    sizes = [len(disk.files[name].data) for name in segments(disk)]
    assert engine.stats()["log_bytes"] == sum(sizes)


def test_compaction_rests_for_its_share_of_time() -> None:
    clock = Clock()
    options = replace(TINY, compaction_bytes_s=1024)
    engine, worker = opened(MemoryDisk(), options, clock)
    for _ in range(3):
        put(engine, b"a", b"b", record=bytes(2000))
        engine.flush()
        drain(worker)
    assert engine.stats()["compactions"] == 1
    assert not engine.compact_due()
    clock.now_s += 60
    assert engine.compact_due()


def test_files_that_a_dead_worker_did_not_remove_go_with_the_next_sweep() -> None:
    disk = MemoryDisk()
    engine, worker = opened(disk, PLAIN)
    put(engine, b"a")
    engine.flush()
    worker.work()
    worker.die()
    put(engine, b"b")
    engine.flush()
    settle(engine, worker)
    assert segments(disk) == ["log-00000003"]


def test_worker_that_takes_no_job_is_asked_again() -> None:
    class Refusing(LateWorker):
        refuses = True

        def submit(
            self, job: Callable[[Argument], Result], argument: Argument, done: Callable[[Result | Exception], object]
        ) -> None:
            if self.refuses:
                raise BlockingIOError(11, "Resource temporarily unavailable")
            super().submit(job, argument, done)

    worker = Refusing()
    engine = open_lsm(MemoryDisk(), PLAIN, worker)
    put(engine, b"a")
    with pytest.raises(BlockingIOError):
        engine.flush()
    worker.refuses = False
    settle(engine, worker)
    assert engine.stats()["flushes"] == 1


def test_age_counts_for_what_a_start_found_in_the_log() -> None:
    disk, clock = MemoryDisk(), Clock()
    engine, _ = opened(disk, PLAIN)
    put(engine, b"a")
    engine, worker = opened(disk.kill(), PLAIN, clock)
    assert not engine.flush_due()
    clock.now_s += PLAIN.segment_age_s
    assert engine.flush_due()
    settle(engine, worker)
    assert engine.stats()["memtable_bytes"] == 0


def test_space_of_dropped_keys_is_given_back() -> None:
    options = replace(PLAIN, level0_runs=2)
    many = tuple(b"%05d" % key for key in range(1000))

    def compacted() -> tuple[LsmEngine, LateWorker]:
        _, engine, worker = flushed(many, many, options=options)
        settle(engine, worker)
        return engine, worker

    engine, worker = compacted()
    engine.drop_range(b"", b"00500")
    engine.drop_range(b"00500", b"1")
    settle(engine, worker)
    assert engine.stats()["table_bytes"] == 0
    engine, worker = compacted()
    before = engine.stats()["table_bytes"]
    engine.drop_range(b"", b"00999")
    settle(engine, worker)
    assert engine.stats()["table_bytes"] < before / 5
    assert engine.stats()["keys"] == 1
    _, engine, worker = flushed(many, many, options=options)
    engine.compact()
    worker.do()
    engine.drop_range(b"", b"1")
    settle(engine, worker)
    assert engine.stats()["table_bytes"] == 0


def test_reads_of_a_snapshot_count_as_all_reads_do() -> None:
    disk, _, _ = flushed((b"a",))
    engine, _ = opened(disk.kill(), PLAIN)
    engine.snapshot().get(b"a")
    assert (engine.stats()["cache_hits"], engine.stats()["cache_misses"]) == (0, 1)


def test_a_range_that_is_dropped_is_compacted_away_once() -> None:
    keys = tuple(b"%05d" % key for key in range(1000))
    _, engine, worker = flushed(keys, keys, options=replace(PLAIN, level0_runs=2))
    settle(engine, worker)
    before = engine.stats()["compactions"]
    engine.drop_range(b"00200", b"00700")
    engine.commit()
    settle(engine, worker)
    put(engine, b"x")
    engine.flush()
    settle(engine, worker)
    assert engine.stats()["keys"] == 501
    assert engine.stats()["compactions"] == before + 1


def test_a_table_that_only_moves_goes_down_all_levels_in_one_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    edits: list[Edit] = []
    install = Catalog.install

    def noted(self: Catalog, edit: Edit) -> None:
        edits.append(edit)
        install(self, edit)

    monkeypatch.setattr(Catalog, "install", noted)
    keys = [b"%05d" % key for key in range(1000)]
    engine, worker = opened(MemoryDisk())
    put(engine, *keys, record=bytes(50))
    engine.flush()
    settle(engine, worker)
    assert engine.stats()["level6_bytes"] > 0
    assert [len(edit.added) for edit in edits] == [1, 1]
    assert list(state_of(engine)) == keys


def test_a_job_that_fails_takes_its_tables_back_though_a_table_is_damaged() -> None:
    options = replace(PLAIN, compression="none")
    disk, engine, worker = flushed((b"a",))
    engine.close()
    (name,) = [name for name in disk.list() if name.startswith("table-")]
    disk.files[name].data[-1] ^= 0xFF
    engine, worker = opened(disk, options)
    assert engine.stats()["damaged_tables"] == 1
    put(engine, b"b", record=bytes(100_000))
    disk.capacity_bytes = used_bytes(disk) + 50_000
    engine.flush()
    drain(worker)
    assert engine.stats()["maintenance_failures"] > 0
    assert [name for name in disk.list() if name.startswith("table-")] == [name]
