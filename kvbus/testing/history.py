"""A history: what clients asked a store, when, and what they were told.

Every checker judges a history and nothing else. An operation runs from ``start`` to ``end``, in seconds of one clock;
its outcome is one of

- ``ok``: it was applied and answered.
- ``failed``: nothing was applied and nothing will be. A cas that failed with the error ``conflict`` was *answered*:
  it saw that the revision was another one.
- ``unknown``: it may have been applied, or may be at any later time. ``end`` is when the client gave up, or None.

Source: docs/HISTORIES.md, which has every field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal, TypeAlias, get_args

from kvbus.errors import HistoryError
from kvbus.testing.wording import listed, quoted, seconds

Kind: TypeAlias = Literal["put", "get", "delete", "cas", "add", "remove", "read"]
Outcome: TypeAlias = Literal["ok", "failed", "unknown"]

KINDS: tuple[Kind, ...] = get_args(Kind)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
REGISTER_KINDS: tuple[Kind, ...] = ("put", "get", "delete", "cas")
SET_KINDS: tuple[Kind, ...] = ("add", "remove", "read")

_READS = ("get", "read")
_REQUIRED: Mapping[Kind, tuple[str, ...]] = {
    "put": ("value",),
    "get": (),
    "delete": (),
    "cas": ("expected",),
    "add": ("element",),
    "remove": ("element",),
    "read": (),
}
_ALLOWED: Mapping[Kind, tuple[str, ...]] = {
    "put": ("value", "rev"),
    "get": ("found", "rev", "final"),
    "delete": ("rev",),
    "cas": ("value", "expected", "rev"),
    "add": ("element",),
    "remove": ("element", "found"),
    "read": ("found", "final"),
}
_PARTICULAR = ("value", "found", "rev", "expected", "element", "final")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of one client, and its answer.

    ``client`` is a number. ``start`` and ``end`` are seconds of the history's clock, ``end`` None where no answer came.
    ``value`` is what a put or cas wrote; a cas without one deletes. ``expected`` is the revision that a cas asks for,
    0 where the key must not exist. ``found`` is what a get or read returned: nothing is ``()``, siblings are several;
    with a remove it is what the client had read before and so removes. ``rev`` is the reply's revision, also that of a
    ``conflict``. ``element`` is what an add or remove is about. ``degraded`` and ``error`` are the reply's,
    ``node`` is the node that was asked. ``final`` marks a read made when everything is healed and repaired.

    Raises:
        HistoryError: the fields do not fit together; the message names the mend.
    """

    client: int
    op: Kind
    key: str
    start: float
    end: float | None = None
    outcome: Outcome = "unknown"
    value: str | None = None
    found: tuple[str, ...] | None = None
    rev: int | None = None
    expected: int | None = None
    element: str | None = None
    degraded: bool = False
    error: str | None = None
    node: str | None = None
    final: bool = False

    def __post_init__(self) -> None:
        flaw = _flaw_of_call(self) or _flaw_of_answer(self)
        if flaw:
            raise HistoryError(flaw)

    @property
    def conflicted(self) -> bool:
        """True where the store answered that the revision differs: nothing was applied, but something was seen."""
        return self.outcome == "failed" and self.error == "conflict" and self.op == "cas"

    @property
    def answered(self) -> bool:
        """True where the store did its work for the client: ``ok``, or a conflict."""
        return self.outcome == "ok" or self.conflicted

    def describe(self) -> str:
        """Return the operation as one line for people, without its key."""
        end = f"to {seconds(self.end)} s" if self.end is not None else "never answered"
        where = f" at {self.node}" if self.node else ""
        return f"client {self.client} {self._asked()}{where}{self._told()}, {seconds(self.start)} {end}"

    def _asked(self) -> str:
        if self.op == "put":
            return f"put {quoted(self.value)}"
        if self.op == "cas":
            return f"cas rev {self.expected} to {quoted(self.value)}"
        return f"{self.op} {quoted(self.element)}" if self.element is not None else self.op

    def _told(self) -> str:
        rev = f" (rev {self.rev})" if self.rev is not None else ""
        if self.outcome == "unknown":
            return ": outcome unknown"
        if self.outcome == "failed":
            return f": {self.error or 'failed'}{rev}"
        if self.op in _READS:
            return f" found {listed(self.found or ())}{rev}"
        return f": ok{rev}"


@dataclass(frozen=True, slots=True)
class History:
    """Operations in the order in which they were begun, and the free text that was recorded with them."""

    operations: tuple[Operation, ...]
    header: Mapping[str, object] = field(default_factory=dict[str, object])

    def by_key(self, kinds: Iterable[Kind]) -> dict[str, list[Operation]]:
        """Return the operations of these kinds, by key."""
        wanted = tuple(kinds)
        keys: dict[str, list[Operation]] = {}
        for operation in self.operations:
            if operation.op in wanted:
                keys.setdefault(operation.key, []).append(operation)
        return keys


def _flaw_of_call(operation: Operation) -> str | None:
    """Say what is wrong with what was asked; None where nothing is."""
    kind = operation.op
    if kind not in KINDS:
        return f"op must be one of {', '.join(KINDS)}, not {kind!r}"
    if operation.outcome not in OUTCOMES:
        return f"outcome must be one of {', '.join(OUTCOMES)}, not {operation.outcome!r}"
    for name in _REQUIRED[kind]:
        if getattr(operation, name) is None:
            return f"{_a(kind)} needs {name}; record what the client sent"
    for name in _PARTICULAR:
        if name not in _ALLOWED[kind] and getattr(operation, name) not in (None, False):
            return f"{_a(kind)} has no {name}; leave it out"
    if operation.expected is not None and operation.expected < 0:
        return f"expected must be a revision, or 0 for a key that must not exist, not {operation.expected}"
    if not isfinite(operation.start):
        return f"start must be a time in seconds, not {operation.start}"
    return None


def _flaw_of_answer(operation: Operation) -> str | None:
    """Say what is wrong with what was told; None where nothing is."""
    end, outcome = operation.end, operation.outcome
    if end is None:
        if outcome != "unknown":
            return f"an operation that is {outcome} needs its end; without an answer the outcome is unknown"
    elif not (isfinite(end) and end >= operation.start):
        return f"end ({end}) must be a time in seconds and not before start ({operation.start})"
    if outcome == "ok" and operation.op in _READS and operation.found is None:
        return f"{_a(operation.op)} that is ok needs found; [] is nothing"
    if outcome != "ok" and operation.op in _READS and operation.found is not None:
        return f"{_a(operation.op)} that is {outcome} found nothing; leave found out or say ok"
    if operation.rev is not None:
        return _flaw_of_revision(operation)
    return None


def _flaw_of_revision(operation: Operation) -> str | None:
    if not operation.answered:
        return f"only an answer has a rev; leave it out where the outcome is {operation.outcome}"
    may_be_absent = operation.conflicted or (operation.op == "get" and not operation.found)
    if (operation.rev or 0) < (0 if may_be_absent else 1):
        return f"rev must be 1 or more, not {operation.rev}; 0 belongs to a key that does not exist"
    return None


def _a(kind: Kind) -> str:
    return f"an {kind}" if kind == "add" else f"a {kind}"
