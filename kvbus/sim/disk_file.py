"""One file of a disk in memory, and what a power cut may leave of it."""

from __future__ import annotations

from collections.abc import Iterator
from errno import ENOSPC
from random import Random
from typing import Protocol

_SECTOR_BYTES = 512


class Platter(Protocol):
    """The disk that a file lies on."""

    fail_sync: bool
    fail_write: bool
    syncs: int
    writes: int

    def on_step(self) -> None:
        """Be told of a change."""
        ...

    def check(self, fails: bool) -> None:
        """Fail as a broken disk does, if ``fails``."""
        ...

    def room_for(self, size: int) -> int:
        """Return how many of ``size`` more bytes fit."""
        ...


class MemoryFile:
    """A :class:`~kvbus.ports.disk.AppendFile` in memory; bytes behind ``synced`` may not survive a power cut."""

    def __init__(self, disk: Platter, fill_step_bytes: int) -> None:
        self._disk = disk
        self._fill_step_bytes = fill_step_bytes
        self.data = bytearray()
        # What zeros that are not synced have replaced, and how many there were when the file was taken into use again.
        self._overwritten = b""
        self._blank_bytes = 0
        self.synced = 0

    @property
    def offset(self) -> int:
        """Bytes written so far."""
        return len(self.data)

    def append(self, data: bytes) -> None:
        """Write all of ``data`` at the end, or as much as fits."""
        self._disk.check(self._disk.fail_write)
        kept = self._disk.room_for(len(data))
        self.data += data[:kept]
        self._disk.writes += 1
        self._disk.on_step()
        if kept < len(data):
            raise OSError(ENOSPC, "No space left on device")

    def sync(self) -> None:
        """Make all appended bytes durable."""
        self._disk.check(self._disk.fail_sync)
        self.synced = len(self.data)
        self._disk.syncs += 1
        self._disk.on_step()

    def cut_back(self, offset: int) -> None:
        """Drop what lies behind ``offset``, durably."""
        self._disk.check(self._disk.fail_sync)
        del self.data[offset:]
        self.synced = offset
        self._disk.on_step()

    def blank(self, size_bytes: int) -> None:
        """Overwrite it with zeros, durably: a crash before the sync finds some of its sectors as they were."""
        del self.data[size_bytes:]
        self._disk.check(self._disk.fail_write or self._disk.fail_sync)
        self._overwritten = bytes(self.data)
        self.data[:] = bytes(len(self.data))
        self.synced = 0
        self._disk.on_step()
        self._overwritten = b""
        self.sync()

    def begin(self, fill_step_bytes: int) -> None:
        """Append from the first byte on; the zeros that it holds are fill."""
        self._fill_step_bytes = fill_step_bytes
        self._blank_bytes = len(self.data)
        self.data.clear()
        self.synced = 0

    def close(self, *, keeps_fill: bool = False) -> None:
        """Release the file without syncing."""

    def copy_to(self, disk: Platter) -> MemoryFile:
        """Return the same file on another disk."""
        copy = MemoryFile(disk, self._fill_step_bytes)
        copy.data[:] = self.data
        copy.synced = self.synced
        return copy

    def crash(self, rng: Random) -> bytes:
        """Return one of the contents that a power cut may leave."""
        if self._overwritten:
            return self._half_blank(rng)
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
        fill = rng.choice((0, self._fill_step_bytes and rng.randint(0, 5000)))
        return synced + unsynced + bytes(max(fill, self._blank_bytes - len(synced) - len(unsynced)))

    def remains(self) -> Iterator[bytes]:
        """Yield the contents that a power cut may leave: torn at every byte, zeroed, or with one sector missing."""
        if self._overwritten:
            yield self._overwritten
        synced, unsynced = bytes(self.data[: self.synced]), bytes(self.data[self.synced :])
        found = dict.fromkeys(unsynced[:length] for length in range(len(unsynced) + 1))
        found[bytes(len(unsynced))] = None
        for start in range(0, len(unsynced), _SECTOR_BYTES):
            lost = unsynced[start : start + _SECTOR_BYTES]
            found[unsynced[:start] + bytes(len(lost)) + unsynced[start + len(lost) :]] = None
        for left in found:
            yield synced + left

    def _half_blank(self, rng: Random) -> bytes:
        kept = bytearray(self._overwritten)
        for start in range(0, len(kept), _SECTOR_BYTES):
            if rng.random() < 0.5:
                kept[start : start + _SECTOR_BYTES] = bytes(len(kept[start : start + _SECTOR_BYTES]))
        return bytes(kept)

    def _some_sectors(self, rng: Random, unsynced: bytes) -> bytes:
        kept = bytearray(unsynced)
        for start in range(self.synced // _SECTOR_BYTES * _SECTOR_BYTES, len(self.data), _SECTOR_BYTES):
            if rng.random() < 0.5:
                begin, end = max(start - self.synced, 0), min(start + _SECTOR_BYTES - self.synced, len(kept))
                kept[begin:end] = bytes(end - begin)
        return bytes(kept)


class MemoryReadFile:
    """A :class:`~kvbus.ports.disk.ReadFile` over a file in memory."""

    def __init__(self, file: MemoryFile) -> None:
        self._file = file
        self.size = len(file.data)

    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on, fewer at the file's end."""
        return bytes(self._file.data[offset : offset + size])

    def close(self) -> None:
        """Release the file."""
