"""The data in memory: the memtable that takes writes, and those before it, newest first.

A generation that was frozen is flushed to tables from the log. Afterwards it stays as a cache for a while: whatever it
holds is newer than any table below it, so that keys which are written often are not read from tables.

What a read finds in a table is borrowed: it stays in a memtable beside those that are written, none of which knew the
key. Keys that are written later hide it, so it stays behind the active memtable when that is frozen, and goes with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

from kvbus.core.types import Lsn
from kvbus_storage.memtable import Memtable

_CACHED = 2
_LET_GO_AT_ONCE, _LET_GO_SHARE, _LET_GO_A_KEY = 512, 32, 8
_LARGE_SHARE = 16


@dataclass(slots=True, eq=False)
class Generation:
    """A frozen memtable and the log segments ``(number, end)`` that hold the same, up to ``lsn``.

    ``applied`` is the index up to which each Raft group's entries are in it or below. ``borrowed`` was borrowed
    before it was frozen. ``is_lent`` is true where a view may read the memtable later.
    """

    memtable: Memtable
    segments: tuple[tuple[int, int], ...]
    lsn: Lsn
    applied: Mapping[int, int]
    borrowed: Memtable
    is_flushed: bool = False
    is_lent: bool = False

    @property
    def memory_bytes(self) -> int:
        """Memory that it takes, about, with what it has borrowed."""
        return self.memtable.memory_bytes + self.borrowed.memory_bytes


class Generations:
    """All memtables; ``active`` takes the writes, ``borrowed`` what reads find in tables.

    When that is full it becomes ``borrowed_before``, and what was that is forgotten.
    """

    __slots__ = ("active", "borrowed", "borrowed_before", "frozen", "has_removals", "leaving")

    def __init__(self) -> None:
        self.active = Memtable()
        self.borrowed = Memtable()
        self.borrowed_before = Memtable()
        # Newest first; those that are flushed come last.
        self.frozen: tuple[Generation, ...] = ()
        self.has_removals = False
        # Those that count no more and are freed bit by bit.
        self.leaving: deque[Memtable] = deque()

    @property
    def memory_bytes(self) -> int:
        """Memory that all of them take, about."""
        memtables = [self.active, self.borrowed, self.borrowed_before, *self.leaving]
        return sum(each.memory_bytes for each in memtables) + sum(each.memory_bytes for each in self.frozen)

    @property
    def data_bytes(self) -> int:
        """Bytes of all keys and records that are not in tables yet."""
        return self.active.data_bytes + sum(each.memtable.data_bytes for each in self.unflushed())

    def unflushed(self) -> list[Generation]:
        """Return the frozen generations that are not in tables yet, newest first."""
        return [each for each in self.frozen if not each.is_flushed]

    def get(self, key: bytes) -> bytes | None:
        """Return what was written to the newest of them that knows ``key``: a record, REMOVED, or None."""
        record = self.active.get(key)
        if record is None:
            for generation in self.frozen:
                record = generation.memtable.get(key)
                if record is not None:
                    break
        return record

    def find_below(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return what the frozen ones hold at ``keys``, in order: a record, REMOVED, or None."""
        below: Iterable[bytes | None] = repeat(None, len(keys))
        for generation in reversed(self.frozen):
            below = generation.memtable.look_up(keys, below)
        return list(below)

    def find_borrowed(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return what was borrowed of tables at ``keys``, which no memtable knows, in order: a record or None."""
        below: Iterable[bytes | None] = repeat(None, len(keys))
        for memtable in (*(each.borrowed for each in reversed(self.frozen)), self.borrowed_before, self.borrowed):
            if memtable:
                below = memtable.look_up(keys, below)
        return list(below)

    def borrow(self, key: bytes, record: bytes, room_bytes: int) -> None:
        """Keep what was found in a table, within ``room_bytes``; a large record is not worth it."""
        if self.leaving:
            self.let_go(_LET_GO_A_KEY)
        if len(record) * _LARGE_SHARE > room_bytes:
            return
        self.borrowed.add(key, record)
        if self.borrowed.memory_bytes * 2 > room_bytes:
            self._leave(self.borrowed_before)
            self.borrowed, self.borrowed_before = Memtable(), self.borrowed

    def freeze(self, segments: tuple[tuple[int, int], ...], lsn: Lsn, applied: Mapping[int, int]) -> None:
        """Give the writes a new memtable; of the frozen ones the newest two keep what was borrowed beside them."""
        self._return_borrowed(self.frozen[1:])
        self.frozen = (Generation(self.active, segments, lsn, applied, self.borrowed), *self.frozen)
        self.has_removals |= self.active.has_removals
        self.active, self.borrowed = Memtable(), Memtable()

    def shed(self, room_bytes: int) -> None:
        """Keep the newest of those that are in tables, if there is room: ``room_bytes`` are for all that are frozen."""
        kept = self.unflushed()
        room_bytes -= sum(each.memory_bytes for each in kept)
        for each in self.frozen[len(kept) :][:_CACHED]:
            room_bytes -= each.memory_bytes
            if room_bytes < 0:
                break
            kept.append(each)
        for each in self.frozen[len(kept) :]:
            self._leave(each.borrowed)
            if not each.is_lent:
                self._leave(each.memtable)
        self.frozen = tuple(kept)

    def let_go(self, most: int = 0) -> None:
        """Free a bit of those that count no more: ``most`` entries, or the more the more there are."""
        most = most or max(_LET_GO_AT_ONCE, sum(map(len, self.leaving)) // _LET_GO_SHARE)
        while self.leaving and most > 0:
            memtable = self.leaving[0]
            most -= memtable.let_go(most)
            if not memtable:
                self.leaving.popleft()

    def forget_flushed(self) -> None:
        """Keep none of those that are in tables, and nothing that was borrowed."""
        self._return_borrowed(self.frozen)
        self._leave(self.borrowed)
        self.borrowed = Memtable()
        self.frozen = tuple(self.unflushed())

    def drop(self, start: bytes, end: bytes) -> None:
        """Remove the keys from ``start`` up to ``end`` from all of them; none stays that is in tables."""
        self.forget_flushed()
        self.active = self.active.without(start, end)
        for each in self.frozen:
            each.memtable = each.memtable.without(start, end)

    def memtables(self) -> list[Memtable]:
        """Return those that are not in tables, newest first."""
        return [self.active, *(each.memtable for each in self.unflushed())]

    def lend(self) -> list[Memtable]:
        """Return what :meth:`memtables` does, to be kept: the active one is copied, and the others change no more."""
        waiting = self.unflushed()
        for each in waiting:
            each.is_lent = True
        return [self.active.copy(), *(each.memtable for each in waiting)]

    def _return_borrowed(self, frozen: Iterable[Generation]) -> None:
        """Forget what was borrowed beside ``frozen``, and before ``borrowed`` was begun."""
        self._leave(self.borrowed_before)
        self.borrowed_before = Memtable()
        for each in frozen:
            self._leave(each.borrowed)
            each.borrowed = Memtable()

    def _leave(self, memtable: Memtable) -> None:
        if memtable:
            self.leaving.append(memtable)
