"""The register: what one key may do when operations come one after the other.

A key begins absent, at revision 0. Every put, delete and cas that is applied gives it a revision greater than all
before; how much greater is not counted. A revision that nobody was told (of a write without an answer, or of a store
that has none) is free: greater than those before it, and fixed by the first operation that is told it.

===========  =====================================  ===========================
operation    is possible where                      leaves
===========  =====================================  ===========================
put          always                                 its value, a new revision
delete       always                                 nothing, a new revision
cas n        the key exists at revision n           its value, a new revision
cas 0        the key does not exist                 its value, a new revision
conflict n   the key is not at revision n, and is   the key as it was
             at the revision told, if one was
get          the key has the value found, and the   the key as it was
             revision told, if one was
===========  =====================================  ===========================
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final, NamedTuple

from kvbus.testing.history import Operation

OPEN: Final = 1 << 62
"""The rank of a return that never came."""

NONE_DENIED: Final[frozenset[int]] = frozenset()


class State(NamedTuple):
    """A key between two operations.

    ``value`` is None where the key is absent. ``floor`` is its revision if ``known``; else the revision is greater
    than ``floor``, free, and none of ``denied``.
    """

    value: str | None
    floor: int
    known: bool
    denied: frozenset[int]


INITIAL: Final = State(None, 0, True, NONE_DENIED)


@dataclass(slots=True, eq=False)
class Entry:
    """An operation as the search sees it: when it may take effect, what it asks of the key, what it leaves.

    ``call`` and ``ret`` are ranks in the order of all events of the key; the operation takes effect between them.
    An entry that is not ``required`` may have been applied or not. ``seen`` is the revision that it was told the key
    had, ``conflict`` the one that it was told the key had not; ``rev`` is the one that it gave the key. Revisions are
    0 (and ``conflict`` is -1) where there is none. An ``idle`` write is one on which nothing rests.
    """

    operation: Operation
    call: int
    ret: int
    required: bool
    reads: bool = False
    wanted: str | None = None
    exists: bool = False
    seen: int = 0
    conflict: int = -1
    writes: bool = False
    value: str | None = None
    rev: int = 0
    idle: bool = False

    @property
    def blind(self) -> bool:
        """True for a put or delete: it is possible whatever the key is."""
        return self.writes and self.operation.op != "cas"

    @property
    def is_get(self) -> bool:
        """True for a get: it asks for a value and leaves the key as it was."""
        return self.operation.op == "get"


def step(entry: Entry, state: State) -> State | None:
    """Return the key after ``entry``, the same object where it changes nothing, None where it is not possible."""
    value, floor, known, denied = state
    if entry.reads and entry.wanted != value:
        return None
    if entry.exists and value is None:
        return None
    seen = entry.seen
    if seen:
        if known:
            if seen != floor:
                return None
        elif seen <= floor or seen in denied:
            return None
        else:
            floor = seen
            state = State(value, floor, True, NONE_DENIED)
    if entry.conflict >= 0:
        return _after_conflict(entry.conflict, state)
    if not entry.writes:
        return state
    if entry.rev:
        return State(entry.value, entry.rev, True, NONE_DENIED) if entry.rev > floor else None
    return State(entry.value, floor, False, NONE_DENIED)


def _after_conflict(expected: int, state: State) -> State | None:
    value, floor, known, denied = state
    if expected == 0:
        return state if value is not None else None
    if value is None:
        return state
    if known:
        return state if floor != expected else None
    if expected <= floor or expected in denied:
        return state
    return State(value, floor, False, denied | {expected})


def entries(operations: list[Operation], until: float = inf) -> list[Entry]:
    """Return one key's operations as entries, as far as the history up to ``until`` seconds shows them.

    What was refused, and reads without an answer, changed nothing and are left out. A write whose answer came after
    ``until`` is as one without an answer. Operations of which one ends when the other begins are concurrent: the
    clock does not tell which was first.
    """
    shown = [each for each in operations if each.start <= until and _can_matter(each, until)]
    events: list[tuple[float, bool, int]] = []
    for number, operation in enumerate(shown):
        events.append((operation.start, False, number))
        if operation.end is not None and operation.end <= until and operation.answered:
            events.append((operation.end, True, number))
    events.sort()
    calls = [0] * len(shown)
    returns = [OPEN] * len(shown)
    for rank, (_, is_return, number) in enumerate(events):
        (returns if is_return else calls)[number] = rank
    return [_entry(*each) for each in zip(shown, calls, returns, strict=True)]


def _can_matter(operation: Operation, until: float) -> bool:
    if operation.op == "get" or operation.conflicted:
        return operation.answered and operation.end is not None and operation.end <= until
    return operation.outcome != "failed"


def _entry(operation: Operation, call: int, ret: int) -> Entry:
    entry = Entry(operation, call, ret, required=ret != OPEN)
    rev = operation.rev or 0 if entry.required else 0
    if operation.op == "get":
        found = operation.found or ()
        entry.reads, entry.wanted, entry.seen = True, found[0] if found else None, rev
    elif operation.conflicted:
        entry.conflict, entry.seen = operation.expected or 0, rev
        entry.reads = operation.rev == 0
    else:
        entry.writes, entry.value, entry.rev = True, operation.value, rev
        if operation.op == "cas":
            entry.seen = operation.expected or 0
            entry.exists = entry.seen > 0
            entry.reads = entry.seen == 0
    return entry
