"""The data in memory: the memtable that takes writes, and those before it, newest first.

A generation that was frozen is flushed to tables from the log. Afterwards it stays as a cache for a while: whatever it
holds is newer than any table below it, so that keys which are written often are not read from tables.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

from kvbus.core.types import Lsn
from kvbus_storage.memtable import Memtable

_CACHED = 2
_LET_GO_AT_ONCE, _LET_GO_SHARE = 512, 32


@dataclass(slots=True, eq=False)
class Generation:
    """A frozen memtable and the log segments ``(number, end)`` that hold the same, up to ``lsn``.

    ``applied`` is the index up to which each Raft group's entries are in it or below. ``is_lent`` is true where a view
    may read the memtable later.
    """

    memtable: Memtable
    segments: tuple[tuple[int, int], ...]
    lsn: Lsn
    applied: Mapping[int, int]
    is_flushed: bool = False
    is_lent: bool = False


class Generations:
    """All memtables; ``active`` takes the writes."""

    __slots__ = ("active", "frozen", "has_removals", "leaving")

    def __init__(self) -> None:
        self.active = Memtable()
        # Newest first; those that are flushed come last.
        self.frozen: tuple[Generation, ...] = ()
        self.has_removals = False
        # Those that count no more and are freed bit by bit.
        self.leaving: deque[Memtable] = deque()

    @property
    def memory_bytes(self) -> int:
        """Memory that all of them take, about."""
        memtables = [self.active, *(each.memtable for each in self.frozen), *self.leaving]
        return sum(each.memory_bytes for each in memtables)

    def unflushed_bytes(self, active_log_bytes: int) -> int:
        """Return how many bytes of keys and records are not in tables yet.

        What a memtable has borrowed does not count: the log knows it not, where ``active_log_bytes`` are the active
        one's.
        """
        sizes = [min(self.active.data_bytes, active_log_bytes)]
        sizes += [min(each.memtable.data_bytes, sum(end for _, end in each.segments)) for each in self.unflushed()]
        return sum(sizes)

    def unflushed(self) -> list[Generation]:
        """Return the frozen generations that are not in tables yet, newest first."""
        return [each for each in self.frozen if not each.is_flushed]

    def get(self, key: bytes) -> bytes | None:
        """Return what the newest of them that knows ``key`` holds there: a record, REMOVED, or None."""
        holder = self.holder(key)
        return None if holder is None else holder.get(key)

    def holder(self, key: bytes) -> Memtable | None:
        """Return the newest of them that knows ``key``, or None."""
        for memtable in (self.active, *(each.memtable for each in self.frozen)):
            if memtable.get(key) is not None:
                return memtable
        return None

    def find_below(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return what the frozen ones hold at ``keys``, in order: a record, REMOVED, or None."""
        below: Iterable[bytes | None] = repeat(None, len(keys))
        for generation in reversed(self.frozen):
            below = generation.memtable.look_up(keys, below)
        return list(below)

    def freeze(self, segments: tuple[tuple[int, int], ...], lsn: Lsn, applied: Mapping[int, int]) -> None:
        """Give the writes a new memtable."""
        self.frozen = (Generation(self.active, segments, lsn, applied), *self.frozen)
        self.has_removals |= self.active.has_removals
        self.active = Memtable()

    def set_aside(self, lsn: Lsn) -> None:
        """Give the writes a new memtable: the active one, which holds only what it has borrowed, stays as a cache.

        None may wait to be flushed.
        """
        self.frozen = (Generation(self.active, (), lsn, {}, is_flushed=True), *self.frozen)
        self.active = Memtable()

    def shed(self, room_bytes: int) -> None:
        """Keep the newest of those that are in tables, if there is room: ``room_bytes`` are for all that are frozen."""
        kept = self.unflushed()
        room_bytes -= sum(each.memtable.memory_bytes for each in kept)
        for each in self.frozen[len(kept) :][:_CACHED]:
            room_bytes -= each.memtable.memory_bytes
            if room_bytes < 0:
                break
            kept.append(each)
        self.leaving += [each.memtable for each in self.frozen[len(kept) :] if not each.is_lent]
        self.frozen = tuple(kept)

    def let_go(self) -> None:
        """Free a bit of those that count no more, the more the more there are."""
        most = max(_LET_GO_AT_ONCE, sum(map(len, self.leaving)) // _LET_GO_SHARE)
        while self.leaving and most > 0:
            memtable = self.leaving[0]
            most -= memtable.let_go(most)
            if not memtable:
                self.leaving.popleft()

    def forget_flushed(self) -> None:
        """Keep none of those that are in tables."""
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
