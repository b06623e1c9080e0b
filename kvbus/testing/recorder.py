"""A recorder: how a simulator or a harness writes a history down while it happens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf, nextafter
from threading import Lock
from typing import TypedDict, Unpack

from kvbus.errors import HistoryError
from kvbus.testing.history import History, Kind, Operation, Outcome


class Asked(TypedDict, total=False):
    """What a client asks for, beyond its operation and the key: fields of ``Operation``."""

    value: str | None
    expected: int | None
    element: str | None
    node: str | None
    final: bool


class Told(TypedDict, total=False):
    """What a client was told, beyond the outcome and what it found: fields of ``Operation``."""

    rev: int | None
    degraded: bool
    error: str | None


class Recorder:
    """Collects operations; any number of threads may use one.

    The caller's clock is used and none is read here. Call ``begin`` before the request is sent and ``end`` after the
    answer has come: the order of these calls is the history's order. Two events at one instant, as a simulator's are,
    are told apart by giving the later call the next number that a float can hold, so that an operation that began
    when another one had ended is later in the history too.
    """

    def __init__(self, header: Mapping[str, object] | None = None) -> None:
        self._header = dict(header or {})
        self._operations: list[Operation] = []
        # What was asked by those that have not ended.
        self._open: dict[int, Asked] = {}
        self._now = -inf
        self._lock = Lock()

    def begin(self, at: float, client: int, op: Kind, key: str, **asked: Unpack[Asked]) -> int:
        """Record that a client asks, at ``at`` seconds, and return the number that ``end`` wants.

        Raises:
            HistoryError: the fields do not fit together.
        """
        with self._lock:
            operation = Operation(client=client, op=op, key=key, start=self._later(at), **asked)
            number = len(self._operations)
            self._operations.append(operation)
            self._open[number] = asked
            return number

    def end(
        self, number: int, at: float, outcome: Outcome, *, found: Iterable[str] | None = None, **told: Unpack[Told]
    ) -> Operation:
        """Record what the client was told, at ``at`` seconds; ``unknown`` where it gave up waiting.

        Raises:
            HistoryError: the operation has ended before, or the fields do not fit together.
        """
        with self._lock:
            asked = self._open.get(number)
            if asked is None:
                raise HistoryError(f"operation {number} is not under way; end each operation once, with begin's number")
            begun = self._operations[number]
            operation = Operation(
                client=begun.client,
                op=begun.op,
                key=begun.key,
                start=begun.start,
                end=self._later(at),
                outcome=outcome,
                found=None if found is None else tuple(found),
                **asked,
                **told,
            )
            del self._open[number]
            self._operations[number] = operation
            return operation

    def history(self) -> History:
        """Return what was recorded so far; what has not ended is unknown."""
        with self._lock:
            return History(tuple(self._operations), dict(self._header))

    def _later(self, at: float) -> float:
        self._now = at if at > self._now else nextafter(self._now, inf)
        return self._now
