"""A judge of small register histories that tries every order, and the histories that are tried on it.

It shares nothing with the checker: no windows, no memory of states, no floors. An order is legal if every revision
that was told names one state of the key, and these revisions grow from state to state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from random import Random

from kvbus.testing import History, Kind, Operation

_VALUES = ("a", "b", "c", "d", "e", "f", "g")


@dataclass
class Stage:
    """One state of the key: its value, and what was told about its revision."""

    value: str | None
    told: set[int] = field(default_factory=set[int])
    denied: set[int] = field(default_factory=set[int])


def is_linearizable(operations: Sequence[Operation]) -> bool:
    """Try every order of every choice of unknown writes; all operations have one key."""
    shown = [each for each in operations if each.answered or (each.outcome == "unknown" and each.op != "get")]
    if any(len(each.found or ()) > 1 for each in shown):
        return False
    return any(is_legal(order) for order in _orders(shown, []))


def _orders(left: list[Operation], done: list[Operation]) -> Iterator[list[Operation]]:
    if all(each.outcome == "unknown" for each in left):
        yield done
    for place, each in enumerate(left):
        if any(_precedes(other, each) for other in left):
            continue
        yield from _orders(left[:place] + left[place + 1 :], [*done, each])


def _precedes(first: Operation, second: Operation) -> bool:
    return first.outcome != "unknown" and first.end is not None and first.end < second.start


def is_legal(order: Sequence[Operation]) -> bool:
    """Say whether the operations, one after the other, give the answers that were given."""
    stages = [Stage(None, told={0})]
    for each in order:
        last = stages[-1]
        if each.op == "get":
            if each.found != (() if last.value is None else (last.value,)):
                return False
            last.told |= {each.rev} - {None, 0} if each.rev is not None else set()
        elif each.conflicted:
            if each.rev == 0 and last.value is not None:
                return False
            if each.rev:
                last.told.add(each.rev)
            if each.expected == 0 and last.value is None:
                return False
            if each.expected and last.value is not None:
                last.denied.add(each.expected)
        else:
            if each.op == "cas":
                if (each.expected == 0) != (last.value is None):
                    return False
                if each.expected:
                    last.told.add(each.expected)
            stages.append(Stage(each.value, told=set() if each.rev is None else {each.rev}))
    return _revisions_grow(stages)


def _revisions_grow(stages: Sequence[Stage]) -> bool:
    told = [stage.told for stage in stages if stage.told]
    if any(len(revisions) > 1 for revisions in told) or any(stage.told & stage.denied for stage in stages):
        return False
    line = [min(revisions) for revisions in told]
    return all(earlier < later for earlier, later in pairwise(line))


def small_history(random: Random) -> History:
    """Return up to seven operations on one key; about half of these histories have no legal order.

    A register does them one after the other at moments inside their times. Some answers are then made unknown, some
    revisions are forgotten, and some answers are changed.
    """
    register = _Register(random)
    span = random.choice((4, 8, 14, 30))
    moments = sorted(random.randrange(span) for _ in range(random.randint(1, 7)))
    operations = [register.operation(moment) for moment in moments]
    random.shuffle(operations)
    return History(tuple(operations))


class _Register:
    """A register that answers, and an unreliable witness of its answers."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.values = _VALUES[: random.randint(1, 7)]
        self.remembers = random.choice((0.0, 0.7, 1.0))
        self.lies = random.choice((0.0, 0.3, 0.6))
        self.value: str | None = None
        self.rev = 0

    @property
    def shown_rev(self) -> int:
        """The revision that a cas must expect."""
        return 0 if self.value is None else self.rev

    def operation(self, moment: int) -> Operation:
        """Do a random operation at this moment."""
        luck = self.random
        op: Kind = luck.choice(("put", "put", "get", "get", "get", "delete", "cas"))
        begun = Operation(
            client=luck.randrange(3),
            op=op,
            key="k",
            start=max(0, moment - luck.randrange(4)),
            value=luck.choice(self.values) if op == "put" or (op == "cas" and luck.random() < 0.8) else None,
            expected=luck.choice((0, self.shown_rev, luck.randint(0, 6))) if op == "cas" else None,
        )
        end = moment + luck.randrange(4)
        chance = luck.random()
        if chance < 0.25:
            if luck.random() < 0.6:
                self.apply(begun)
            return replace(begun, end=luck.choice((None, end)))
        if chance < 0.28:
            return replace(begun, end=end, outcome="failed", error="no_quorum")
        return self.answer(begun, end)

    def apply(self, begun: Operation) -> bool:
        """Apply a write; False where a cas finds another revision."""
        if begun.op == "cas" and begun.expected != self.shown_rev:
            return False
        if begun.op != "get":
            self.value, self.rev = begun.value, self.rev + self.random.choice((1, 1, 2))
        return True

    def answer(self, begun: Operation, end: int) -> Operation:
        """Answer, as a rule with the truth."""
        has_rev = self.random.random() < self.remembers
        lie = self.random.choice((-1, 1, 2)) if self.random.random() < self.lies else 0
        if not self.apply(begun):
            rev = max(0, self.shown_rev + lie) if has_rev else None
            return replace(begun, end=end, outcome="failed", error="conflict", rev=rev)
        found: tuple[str, ...] | None = None
        if begun.op == "get":
            value = self.value if not lie or has_rev else self.random.choice((None, *self.values))
            found = () if value is None else (value,)
        rev = max(0 if found == () else 1, self.rev + lie) if has_rev else None
        return replace(begun, end=end, outcome="ok", found=found, rev=rev)
