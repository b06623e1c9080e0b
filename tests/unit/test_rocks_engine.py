"""The engine over RocksDB: where it may live, what it does with damage and failing disks, when it syncs."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvbus.errors import ConfigError, CorruptionError
from kvbus.plugins import engine_plugin
from kvbus.ports.disk import Disk
from kvbus.ports.engine import EngineSettings
from kvbus.runtime.os_disk import OsFolder
from kvbus.sim.disk import MemoryDisk
from kvbus_storage.options import EngineOptions
from kvbus_storage.rocks.database import Database
from kvbus_storage.rocks.engine import RocksEngine
from kvbus_storage.rocks.opening import open_rocks
from tests.workers import NO_WORKER

LOWEST, HIGHEST = b"", b"\xff" * 40
PLAIN = EngineOptions(memory_bytes=1 << 20, compression="none")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def disk(tmp_path: Path) -> OsFolder:
    return OsFolder(tmp_path)


def files(disk: OsFolder, suffix: str) -> list[Path]:
    """Return RocksDB's files of one kind, the largest last."""
    found = (Path(disk.root) / "rocks").glob(f"*{suffix}")
    return sorted(found, key=lambda path: path.stat().st_size)


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


def filled(disk: OsFolder) -> RocksEngine:
    """Return an engine with a hundred committed batches of one key each."""
    engine = open_rocks(disk, PLAIN)
    for number in range(100):
        engine.apply([b"k%02d" % number], [b"%02d" % number * 100])
        engine.commit()
    return engine


def open_by_plugin(disk: Disk, engine: str) -> None:
    engine_plugin(engine)(disk, EngineSettings(), worker=NO_WORKER, clock=float).close()


def test_a_disk_that_is_no_folder_is_refused_with_the_mend() -> None:
    with pytest.raises(ConfigError, match=r'set \[storage\] engine = "lsm" or "memory"'):
        open_by_plugin(MemoryDisk(), "rocks")


def test_without_the_extra_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("kvbus_storage.rocks")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rocksdict", None)
    with pytest.raises(ConfigError, match=r'pip install "kvbus\[rocks\]"'):
        engine_plugin("rocks")


@pytest.mark.parametrize(("first", "second"), [("rocks", "lsm"), ("rocks", "memory"), ("lsm", "rocks")])
def test_another_engines_directory_is_refused(disk: OsFolder, first: str, second: str) -> None:
    open_by_plugin(disk, first)
    with pytest.raises(ConfigError, match=f'"{first}"'):
        open_by_plugin(disk, second)
    open_by_plugin(disk, first)


def test_a_commit_log_without_tables_is_refused(disk: OsFolder) -> None:
    engine = engine_plugin("memory")(disk, EngineSettings(), worker=NO_WORKER, clock=float)
    engine.apply([b"k"], [b"1"])
    engine.close()
    with pytest.raises(ConfigError, match='engine = "lsm" or "memory"'):
        open_by_plugin(disk, "rocks")


def test_a_damaged_block_is_never_served_nor_taken_for_the_end(disk: OsFolder) -> None:
    engine = filled(disk)
    engine.close()
    engine = open_rocks(disk, PLAIN)  # It moves what it finds in the log to a table.
    engine.close()
    table = files(disk, ".sst")[-1]
    flip(table, table.stat().st_size // 2)
    engine = open_rocks(disk, PLAIN)
    places: list[tuple[str, bool]] = []
    for number in range(100):
        try:
            assert engine.get(b"k%02d" % number) == b"%02d" % number * 100
        except CorruptionError as error:
            places.append((error.path, error.offset > 0))
    assert 0 < len(places) < 100
    assert set(places) == {(str(table), True)}
    with pytest.raises(CorruptionError):
        list(engine.scan(LOWEST, HIGHEST))
    with pytest.raises(CorruptionError):
        list(engine.snapshot().scan(LOWEST, HIGHEST))
    with pytest.raises(CorruptionError):
        engine.multi_get([b"k%02d" % number for number in range(100)])
    engine.apply([b"new"], [b"1"])
    assert engine.commit() == 101
    engine.close()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_log_that_is_damaged_before_its_end_is_not_cut_there(disk: OsFolder, share: float) -> None:
    filled(disk).close()
    log = files(disk, ".log")[-1]
    flip(log, int(log.stat().st_size * share))
    with pytest.raises(CorruptionError, match="rocks"):
        open_rocks(disk, PLAIN)


def test_a_torn_end_of_the_log_is_dropped(disk: OsFolder) -> None:
    filled(disk).close()
    log = files(disk, ".log")[-1]
    log.write_bytes(log.read_bytes()[:-10])
    engine = open_rocks(disk, PLAIN)
    assert (engine.applied_lsn, engine.get(b"k98"), engine.get(b"k99")) == (99, b"98" * 100, None)
    engine.close()


def test_a_note_that_is_none_of_a_raft_group_is_damage(disk: OsFolder) -> None:
    open_rocks(disk, PLAIN).close()
    database = Database(Path(disk.root) / "rocks", PLAIN)
    database.write({}, {bytes(16): b"short"})
    database.close()
    with pytest.raises(CorruptionError, match="group"):
        open_rocks(disk, PLAIN)


def test_a_failed_write_stops_the_engine_for_good(disk: OsFolder) -> None:
    engine = filled(disk)
    engine.apply([b"k00"], [b"lost"])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            engine.commit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    calls: list[Callable[[], object]] = [
        engine.commit,
        engine.flush_due,
        lambda: engine.get(b"k01"),
        lambda: engine.apply([b"k"], [b"3"]),
        lambda: engine.drop_range(b"a", b"z"),
    ]
    for call in calls:
        with pytest.raises(OSError, match="restart the process"):
            call()
    assert engine.durable_lsn == 100
    engine.close()
    again = open_rocks(disk, PLAIN)
    assert (again.get(b"k00"), again.applied_lsn) == (b"00" * 100, 100)
    again.close()


def test_interval_syncs_when_it_is_due_even_when_idle(disk: OsFolder) -> None:
    clock, durations = Clock(), list[float]()
    options = EngineOptions(sync="interval", interval_ms=500)
    engine = open_rocks(disk, options, clock=clock, on_sync=durations.append)
    engine.apply([b"k"], [b"1"])
    assert (engine.commit(), engine.stats()["synced_lsn"]) == (1, 0)
    clock.now_s += 0.499
    engine.commit()
    assert engine.stats()["synced_lsn"] == 0
    clock.now_s += 0.002
    engine.commit()
    assert (engine.stats()["synced_lsn"], len(durations)) == (1, 1)
    engine.close()


def test_no_sync_promises_what_is_written(disk: OsFolder) -> None:
    engine = open_rocks(disk, EngineOptions(sync="none"))
    engine.apply([b"k"], [b"1"])
    assert (engine.commit(), engine.stats()["synced_lsn"], engine.stats()["syncs"]) == (1, 0, 0)
    engine.close()
    assert engine.stats()["syncs"] == 1


def test_a_close_ends_a_compaction_that_is_under_way(disk: OsFolder) -> None:
    engine = open_rocks(disk, EngineOptions(memory_bytes=1 << 20, compaction_bytes_s=1 << 20, compression="none"))
    for number in range(3):
        engine.apply([b"%d" % key for key in range(1000)], [b"%d" % number * 700] * 1000)
        engine.commit()
    engine.compact()
    engine.compact()
    engine.close()
    again = open_rocks(disk, PLAIN)
    assert again.multi_get([b"0", b"999"]) == [b"2" * 700] * 2
    again.close()
