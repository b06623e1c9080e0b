"""A disk in memory that knows what is synced: it fills up, fails and crashes on demand, and a crash clones it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from errno import EIO, ENOSPC
from itertools import product
from random import Random

_SECTOR_BYTES = 512
_FULL, _FAILED = "No space left on device", "Input/output error"


class PowerCut(BaseException):
    """Raised by an ``on_step`` that ends the process in the middle of an operation."""


class MemoryDisk:
    """A :class:`~kvbus.ports.disk.Disk` in memory.

    ``capacity_bytes``, ``fail_sync`` and ``fail_write`` make it full or failing; ``on_step`` is called after every
    change, which is where a test takes crash images.
    """

    def __init__(self) -> None:
        self.files: dict[str, MemoryFile] = {}
        self.capacity_bytes: int | None = None
        self.fail_sync = False
        self.fail_write = False
        self.syncs = 0
        self.writes = 0
        self.on_step: Callable[[], None] = lambda: None

    def list(self, folder: str = "") -> list[str]:
        """Return the sorted names of the files in ``folder``."""
        prefix = f"{folder}/" if folder else ""
        return sorted(
            path[len(prefix) :] for path in self.files if path.startswith(prefix) and "/" not in path[len(prefix) :]
        )

    def read(self, path: str, offset: int = 0, size: int = -1) -> bytes:
        """Return ``size`` bytes of the file from ``offset`` on; -1 means all of them."""
        if path not in self.files:
            raise FileNotFoundError(path)
        return bytes(self.files[path].data[offset : None if size < 0 else offset + size])

    def create(self, path: str, *, fill_step_bytes: int = 0) -> MemoryFile:
        """Create a file for appending, its directory entry durable."""
        if path in self.files:
            raise FileExistsError(path)
        self._check(self.fail_write)
        self.files[path] = file = MemoryFile(self, fill_step_bytes)
        self.on_step()
        return file

    def replace(self, path: str, data: bytes) -> None:
        """Put ``data`` at ``path`` in one durable step."""
        self._check(self.fail_write or self.fail_sync)
        kept = self.room_for(len(data))
        temporary = self.files.setdefault(path + ".tmp", MemoryFile(self, 0))
        temporary.data[:] = data[:kept]
        self.on_step()
        if kept < len(data):
            raise OSError(ENOSPC, _FULL)
        temporary.synced = len(data)
        self.on_step()
        self.files[path] = self.files.pop(path + ".tmp")
        self.on_step()

    def sync(self, path: str) -> None:
        """Make all that the file holds durable, whoever wrote it."""
        if path not in self.files:
            raise FileNotFoundError(path)
        self.files[path].sync()

    def remove(self, path: str) -> None:
        """Remove the file durably."""
        self._check(self.fail_write or self.fail_sync)
        if self.files.pop(path, None) is None:
            raise FileNotFoundError(path)
        self.on_step()

    def _check(self, fails: bool) -> None:
        if fails:
            raise OSError(EIO, _FAILED)

    def room_for(self, size: int) -> int:
        """Return how many of ``size`` more bytes fit."""
        if self.capacity_bytes is None:
            return size
        used = sum(len(file.data) for file in self.files.values())
        return max(min(size, self.capacity_bytes - used), 0)

    def crash(self, rng: Random) -> MemoryDisk:
        """Return what a power cut may leave: synced bytes stand, of the rest anything."""
        return self._clone({path: file.crash(rng) for path, file in self.files.items()})

    def images(self) -> Iterator[MemoryDisk]:
        """Yield what a power cut may leave, file by file as :meth:`MemoryFile.remains`, in every mixture."""
        remains = [[(path, left) for left in file.remains()] for path, file in self.files.items()]
        for mixture in product(*remains):
            yield self._clone(dict(mixture))

    def kill(self) -> MemoryDisk:
        """Return what the end of the process leaves: every write stands, but what was not synced is not yet safe."""
        image = self._clone({path: bytes(file.data) for path, file in self.files.items()})
        for path, file in self.files.items():
            image.files[path].synced = file.synced
        image.capacity_bytes = self.capacity_bytes
        return image

    def _clone(self, contents: Mapping[str, bytes]) -> MemoryDisk:
        image = MemoryDisk()
        for path, content in contents.items():
            image.files[path] = copy = MemoryFile(image, 0)
            copy.data[:] = content
            copy.synced = len(content)
        return image


class MemoryFile:
    """A :class:`~kvbus.ports.disk.AppendFile` of a :class:`MemoryDisk`; bytes behind ``synced`` may not survive."""

    def __init__(self, disk: MemoryDisk, fill_step_bytes: int) -> None:
        self._disk = disk
        self._fill_step_bytes = fill_step_bytes
        self.data = bytearray()
        self.synced = 0

    @property
    def offset(self) -> int:
        """Bytes written so far."""
        return len(self.data)

    def append(self, data: bytes) -> None:
        """Write all of ``data`` at the end, or as much as fits."""
        if self._disk.fail_write:
            raise OSError(EIO, _FAILED)
        kept = self._disk.room_for(len(data))
        self.data += data[:kept]
        self._disk.writes += 1
        self._disk.on_step()
        if kept < len(data):
            raise OSError(ENOSPC, _FULL)

    def sync(self) -> None:
        """Make all appended bytes durable."""
        if self._disk.fail_sync:
            raise OSError(EIO, _FAILED)
        self.synced = len(self.data)
        self._disk.syncs += 1
        self._disk.on_step()

    def cut_back(self, offset: int) -> None:
        """Drop what lies behind ``offset``, durably."""
        if self._disk.fail_sync:
            raise OSError(EIO, _FAILED)
        del self.data[offset:]
        self.synced = offset
        self._disk.on_step()

    def close(self) -> None:
        """Release the file without syncing."""

    def crash(self, rng: Random) -> bytes:
        """Return one of the contents that a power cut may leave."""
        synced, unsynced = bytes(self.data[: self.synced]), bytes(self.data[self.synced :])
        outcome = rng.choice(("dropped", "kept", "torn", "zeroed", "sectors"))
        if outcome == "dropped":
            unsynced = b""
        elif outcome == "torn":
            unsynced = unsynced[: rng.randint(0, len(unsynced))]
        elif outcome == "zeroed":
            unsynced = bytes(len(unsynced))
        elif outcome == "sectors":
            unsynced = self._some_sectors(rng, unsynced)
        fill = bytes(rng.choice((0, self._fill_step_bytes and rng.randint(0, 5000))))
        return synced + unsynced + fill

    def remains(self) -> Iterator[bytes]:
        """Yield the contents that a power cut may leave: torn at every byte, zeroed, or with one sector missing."""
        synced, unsynced = bytes(self.data[: self.synced]), bytes(self.data[self.synced :])
        found = dict.fromkeys(unsynced[:length] for length in range(len(unsynced) + 1))
        found[bytes(len(unsynced))] = None
        for start in range(0, len(unsynced), _SECTOR_BYTES):
            lost = unsynced[start : start + _SECTOR_BYTES]
            found[unsynced[:start] + bytes(len(lost)) + unsynced[start + len(lost) :]] = None
        for left in found:
            yield synced + left

    def _some_sectors(self, rng: Random, unsynced: bytes) -> bytes:
        kept = bytearray(unsynced)
        for start in range(self.synced // _SECTOR_BYTES * _SECTOR_BYTES, len(self.data), _SECTOR_BYTES):
            if rng.random() < 0.5:
                begin, end = max(start - self.synced, 0), min(start + _SECTOR_BYTES - self.synced, len(kept))
                kept[begin:end] = bytes(end - begin)
        return bytes(kept)
