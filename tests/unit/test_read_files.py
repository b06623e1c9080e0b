"""More files are read than may be open: some are closed, opened again when they are read, and stay while they are."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from errno import EMFILE, ENFILE
from pathlib import Path
from socket import socket

import pytest

from kvbus.runtime.os_disk import OsDisk
from kvbus.runtime.read_files import ReadFiles
from kvbus.runtime.separate_files import SeparateFiles
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
    """Let the process open so many files, not one more."""
    count = 40
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = set(map(int, os.listdir("/proc/self/fd")))
    allowed = next(limit for limit in range(hard) if limit - len([each for each in taken if each < limit]) == count)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    yield count
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_where_no_more_files_may_be_open_they_are_read_all_the_same(tmp_path: Path, few_files: int) -> None:
    files = ReadFiles(1000)
    paths = files_in(tmp_path, few_files + 10)
    opened = [files.open(path) for path in paths]
    assert len(files) >= few_files
    assert [file.read(0, 1) for file in opened] == [path.name[:1].encode() for path in paths]


@pytest.mark.parametrize("error", [EMFILE, ENFILE])
def test_where_no_thread_of_its_own_helps_other_files_make_room(
    tmp_path: Path, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ReadFiles(5)
    opened = [files.open(path) for path in files_in(tmp_path, 6)]
    real, refused = os.open, 0

    def few(path: Path, flags: int) -> int:
        nonlocal refused
        if len(files) > 3:
            refused += 1
            raise OSError(error, os.strerror(error))
        return real(path, flags)

    monkeypatch.setattr(os, "open", few)
    assert [file.read(0, 1) for file in opened] == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert refused > 3


def test_where_sockets_have_all_places_files_are_opened_and_read(tmp_path: Path, few_files: int) -> None:
    files = ReadFiles(2)
    (path,) = files_in(tmp_path, 1)
    sockets: list[socket] = []
    with suppress(OSError):
        while True:
            sockets.append(socket())
    assert len(sockets) >= few_files
    with pytest.raises(OSError, match="Too many open files"):
        path.read_bytes()
    file = files.open(path)
    assert (file.size, file.read(1, 9)) == (3, b"00")
    assert len(files) == 0
    for each in sockets:
        each.close()
    assert file.read(0, 1) == b"0"
    assert len(files) == 1


def test_an_engine_of_more_tables_than_files_reads_writes_and_starts(tmp_path: Path, few_files: int) -> None:
    for first in (0, 1):
        disk, worker = OsDisk(tmp_path / "data"), HandWorker()
        disk._files = ReadFiles(8)
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


def test_a_closed_file_is_read_no_more(tmp_path: Path) -> None:
    files = ReadFiles(2)
    (path,) = files_in(tmp_path, 1)
    file = files.open(path)
    file.close()
    with pytest.raises(OSError, match="closed"):
        file.read(0, 1)


def test_a_file_in_a_garbage_cycle_does_not_close_the_one_that_has_its_number_now(tmp_path: Path) -> None:
    files = ReadFiles(1)
    first, second = files_in(tmp_path, 2)
    cycle: list[object] = [files.open(first)]
    cycle.append(cycle)
    # The only place goes to the second file, whose descriptor has the number of the first one.
    reader = files.open(second)
    del cycle
    gc.collect()
    assert reader.read(0, 1) == b"1"
    assert len(files) == 1


def test_a_view_of_a_table_reads_it_after_a_range_of_it_was_dropped_and_it_was_merged(tmp_path: Path) -> None:
    disk, worker = OsDisk(tmp_path / "data"), HandWorker()
    disk._files = ReadFiles(1)
    engine = open_lsm(disk, SMALL, worker)
    engine.apply(KEYS, KEYS)
    engine.flush()
    while worker.work():
        pass
    snapshot = engine.snapshot()
    engine.drop_range(KEYS[10], KEYS[20])
    for _ in range(5):
        engine.apply(KEYS[:5], [b"new"] * 5)
        engine.flush()
        engine.compact()
        while worker.work() or engine.compact_due():
            pass
    assert dict(snapshot.scan(b"", b"9")) == {key: key for key in KEYS}
    engine.close()
    disk.close()


def test_separate_files_share_no_descriptor_with_the_process(tmp_path: Path) -> None:
    separate = SeparateFiles()
    with (tmp_path / "file").open("wb") as file:
        with pytest.raises(OSError, match="Bad file descriptor"):
            separate.do(os.fstat, file.fileno())
        assert separate.do(os.fstat, 2).st_ino == os.fstat(2).st_ino
