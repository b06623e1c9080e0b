"""Records that were written or read of late, in front of memtables and tables, so that one look finds them.

There are two generations of them. What comes goes into the young one, and so does what a read finds in the old one.
When the young one takes half of the room, the old one goes, and the young one is the old one from then on. So nothing
is searched to make room for one record, what is read again and again stays, and the two together, with what is still
freed of the last one that went, take no more than the room and what came with one batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from kvbus_storage.memtable import Memtable
from kvbus_storage.removed import REMOVED

_LEAST_ROOM_BYTES = 64 << 10
"""In less there is nothing."""


class RecentRecords:
    """What reads of some keys show. Every write must go through it, so that it never shows what was replaced.

    ``get`` gives the record at a key that is in the young generation, else None. Those that go are put into
    ``leaving``, to be freed bit by bit.
    """

    __slots__ = ("_half_bytes", "_leaving", "_old", "_young", "get")

    get: Callable[[bytes], bytes | None]

    def __init__(self, leaving: deque[Memtable]) -> None:
        self._leaving = leaving
        self._half_bytes = 0
        self._old = self._young = Memtable()
        self._turn()

    @property
    def memory_bytes(self) -> int:
        """Memory that both generations take, about."""
        return self._young.memory_bytes + self._old.memory_bytes

    def resize(self, room_bytes: int) -> None:
        """Let the records take ``room_bytes``."""
        self._half_bytes = room_bytes // 2 if room_bytes >= _LEAST_ROOM_BYTES else 0
        while self.memory_bytes > 2 * self._half_bytes:
            self._turn()

    def put(self, keys: Sequence[bytes], records: Sequence[bytes]) -> None:
        """Note that ``records[i]`` was written at ``keys[i]``; of a key that comes twice the last one wins."""
        if self._half_bytes:
            self._young.put(keys, records)
            self._make_room()

    def look_up_old(self, keys: Sequence[bytes], below: Iterable[bytes | None]) -> list[bytes | None]:
        """Return what the old generation has at ``keys``, in order, or else what ``below`` yields there."""
        return list(self._old.look_up(keys, below))

    def keep(self, keys: Sequence[bytes], found: Sequence[bytes | None]) -> int:
        """Note what a read found at ``keys``, which were not in the young generation; return the bytes it takes.

        Of a read that finds more than there is room for, the rest is not kept.
        """
        young, most = self._young, self._half_bytes
        if not most:
            return 0
        before = young.memory_bytes
        for key, record in zip(keys, found, strict=True):
            if record is not None and record is not REMOVED:
                young.add(key, record)
                if young.memory_bytes > most:
                    break
        grown = young.memory_bytes - before
        self._make_room()
        return grown

    def delete(self, keys: Sequence[bytes]) -> None:
        """Forget ``keys``."""
        self._young.delete(keys)
        self._old.delete(keys)

    def clear(self) -> None:
        """Forget everything."""
        self._turn()
        self._turn()

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield every key and its record; of a key that comes twice the last record counts."""
        return chain(self._old.items(), self._young.items())

    def _make_room(self) -> None:
        if self._young.memory_bytes > self._half_bytes:
            self._turn()
            if self._old.memory_bytes > 2 * self._half_bytes:
                # One batch was more than all that there is room for.
                self._turn()

    def _turn(self) -> None:
        if self._old:
            self._leaving.append(self._old)
        self._old, self._young = self._young, Memtable()
        self.get = self._young.get
