"""A small data directory made by the engine, as bytes that tests damage one by one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from kvbus.sim.disk import MemoryDisk
from kvbus_storage import EngineOptions, LsmEngine, open_lsm
from kvbus_storage.tools.verification import verify
from tests.workers import HandWorker

SMALL = EngineOptions(block_bytes=64, table_bytes=1024, guard_bytes=1024, level0_runs=2, level1_bytes=1024)
LOWEST, HIGHEST = b"", b"\xff" * 40


class BytesFile:
    """A :class:`~kvbus.ports.disk.ReadFile` over bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]

    def close(self) -> None:
        pass


class Files:
    """A :class:`~kvbus.ports.disk.Folder` of files by name, which nobody can write to."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = dict(contents)

    def list(self, folder: str = "") -> list[str]:
        return sorted(self.contents)

    def read(self, path: str, offset: int = 0, size: int = -1) -> bytes:
        return self._found(path)[offset : None if size < 0 else offset + size]

    def open(self, path: str) -> BytesFile:
        return BytesFile(self._found(path))

    def _found(self, path: str) -> bytes:
        if path not in self.contents:
            raise FileNotFoundError(path)
        return self.contents[path]

    def with_file(self, name: str, data: bytes) -> Files:
        """Return the same files with another content of one."""
        return Files({**self.contents, name: data})

    def without(self, name: str) -> Files:
        """Return the same files but one."""
        return Files({each: data for each, data in self.contents.items() if each != name})

    def flipped(self, name: str, offset: int) -> Files:
        """Return the same files with all bits of one byte turned."""
        data = bytearray(self.contents[name])
        data[offset] ^= 0xFF
        return self.with_file(name, bytes(data))

    def only(self, start: str) -> str:
        """Return the name of the one file whose name begins so."""
        (name,) = (each for each in self.contents if each.startswith(start))
        return name

    def states(self) -> dict[str, str]:
        """Verify the files; return what became of each."""
        return {report.name: report.state for report in verify(self)}

    def damage(self) -> dict[str, Sequence[tuple[int | None, str]]]:
        """Verify the files; return what is wrong with those that are damaged."""
        return {
            report.name: [(each.offset, each.what) for each in report.damage]
            for report in verify(self)
            if report.state == "damaged"
        }

    def disk(self) -> MemoryDisk:
        """Return a disk that holds the files."""
        disk = MemoryDisk()
        for name, data in self.contents.items():
            disk.create(name).append(data)
        return disk

    def reopened(self) -> Sequence[tuple[bytes, bytes]]:
        """Start an engine on the files; return all that it has."""
        engine = open_lsm(self.disk(), SMALL, HandWorker())
        found = list(engine.scan(LOWEST, HIGHEST))
        engine.close()
        return found


@cache
def stored_files(*, sealed: bool = True) -> Files:
    """Return a directory with a manifest of several edits, tables in two levels and a log of six records."""
    disk = MemoryDisk()
    engine = filled_engine(disk, HandWorker())
    if sealed:
        engine.close()
    return files_of(disk)


@cache
def flushed_files() -> Files:
    """Return a directory whose only segment has no records: everything is in tables."""
    disk, worker = MemoryDisk(), HandWorker()
    engine = filled_engine(disk, worker)
    engine.flush()
    work(worker)
    return files_of(disk)


def filled_engine(disk: MemoryDisk, worker: HandWorker) -> LsmEngine:
    """Return an engine with tables in levels 0 and 1, removed keys in them, and records of each kind in its log."""
    engine = open_lsm(disk, SMALL, worker)
    for begin in (0, 10, 20):
        put(engine, begin, 20)
        engine.purge([engine_key(begin + 5)])
        engine.flush()
        work(worker)
    engine.drop_range(engine_key(3), engine_key(5))
    engine.purge([engine_key(7)])
    put(engine, 8, 3)
    raft = engine.raft_log
    raft.append(1, 1, [1, 1], [b"one", b"two"])
    raft.apply(1, 2, [engine_key(9)], [b"applied"])
    engine.commit()
    return engine


def put(engine: LsmEngine, begin: int, count: int) -> None:
    """Store records at ``count`` keys from ``begin`` on."""
    numbers = range(begin, begin + count)
    engine.apply([engine_key(number) for number in numbers], [b"value %d" % number for number in numbers])
    engine.commit()


def engine_key(number: int) -> bytes:
    """Return a key of keyspace 1, partition 2."""
    return b"\0\0\0\1\0\2key %03d" % number


def work(worker: HandWorker) -> None:
    """Let the worker do all that it has."""
    while worker.work():
        pass


def files_of(disk: MemoryDisk) -> Files:
    """Return what a disk holds."""
    return Files({name: disk.read(name) for name in disk.list()})


def overlooked(files: Files, name: str) -> range:
    """Return the bytes of a file, which lie together, that can be flipped without a verification calling it damage."""
    offsets = [offset for offset in range(len(files.contents[name])) if not files.flipped(name, offset).damage()]
    found = range(offsets[0], offsets[-1] + 1) if offsets else range(0)
    assert offsets == list(found)
    return found
