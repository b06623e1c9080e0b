"""Windows: what can be said of one key's operations before any order is searched.

Each rule below narrows an entry's window (its call and return ranks) or drops an entry, and each holds for every legal
order, so that a legal order exists after it exactly if one existed before. Where a window becomes empty there is none.

1.  *One possible writer.* If a get found ``v`` and only one entry can have written ``v``, then the get sees that
    write: it was applied even where its answer was unknown, it took effect before the get's end, the get after its
    call, and a revision that one of the two was told is the other's too. Likewise for the writer of a revision.
2.  *Revisions grow.* What was told a smaller revision comes before what was told a greater one, and a write before
    those who saw its revision.
3.  *Zones.* The gets of one write see one uninterrupted span of the key's history. If the first of the write and its
    gets to return returns before the last of them is called, the span covers all between the two, and every other
    write, and every get of something else, lies before or after. Two such zones cannot overlap.
4.  *What nobody can have seen.* Nothing rests on a write if nobody read its value and no cas and no conflict can be
    about its revision or its being there. In a legal order it is followed by a write that does not care, or by nothing,
    so an unknown one may be left out. One that was acknowledged is ``idle`` (what that is good for: wgl.py), unless
    its revision or, of a cas, its condition fixes its place.
5.  *Unread values.* Values that nobody read are told apart by nobody, and count as one.

Source for 3: P. B. Gibbons and E. Korach, "Testing Shared Memories" (SIAM J. Comput. 26, 1997).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from kvbus.testing.register import OPEN, Entry

# The rules feed each other. What a fourth round would find, the search finds too.
_ROUNDS = 3


class Windows(NamedTuple):
    """What is left to search: entries that a legal order has, and entries that it may have; by call."""

    required: list[Entry]
    optional: list[Entry]


class Zone(NamedTuple):
    """All ranks between ``first`` and ``last`` belong to what ``writer`` wrote."""

    first: int
    last: int
    writer: Entry


class _Impossible(Exception):
    """No order is legal."""


def windows(all_entries: Sequence[Entry]) -> Windows | None:
    """Narrow the entries of one key, in place; None where already this shows that no order is legal."""
    try:
        return _narrowed(all_entries)
    except _Impossible:
        return None


def _narrowed(all_entries: Sequence[Entry]) -> Windows:
    readers = _Readers(all_entries)
    required = [entry for entry in all_entries if entry.required]
    optional = _observable([entry for entry in all_entries if not entry.required], required)
    for _ in range(_ROUNDS):
        before = [(entry.call, entry.ret) for entry in required]
        readers.narrow()
        _order_by_revision(required)
        _keep_out_of_zones([*required, *optional], readers)
        if any(entry.call > entry.ret for entry in required):
            raise _Impossible
        if before == [(entry.call, entry.ret) for entry in required]:
            break
    required.sort(key=lambda entry: (entry.call, entry.ret))
    optional.sort(key=lambda entry: entry.call)
    return Windows(required, optional)


class _Readers:
    """Rule 1: which get saw which write, where there is no doubt."""

    def __init__(self, all_entries: Sequence[Entry]) -> None:
        self._by_value: dict[str | None, list[Entry]] = {}
        self._by_rev: dict[int, Entry] = {}
        self.writer_of: dict[Entry, Entry] = {}
        for entry in all_entries:
            if entry.writes:
                self._by_value.setdefault(entry.value, []).append(entry)
                if entry.rev:
                    self._by_rev[entry.rev] = entry
        gets = [entry for entry in all_entries if entry.is_get]
        for get in gets:
            if get.wanted is not None:
                self._find_only_writer(get)
        self.groups: dict[Entry, list[Entry]] = {}
        for get in gets:
            writer = self._by_rev.get(get.seen) or self.writer_of.get(get)
            if writer is not None:
                self._join(writer, get)

    def _find_only_writer(self, get: Entry) -> None:
        writers = self._by_value.get(get.wanted, [])
        if not writers:
            raise _Impossible
        if len(writers) > 1:
            return
        writer = writers[0]
        writer.required = True
        self.writer_of[get] = writer
        if get.seen and not writer.rev:
            if get.seen in self._by_rev:
                raise _Impossible
            writer.rev = get.seen
            self._by_rev[get.seen] = writer

    def _join(self, writer: Entry, get: Entry) -> None:
        if writer.value != get.wanted or (get.seen and writer.rev and get.seen != writer.rev):
            raise _Impossible
        get.seen = writer.rev
        self.writer_of[get] = writer
        self.groups.setdefault(writer, []).append(get)

    def narrow(self) -> None:
        """Let each write return before the first of its gets does, and each get be called after its write was."""
        for writer, gets in self.groups.items():
            writer.ret = min(each.ret for each in (writer, *gets))
            for get in gets:
                get.call = max(get.call, writer.call)

    def zones(self) -> list[Zone]:
        """Return the zones in order (rule 3)."""
        zones: list[Zone] = []
        for writer, gets in self.groups.items():
            first = min(each.ret for each in (writer, *gets))
            last = max(each.call for each in (writer, *gets))
            if first < last:
                zones.append(Zone(first, last, writer))
        zones.sort(key=lambda zone: zone.first)
        if any(later.first < earlier.last for earlier, later in pairwise(zones)):
            raise _Impossible
        return zones


def _order_by_revision(required: list[Entry]) -> None:
    """Apply rule 2: a write stands at its own revision, everybody else behind the write of the one that it saw."""
    ranked = sorted((each for each in required if each.rev or each.seen), key=_place)
    groups = [list(group) for _, group in groupby(ranked, key=_place)]
    latest_call = -1
    for group in groups:
        here = max(entry.call for entry in group)
        for entry in group:
            entry.call = max(entry.call, latest_call)
        latest_call = max(latest_call, here)
    first_return = OPEN
    for group in reversed(groups):
        here = min(entry.ret for entry in group)
        for entry in group:
            entry.ret = min(entry.ret, first_return)
        first_return = min(first_return, here)


def _place(entry: Entry) -> tuple[int, bool]:
    return (entry.rev, False) if entry.rev else (entry.seen, True)


def _keep_out_of_zones(all_entries: list[Entry], readers: _Readers) -> None:
    """Apply rule 3 to everything that cannot be inside another write's span."""
    zones = readers.zones()
    firsts = [zone.first for zone in zones]
    for entry in all_entries:
        zone = _zone_around(entry.call, zones, firsts)
        if zone is not None and _is_stranger(entry, zone.writer, readers):
            entry.call = zone.last
        zone = _zone_around(entry.ret, zones, firsts)
        if zone is not None and _is_stranger(entry, zone.writer, readers):
            entry.ret = zone.first


def _zone_around(rank: int, zones: list[Zone], firsts: list[int]) -> Zone | None:
    place = bisect_right(firsts, rank) - 1
    if place < 0 or not zones[place].first < rank < zones[place].last:
        return None
    return zones[place]


def _is_stranger(entry: Entry, writer: Entry, readers: _Readers) -> bool:
    if entry.writes:
        return entry is not writer
    if not entry.is_get:
        return False
    return readers.writer_of.get(entry) not in (None, writer) or entry.wanted != writer.value


def _observable(optional: list[Entry], required: list[Entry]) -> list[Entry]:
    """Apply rules 4 and 5: mark required writes as idle; return the unknown ones on which something may rest."""
    given = {entry.rev for entry in required if entry.writes and entry.rev}
    read = {entry.wanted for entry in required if entry.is_get}
    # Whoever names the revision of a required write rests on that write, and on no other.
    resting = [entry for entry in (*required, *optional) if not entry.is_get and entry.seen not in given]
    on_presence = any(entry.exists or entry.conflict >= 0 for entry in resting)
    on_absence = any((entry.reads and entry.wanted is None) or entry.conflict >= 0 for entry in resting)

    def matters(write: Entry) -> bool:
        return write.value in read or (on_absence if write.value is None else on_presence)

    for entry in required:
        entry.idle = entry.blind and not entry.rev and not matters(entry)
    left = [entry for entry in optional if matters(entry)]
    unread = [entry for entry in (*required, *left) if entry.value is not None and entry.value not in read]
    for entry in unread:
        entry.value = unread[0].value
    return left
