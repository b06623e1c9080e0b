"""Dots and contexts: which writes a write has seen.

A context is an *exact* set of dots: a version vector, which stands for all dots of an actor up to a counter, plus
single dots that are not contiguous with it. Exactness is the point: a plain vector would claim the dots below a
single dot too, and a put that carries it would silently delete siblings that its client never saw.
Source: RECORD.md, "Context"; Preguiça et al., "Dotted Version Vectors" (2010).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import pairwise
from struct import Struct
from typing import TypeAlias

Actor: TypeAlias = tuple[int, int]
"""(server short id u32, epoch u64): one uninterrupted series of events at one server."""

Dot: TypeAlias = tuple[Actor, int]
"""(actor, counter u64): one event; counters start at 1."""

ENTRY = Struct("<IQQ")
ENTRY_BYTES = ENTRY.size
ACTOR_BYTES = 12
VERSION = 1
MAX_ENTRIES = 0xFFFF
"""The most entries that a decoder takes; clock pruning keeps honest contexts near 50."""

VECTOR_OF_ONE = b"\x01\x01\x00\x00\x00"
"""The head of a context that is one vector entry; the entry follows."""
SINGLE_DOT = b"\x01\x00\x00\x00\x00"
"""The head of a context of single dots only; they follow."""

_HEAD = Struct("<BI")
_HEAD_BYTES = _HEAD.size
_counter_at = Struct("<Q").unpack_from

_Events: TypeAlias = tuple[int, tuple[int, ...]]
_NO_EVENTS: _Events = (0, ())


class Context:
    """An immutable exact set of dots; ``EMPTY`` is the empty one."""

    __slots__ = ("events",)

    def __init__(self, events: dict[Actor, _Events]) -> None:
        # {actor: (upto, singles)}: the dots 1 … upto and the singles, which ascend from upto + 2; never (0, ()).
        # Whoever passes ``events`` gives it away and keeps this invariant; other modules start from EMPTY or bytes.
        self.events = events

    @staticmethod
    def from_bytes(data: bytes) -> Context:
        """Decode ``data`` strictly, in time linear in its length.

        Raises:
            ValueError: the bytes are not the canonical encoding of a context.
        """
        return _decode(data) if data else EMPTY

    def to_bytes(self) -> bytes:
        """Return the canonical encoding; equal contexts give equal bytes. ``b""`` is the empty context."""
        if not self.events:
            return b""
        vector: list[bytes] = []
        singles: list[bytes] = []
        for actor, (upto, extra) in sorted(self.events.items()):
            if upto:
                vector.append(ENTRY.pack(*actor, upto))
            for counter in extra:
                singles.append(ENTRY.pack(*actor, counter))
        return _HEAD.pack(VERSION, len(vector)) + b"".join(vector + singles)

    def contains(self, dot: Dot) -> bool:
        """Say whether ``dot`` is in the set."""
        actor, counter = dot
        upto, extra = self.events.get(actor, _NO_EVENTS)
        if counter <= upto:
            return True
        place = bisect_left(extra, counter)
        return place < len(extra) and extra[place] == counter

    def join(self, other: Context) -> Context:
        """Return the union of the two sets."""
        return join_all((self, other))

    def with_dot(self, dot: Dot) -> Context:
        """Return the set with ``dot`` added: a single dot, folded into the vector only when contiguous."""
        return join_all((self,), (dot,))

    def latest(self) -> Iterator[Dot]:
        """Yield for each actor the dot with its largest counter, in no particular order."""
        for actor, (upto, extra) in self.events.items():
            yield actor, extra[-1] if extra else upto

    def clock(self) -> dict[int, int]:
        """Return {server: number of its events in the set}, epochs summed, by ascending server.

        This is the clock that people read as ``D([Sx, 2], [Sy, 1])``.
        """
        events: dict[int, int] = {}
        for (server, _), (upto, extra) in sorted(self.events.items()):
            events[server] = events.get(server, 0) + upto + len(extra)
        return events

    def dots(self) -> list[tuple[Actor, int, int]]:
        """List the set for debug output: (actor, first counter, last counter) of each run, ascending."""
        runs: list[tuple[Actor, int, int]] = []
        for actor, (upto, extra) in self.events.items():
            if upto:
                runs.append((actor, 1, upto))
            runs.extend((actor, counter, counter) for counter in extra)
        return sorted(runs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Context) and self.events == other.events

    def __hash__(self) -> int:
        return hash(self.to_bytes())

    def __repr__(self) -> str:
        return f"Context({self.dots()})"


EMPTY = Context({})


def join_all(contexts: Iterable[Context], dots: Iterable[Dot] = ()) -> Context:
    """Return the union of all ``contexts`` and all ``dots``."""
    events: dict[Actor, _Events] = {}
    for context in contexts:
        if not events:
            events = dict(context.events)
            continue
        for actor, theirs in context.events.items():
            ours = events.get(actor)
            if ours is None:
                events[actor] = theirs
            elif ours[1] or theirs[1]:
                events[actor] = _folded(max(ours[0], theirs[0]), ours[1] + theirs[1])
            elif theirs[0] > ours[0]:
                events[actor] = theirs
    for actor, counter in dots:
        upto, extra = events.get(actor, _NO_EVENTS)
        if extra or counter > upto + 1:
            events[actor] = _folded(upto, (*extra, counter))
        elif counter == upto + 1:
            events[actor] = (counter, ())
    return Context(events)


def covers(data: bytes, start: int, end: int, actor: bytes, counter: int) -> bool:
    """Say whether the encoded context ``data[start:end]`` contains the dot, without decoding it.

    ``actor`` is the first 12 bytes of the dot's entry. The context must be well-formed; it may be empty.
    Equal to ``Context.from_bytes(data[start:end]).contains(dot)``, and about five times as fast.
    """
    first = start + _HEAD_BYTES
    place = data.find(actor, first, end)
    while place >= 0:
        if (place - first) % ENTRY_BYTES:
            place = data.find(actor, place + 1, end)
            continue
        (known,) = _counter_at(data, place + ACTOR_BYTES)
        if counter == known:
            return True
        if counter < known and (place - first) // ENTRY_BYTES < _HEAD.unpack_from(data, start)[1]:
            return True
        place = data.find(actor, place + ENTRY_BYTES, end)
    return False


def _folded(upto: int, counters: Iterable[int]) -> _Events:
    """Return the events 1 … ``upto`` and ``counters`` (any order, repeats allowed) in canonical form."""
    rest: list[int] = []
    for counter in sorted(counters):
        if counter == upto + 1:
            upto = counter
        elif counter > upto and (not rest or rest[-1] != counter):
            rest.append(counter)
    return upto, tuple(rest)


def _decode(data: bytes) -> Context:
    size = len(data) - _HEAD_BYTES
    if size < ENTRY_BYTES or size % ENTRY_BYTES or size > MAX_ENTRIES * ENTRY_BYTES:
        raise ValueError(f"a context of {len(data)} bytes has no whole number of entries from 1 to {MAX_ENTRIES}")
    version, vector_count = _HEAD.unpack_from(data)
    if version != VERSION:
        raise ValueError(f"context version {version} is unknown")
    entries = list(ENTRY.iter_unpack(data[_HEAD_BYTES:]))
    if vector_count > len(entries):
        raise ValueError(f"a context of {len(entries)} entries cannot have {vector_count} in its vector")
    events: dict[Actor, _Events] = {}
    last: Actor = (-1, 0)
    for server, epoch, counter in entries[:vector_count]:
        actor = (server, epoch)
        if actor <= last or not counter:
            raise ValueError("the context's vector is not canonical: actors must ascend and counters start at 1")
        events[actor] = (counter, ())
        last = actor
    if vector_count < len(entries):
        _add_singles(events, entries[vector_count:])
    return Context(events)


def _add_singles(events: dict[Actor, _Events], singles: list[tuple[int, int, int]]) -> None:
    if any(later <= earlier for earlier, later in pairwise(singles)):
        raise ValueError("the context's single dots are not canonical: they must ascend")
    by_actor: dict[Actor, list[int]] = {}
    for server, epoch, counter in singles:
        by_actor.setdefault((server, epoch), []).append(counter)
    for actor, counters in by_actor.items():
        upto, _ = events.get(actor, _NO_EVENTS)
        if counters[0] <= upto + 1:
            raise ValueError("the context is not canonical: a single dot lies in or next to its actor's vector")
        events[actor] = (upto, tuple(counters))
