"""The data in memory: the memtable that takes writes, and those before it, newest first.

A generation that was frozen is flushed to tables from the log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

from kvbus.core.types import Lsn
from kvbus_storage.memtable import Memtable
from kvbus_storage.removed import REMOVED

_LET_GO_AT_ONCE, _LET_GO_SHARE, _LET_GO_STEP, _USUAL_ENTRY_BYTES = 512, 32, 64, 256


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
    is_lent: bool = False


class Generations:
    """All memtables; ``active`` takes the writes."""

    __slots__ = ("active", "flushed", "frozen", "leaving")

    def __init__(self) -> None:
        self.active = Memtable()
        # Newest first.
        self.frozen: tuple[Generation, ...] = ()
        # The newest one that is in tables, but for what was handed on.
        self.flushed: Memtable | None = None
        # Those that count no more and are freed bit by bit.
        self.leaving: deque[Memtable] = deque()

    @property
    def memory_bytes(self) -> int:
        """Memory that all of them take, about."""
        return self.active.memory_bytes + self.waiting_bytes + sum(each.memory_bytes for each in self.leaving)

    @property
    def waiting_bytes(self) -> int:
        """Memory of those that wait to be flushed, and of what is left of the one that was flushed last."""
        flushed_bytes = self.flushed.memory_bytes if self.flushed is not None else 0
        return sum(each.memtable.memory_bytes for each in self.frozen) + flushed_bytes

    @property
    def has_removals(self) -> bool:
        """Whether REMOVED may stand at a key."""
        return self.active.has_removals or any(each.memtable.has_removals for each in self.frozen)

    @property
    def data_bytes(self) -> int:
        """Bytes of all keys and records that are not in tables yet."""
        return self.active.data_bytes + sum(each.memtable.data_bytes for each in self.frozen)

    def get(self, key: bytes) -> bytes | None:
        """Return what the newest of them that knows ``key`` holds there: a record, REMOVED, or None."""
        record = self.active.get(key)
        if record is None:
            for generation in self.frozen:
                record = generation.memtable.get(key)
                if record is not None:
                    break
        return record

    def find(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return what the newest of them that knows each of ``keys`` holds there: a record, REMOVED, or None."""
        if not self.frozen:
            return self.active.multi_get(keys)
        below: Iterable[bytes | None] = repeat(None, len(keys))
        for generation in reversed(self.frozen):
            below = generation.memtable.look_up(keys, below)
        return list(self.active.look_up(keys, below))

    def freeze(self, segments: tuple[tuple[int, int], ...], lsn: Lsn, applied: Mapping[int, int]) -> None:
        """Give the writes a new memtable."""
        self.frozen = (Generation(self.active, segments, lsn, applied), *self.frozen)
        self.active = Memtable()

    def shed(self, flushed: Generation) -> None:
        """Let one go that is in tables."""
        self.frozen = tuple(each for each in self.frozen if each is not flushed)
        self._give_up_flushed()
        if not flushed.is_lent:
            self.flushed = flushed.memtable

    def hand_on(self, most: int) -> dict[bytes, bytes]:
        """Take up to ``most`` records out of the memtable that was flushed last.

        Return those that nothing newer has replaced.
        """
        if self.flushed is None:
            return {}
        taken = self.flushed.take_out(most)
        if not self.flushed:
            self.flushed = None
        newer = self.find(list(taken))
        return {
            key: record
            for (key, record), other in zip(taken.items(), newer, strict=True)
            if other is None and record is not REMOVED
        }

    def _give_up_flushed(self) -> None:
        if self.flushed is not None:
            self.leaving.append(self.flushed)
            self.flushed = None

    def let_go(self) -> None:
        """Free a bit of those that count no more, the more the more there are."""
        most = max(_LET_GO_AT_ONCE, sum(map(len, self.leaving)) // _LET_GO_SHARE)
        while self.leaving and most > 0:
            most -= self._let_go_of_first(most)

    def make_up_for(self, size_bytes: int) -> None:
        """Free as much of those that count no more as ``size_bytes`` that came, so that they never pile up."""
        while self.leaving and size_bytes > 0:
            memtable = self.leaving[0]
            before = memtable.memory_bytes
            self._let_go_of_first(min(1 + size_bytes // _USUAL_ENTRY_BYTES, _LET_GO_STEP))
            size_bytes -= before - memtable.memory_bytes

    def _let_go_of_first(self, most: int) -> int:
        memtable = self.leaving[0]
        count = len(memtable.take_out(most))
        if not memtable:
            self.leaving.popleft()
        return count

    def drop(self, start: bytes, end: bytes) -> None:
        """Remove the keys from ``start`` up to ``end`` from all of them."""
        self._give_up_flushed()
        self.active = self.active.without(start, end)
        for each in self.frozen:
            each.memtable = each.memtable.without(start, end)

    def memtables(self) -> list[Memtable]:
        """Return all of them, newest first."""
        return [self.active, *(each.memtable for each in self.frozen)]

    def lend(self) -> list[Memtable]:
        """Return what :meth:`memtables` does, to be kept: the active one is copied, and the others change no more."""
        for each in self.frozen:
            each.is_lent = True
        return [self.active.copy(), *(each.memtable for each in self.frozen)]
