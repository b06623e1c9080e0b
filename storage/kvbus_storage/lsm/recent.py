"""Records that were written or read of late and are in no memtable, in front of the tables.

Those whose keys came first go first. A queue of the keys says which: a dict whose first entries went is slow to name
the next one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

from kvbus_storage.memtable import Memtable

_SPARE_SHARE = 64
_AT_ONCE, _FOR_EACH = 1024, 4
"""How many records go in one call at most: so many, or so many for each that came."""


class RecentRecords:
    """What reads of some keys show that no memtable knows: a key that is written is to be forgotten here.

    ``get`` gives the record at a key, or None. There is room for ``room_bytes``; what is over that goes a bit at a
    time. Where records came that are much larger than those that went, and it is over ``most_bytes``, all of it goes
    to ``leaving``, to be freed bit by bit.
    """

    __slots__ = ("_leaving", "_most_bytes", "_order", "_table", "get", "room_bytes")

    get: Callable[[bytes], bytes | None]

    def __init__(self, leaving: deque[Memtable], most_bytes: int) -> None:
        self._leaving = leaving
        self._most_bytes = most_bytes
        self.room_bytes = most_bytes
        # Keys that came, the first one first; some may be gone again.
        self._order: deque[bytes] = deque()
        self._table = Memtable()
        self.get = self._table.get

    @property
    def memory_bytes(self) -> int:
        """Memory that the records take, about."""
        return self._table.memory_bytes

    def keep(self, found: Mapping[bytes, bytes]) -> int:
        """Note what stands at keys that no memtable knows; return the bytes it takes.

        Of more than there is room for, the rest is not kept.
        """
        table, order, room_bytes = self._table, self._order, self.room_bytes
        before = table.memory_bytes
        for key, record in found.items():
            if table.add(key, record):
                order.append(key)
                if table.memory_bytes - before > room_bytes:
                    break
        grown = table.memory_bytes - before
        self.make_room(len(found))
        return grown

    def keep_one(self, key: bytes, record: bytes) -> int:
        """Note the ``record`` that a read found at ``key``, where nothing was here; return the bytes it takes."""
        table = self._table
        table.add(key, record)
        self._order.append(key)
        self.make_room(1)
        return len(key) + len(record)

    def forget(self, keys: Sequence[bytes]) -> None:
        """Forget ``keys``, of which a memtable knows more."""
        if self._table.knows_none_of(keys):
            return
        self._table.delete(keys)
        if len(self._order) > 2 * len(self._table) + _AT_ONCE:
            self._order = deque(self._table.keys())

    def clear(self) -> None:
        """Forget everything."""
        if self._table:
            self._leaving.append(self._table)
        self._order = deque()
        self._table = Memtable()
        self.get = self._table.get

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield every key and its record."""
        return self._table.items()

    def make_room(self, added: int = 0) -> None:
        """Let some go, if there are more than there is room for: the more, the more were ``added``."""
        if self._table.memory_bytes <= self.room_bytes:
            return
        # A bit more than what is over, so that not each record that comes calls for it.
        down_to_bytes = self.room_bytes - self.room_bytes // _SPARE_SHARE
        self._table.forget(self._order, max(_AT_ONCE, _FOR_EACH * added), down_to_bytes)
        if self._table.memory_bytes > self._most_bytes:
            self.clear()
