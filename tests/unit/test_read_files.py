"""More files are read than may be open: some are closed, opened again when they are read, and stay while they are."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from kvbus.runtime.os_disk import OsDisk
from kvbus.runtime.read_files import ReadFiles
from kvbus_storage import EngineOptions, open_lsm
from tests.workers import HandWorker

SMALL = EngineOptions(memory_bytes=1 << 20, table_bytes=1024, compression="none")
KEYS = [b"%04d" % number for number in range(1500)]


def files_in(folder: Path, count: int) -> list[Path]:
    paths = [folder / str(number) for number in range(count)]
    for path in paths:
        path.write_bytes(path.name.encode() * 3)
    return paths


def test_the_file_that_was_opened_first_is_closed_for_the_next_one(tmp_path: Path) -> None:
    files = ReadFiles(2)
    opened = [files.open(path) for path in files_in(tmp_path, 5)]
    for _ in range(2):
        assert [file.read(1, 1) for file in opened] == [b"0", b"1", b"2", b"3", b"4"]
        assert len(files) == 2
    for file in opened:
        file.close()
        file.close()
    assert len(files) == 0


def test_a_file_that_nobody_holds_is_closed(tmp_path: Path) -> None:
    files = ReadFiles(8)
    opened = [files.open(path) for path in files_in(tmp_path, 3)]
    before = len(os.listdir("/proc/self/fd"))
    del opened[1]
    assert len(files) == 2
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_what_is_no_file_is_refused_and_nothing_stays_open(tmp_path: Path) -> None:
    files = ReadFiles(8)
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ""):
        with pytest.raises(OSError, match="Not a regular file"):
            files.open(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        files.open(tmp_path / "nothing")
    assert len(files) == 0


@pytest.fixture
def few_files() -> Iterator[int]:
    """Let the process have 40 more files open than now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = set(map(int, os.listdir("/proc/self/fd")))
    allowed = next(limit for limit in range(hard) if limit - len([each for each in taken if each < limit]) == 40)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    yield allowed
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_files_that_are_read_make_room_for_whatever_else_is_opened(tmp_path: Path, few_files: int) -> None:
    files = ReadFiles(1000)
    paths = files_in(tmp_path, few_files + 10)
    opened = [files.open(path) for path in paths]
    assert [file.read(0, 1) for file in opened] == [path.name[:1].encode() for path in paths]
    others: list[int] = []
    try:
        for path in paths[:30]:
            others.append(files.making_room(partial(os.open, path, os.O_RDONLY)))
    finally:
        for descriptor in others:
            os.close(descriptor)
    assert opened[0].read(0, 1) == b"0"


def test_an_engine_of_more_tables_than_files_reads_writes_and_starts(tmp_path: Path, few_files: int) -> None:
    for first in (0, 1):
        disk, worker = OsDisk(tmp_path / "data"), HandWorker()
        engine = open_lsm(disk, SMALL, worker)
        for begin in range(0, len(KEYS), 10):
            some = KEYS[begin : begin + 10]
            engine.apply(some, [key * 20 for key in some])
            engine.flush()
            while worker.work() or engine.compact_due():
                pass
        assert engine.stats()["tables"] > few_files
        assert engine.stats()["maintenance_failures"] == 0
        snapshot = engine.snapshot()
        engine.apply(KEYS, [b"%d" % first] * len(KEYS))
        engine.flush()
        engine.compact()
        while worker.work() or engine.compact_due():
            pass
        assert dict(snapshot.scan(b"", b"9")) == {key: key * 20 for key in KEYS}
        del snapshot
        while engine.compact_due() or worker.work():
            pass
        engine.close()
        on_disk = [name for name in disk.list() if name.startswith("table-")]
        assert len(on_disk) == engine.stats()["tables"]
        disk.close()
    disk = OsDisk(tmp_path / "data")
    engine = open_lsm(disk, SMALL, HandWorker())
    assert engine.multi_get(KEYS) == [b"1"] * len(KEYS)
    engine.close()
    disk.close()
