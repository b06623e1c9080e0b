"""The data in memory: a dict for point reads and a lazily sorted list of its keys for scans."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from kvbus_storage.removed import REMOVED

_FOLD_RATIO = 8
_ENTRY_BYTES = 144
"""What Python adds to a key and its record: two heads of bytes objects and a place in the dict."""


@dataclass(slots=True)
class Undo:
    """Takes a batch back: ``previous[i]`` stood at ``keys[i]`` of ``table``, None where nothing did."""

    table: Memtable
    keys: Sequence[bytes]
    previous: Sequence[bytes | None]

    def __call__(self) -> None:
        """Restore what the batch replaced; newer ones were taken back before."""
        self.table.take_back(self)


class Memtable:
    """An ordered map from keys to records that is cheap to write.

    A dict keeps insertion order, so the keys that the sorted lists do not know yet are its last ones. They wait in a
    short sorted list beside the long one, which takes them in once they are an eighth of it: a scan sorts what it
    returns (two runs: a merge) and what is new, never everything.

    ``get`` returns what stands at a key: a record, REMOVED, or None.
    """

    __slots__ = ("_data_bytes", "_recent", "_records", "_settled", "get", "has_removals")

    get: Callable[[bytes], bytes | None]

    def __init__(self, records: dict[bytes, bytes] | None = None) -> None:
        self._records: dict[bytes, bytes] = {} if records is None else records
        self.get = self._records.get
        # Whether REMOVED may stand at a key.
        self.has_removals = REMOVED in self._records.values()
        self._settled: list[bytes] = []
        self._recent: list[bytes] = []
        self._data_bytes = sum(map(len, self._records)) + sum(map(len, self._records.values()))

    def __len__(self) -> int:
        return len(self._records)

    @property
    def data_bytes(self) -> int:
        """Bytes of all keys and records."""
        return self._data_bytes

    @property
    def memory_bytes(self) -> int:
        """Memory that the table takes, about."""
        return self._data_bytes + _ENTRY_BYTES * len(self._records)

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return what stands at ``keys``, in order: a record, REMOVED, or None."""
        return list(map(self._records.get, keys))

    def look_up(self, keys: Sequence[bytes], below: Iterable[bytes | None]) -> Iterator[bytes | None]:
        """Yield what stands at ``keys``, in order, or else what ``below`` yields there."""
        return map(self._records.get, keys, below)

    def knows_none_of(self, keys: Iterable[bytes]) -> bool:
        """Say whether nothing stands at any of ``keys``."""
        return self._records.keys().isdisjoint(keys)

    def add(self, key: bytes, record: bytes) -> bool:
        """Store ``record`` at ``key``, unless something stands there; say whether it did."""
        if key in self._records:
            return False
        self._records[key] = record
        self._data_bytes += len(key) + len(record)
        return True

    def put(
        self, keys: Sequence[bytes], records: Sequence[bytes], previous: Sequence[bytes | None] | None = None
    ) -> Undo:
        """Store ``records[i]`` at ``keys[i]``; of a key that comes twice the last one wins.

        ``previous`` is what :meth:`multi_get` gives for ``keys`` now, if the caller knows it.

        Raises:
            ValueError: the two differ in length; nothing was stored.
        """
        if len(keys) != len(records):
            raise ValueError(f"{len(keys)} keys, {len(records)} records")
        if previous is None:
            previous = self.multi_get(keys)
        known = len(self._records)
        self._records.update(zip(keys, records, strict=True))
        grown = len(self._records) - known
        if grown < len(keys) and len(set(keys)) < len(keys):
            last = dict(zip(keys, records, strict=True))
            first = dict(zip(keys, previous, strict=True))
            keys, records, previous = list(last), list(last.values()), list(first.values())
        self._data_bytes += sum(map(len, records))
        if grown == len(keys):
            self._data_bytes += sum(map(len, keys))
        else:
            self._data_bytes -= sum(map(len, filter(None, previous)))
            if grown:
                self._data_bytes += sum([len(key) for key, old in zip(keys, previous, strict=True) if old is None])
        return Undo(self, keys, previous)

    def delete(self, keys: Sequence[bytes]) -> Undo:
        """Remove ``keys``, of which there is nothing below this table."""
        previous = {key: self._records.pop(key) for key in dict.fromkeys(keys) if key in self._records}
        self._data_bytes -= sum(map(len, previous)) + sum(map(len, previous.values()))
        self._settled, self._recent = [], []
        return Undo(self, list(previous), list(previous.values()))

    def remove(self, keys: Sequence[bytes]) -> Undo:
        """Let REMOVED stand at ``keys``, whatever lies below this table."""
        self.has_removals = True
        return self.put(keys, [REMOVED] * len(keys))

    def copy(self) -> Memtable:
        """Return a table with the same entries."""
        return Memtable(dict(self._records))

    def without(self, start: bytes, end: bytes) -> Memtable:
        """Return a copy without the keys from ``start`` up to ``end``."""
        return Memtable({key: record for key, record in self._records.items() if not start <= key < end})

    def take_back(self, undo: Undo) -> None:
        """Restore what the newest batch replaced."""
        for key, old in zip(undo.keys, undo.previous, strict=True):
            record = self._records.pop(key, None)
            if record is not None:
                self._data_bytes -= len(key) + len(record)
            if old is not None:
                self._records[key] = old
                self._data_bytes += len(key) + len(old)
        # Keys came, went or changed places, so the lists no longer say how many of the dict's last keys are new.
        self._settled, self._recent = [], []

    def take_out(self, most: int) -> dict[bytes, bytes]:
        """Take up to ``most`` entries out of a table that nobody reads any more, and return them.

        To free all of a full one at once takes milliseconds.
        """
        del self._settled[-most:], self._recent[-most:]
        take = self._records.popitem
        taken = dict([take() for _ in range(min(most, len(self._records)))])
        self._data_bytes -= sum(map(len, taken)) + sum(map(len, taken.values()))
        return taken

    def forget(self, keys: deque[bytes], most: int, down_to_bytes: int) -> None:
        """Take up to ``most`` keys out of the queue, and what stands there out of the table, until it takes less."""
        records, before, gone = self._records, len(self._records), 0
        over = self.memory_bytes - down_to_bytes
        while gone < over and most > 0 and keys:
            most -= 1
            key = keys.popleft()
            record = records.pop(key, None)
            if record is not None:
                gone += len(key) + len(record) + _ENTRY_BYTES
        self._data_bytes -= gone - _ENTRY_BYTES * (before - len(records))
        self._settled, self._recent = [], []

    def keys(self) -> Iterable[bytes]:
        """Return the keys, those that came first in front."""
        return self._records.keys()

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield every key and what stands at it in no particular order; the table must not change meanwhile."""
        return iter(self._records.items())

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield ``(key, record)`` with ``start <= key < end`` in key order, as of the call; no REMOVED."""
        keys, records = self.range(start, end)
        found = zip(keys, records, strict=True)
        return (pair for pair in found if pair[1] is not REMOVED) if self.has_removals else found

    def range(self, start: bytes, end: bytes) -> tuple[list[bytes], list[bytes]]:
        """Return the keys with ``start <= key < end`` in order, and what stands at them."""
        self._sort_new_keys()
        keys = _between(self._settled, start, end)
        recent = _between(self._recent, start, end)
        if recent:
            keys += recent
            keys.sort()
        return keys, list(map(self._records.__getitem__, keys))

    def _sort_new_keys(self) -> None:
        new = len(self._records) - len(self._settled) - len(self._recent)
        if new:
            self._recent += islice(reversed(self._records), new)
            self._recent.sort()
        if len(self._recent) * _FOLD_RATIO > len(self._settled):
            self._settled += self._recent
            self._settled.sort()
            self._recent = []


def _between(keys: list[bytes], start: bytes, end: bytes) -> list[bytes]:
    return keys[bisect_left(keys, start) : bisect_left(keys, end)]
