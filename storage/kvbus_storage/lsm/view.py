"""What the engine holds at one time, to be read later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvbus.core.types import Lsn
from kvbus_storage.lsm.levels import Levels, Probes
from kvbus_storage.lsm.merge import Chunk, merge
from kvbus_storage.memtable import Memtable
from kvbus_storage.removed import REMOVED


class View:
    """A :class:`~kvbus.ports.engine.Snapshot` over memtables that change no more, newest first, and levels.

    ``probes`` counts what its reads took.
    """

    def __init__(self, lsn: Lsn, memtables: Sequence[Memtable], levels: Levels, probes: Probes) -> None:
        self.lsn = lsn
        self._memtables = tuple(memtables)
        self._levels = levels
        self._probes = probes

    def get(self, key: bytes) -> bytes | None:
        """Return the record at ``key``, or None."""
        record = next((found for table in self._memtables if (found := table.get(key)) is not None), None)
        if record is None:
            record = self._levels.find(key, self._probes)
        return None if record is REMOVED else record

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield ``(key, record)`` with ``start <= key < end`` in key order."""
        return scan_all(self._memtables, self._levels, start, end)

    def close(self) -> None:
        """Let go of what it holds on to."""
        self._memtables, self._levels = (), Levels()


def scan_all(memtables: Sequence[Memtable], levels: Levels, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield what memtables, the newest first, and levels hold between two keys, as of the call."""
    ranges = [table.range(start, end) for table in memtables]
    return _pairs([*(iter([found]) for found in ranges if found[0]), *levels.scan(start, end)])


def _pairs(runs: list[Iterator[Chunk]]) -> Iterator[tuple[bytes, bytes]]:
    for keys, records in merge(runs):
        for pair in zip(keys, records, strict=True):
            if pair[1] is not REMOVED:
                yield pair
