"""What an engine does when room or descriptors run out in the middle of something, and come back."""

from __future__ import annotations

from dataclasses import replace
from errno import EDQUOT, EIO, EMFILE, ENOSPC

import pytest

from kvbus.errors import ReadOnly
from kvbus.sim.disk import MemoryDisk
from kvbus_storage import EngineOptions, LsmEngine
from kvbus_storage.lsm.catalog import Catalog
from kvbus_storage.lsm.manifest import Manifest
from kvbus_storage.lsm.manifest_format import Edit
from tests.unit.lsm_workload import Clock, LateWorker, check_tidy, drain, opened, settle, state_of, used_bytes

OPTIONS = EngineOptions(memory_bytes=1 << 20, compression="none")


def closed_without_a_next_segment() -> tuple[MemoryDisk, Clock, LsmEngine, LateWorker]:
    """Return an engine with a frozen memtable, on a disk that had no room for the segment behind it and has again."""
    for room in range(40, 200):
        disk, clock = MemoryDisk(), Clock()
        engine, worker = opened(disk, OPTIONS, clock)
        disk.capacity_bytes = used_bytes(disk) + room
        try:
            engine.apply([b"a"], [b"1"])
            engine.flush()
        except ReadOnly:
            continue
        if engine.read_only:
            disk.capacity_bytes = None
            clock.now_s += 5
            return disk, clock, engine, worker
    raise AssertionError("there was always room for the next segment, or never for the batch")


def test_an_idle_engine_flushes_when_there_is_room_for_a_segment_again() -> None:
    disk, _, engine, worker = closed_without_a_next_segment()
    engine.compact()
    settle(engine, worker)
    stats = engine.stats()
    assert (stats["read_only"], stats["frozen_memtables"], stats["flushes"], stats["compacting_all"]) == (0, 0, 1, 0)
    check_tidy(disk, engine)


def test_a_crowded_engine_writes_again_when_there_is_room_for_a_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvbus_storage.options._LEAST_WAITING_BYTES", 0)
    keys, records = [b"k%d" % number for number in range(11)], [bytes(100_000)] * 11
    for room in range(1_100_100, 1_100_600, 10):
        disk, clock = MemoryDisk(), Clock()
        engine, worker = opened(disk, OPTIONS, clock)
        disk.capacity_bytes = used_bytes(disk) + room
        try:
            engine.apply(keys, records)
            engine.commit()
        except ReadOnly:
            continue
        break
    assert engine.read_only
    disk.capacity_bytes = None
    clock.now_s += 5
    settle(engine, worker)
    engine.apply([b"x"], [b"1"])
    engine.commit()


def test_an_engine_stops_when_the_end_of_its_manifest_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = MemoryDisk()
    engine, worker = opened(disk, OPTIONS)
    engine.apply([b"a"], [b"1"])
    engine.flush()
    append = Manifest.append

    def written_and_not_synced(self: Manifest, edit: Edit) -> None:
        append(self, edit)
        raise OSError(ENOSPC, "No space left on device")

    def not_cut(self: Manifest, size_bytes: int) -> None:
        raise OSError(EDQUOT, "Disk quota exceeded")

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "append", written_and_not_synced)
        patch.setattr(Manifest, "cut_back", not_cut)
        with pytest.raises(OSError, match="the end of the manifest is unknown") as caught:
            drain(worker)
    assert caught.value.errno == EIO
    with pytest.raises(OSError, match="restart the process"):
        engine.apply([b"b"], [b"2"])
    assert state_of(opened(disk.kill(), OPTIONS)[0]) == {b"a": b"1"}


def test_an_engine_without_descriptors_leaves_no_tables_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, clock = MemoryDisk(), Clock()
    engine, worker = opened(disk, OPTIONS, clock)
    engine.apply([b"a"], [b"1"])
    engine.flush()

    def no_more_files(*_: object) -> None:
        raise OSError(EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "install", no_more_files)
        patch.setattr(Catalog, "remove_leftovers", no_more_files)
        for _ in range(5):
            drain(worker)
            clock.now_s += 2
            engine.flush_due()
        assert sum(name.startswith("table-") for name in disk.list()) == 1
    clock.now_s += 2
    settle(engine, worker)
    assert engine.stats()["flushes"] == 1
    check_tidy(disk, engine)


def test_an_edit_counts_though_there_is_no_room_for_the_guards_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    options = replace(OPTIONS, memory_bytes=1 << 23, level0_runs=2, guard_bytes=1024, table_bytes=1024)
    disk, clock = MemoryDisk(), Clock()
    engine, worker = opened(disk, options, clock)
    install = Catalog.install

    def no_guards(self: Catalog, edit: Edit) -> None:
        if edit.guards is not None:
            raise OSError(ENOSPC, "No space left on device")
        install(self, edit)

    keys = [b"%04d" % number + bytes(700) for number in range(700)]
    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "install", no_guards)
        for number in range(1, 4):
            engine.apply(keys, [b"%d" % number * 50] * len(keys))
            engine.flush()
            drain(worker)
            clock.now_s += 2
            engine.compact_due()
            drain(worker)
            clock.now_s += 2
            assert engine.stats()["flushes"] == number
        assert engine.stats()["level1_bytes"] > 0
    settle(engine, worker)
    check_tidy(disk, engine)
    assert state_of(engine) == dict.fromkeys(keys, b"3" * 50)
