"""Which operations a mode that stays available must answer: those whose side surely held a copy, all the while."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Unpack

from kvbus.errors import TooManySiblings
from kvbus.sim.world import World
from kvbus.testing.history import Kind, Operation, Outcome
from kvbus.testing.recorder import Asked, Recorder, Told
from kvbus.testing.verdict import Verdict
from kvbus.torture.trouble import Trouble
from kvbus.torture.workload import FIRM_KEYS

_HEALTHY_SHARE = 0.999


class ReachRecorder(Recorder):
    """A recorder that also notes which operations had to be answered.

    Such an operation began and ended in one steady state of what concerns its node and the key's owners, and its node
    worked with an owner; where it makes demands, all of them worked with one another. Final reads owe nothing.
    """

    def __init__(self, world: World, trouble: Trouble, header: Mapping[str, object]) -> None:
        super().__init__(header)
        self._world = world
        self._trouble = trouble
        self._since: dict[int, tuple[list[str], float]] = {}
        self._owed = self._given = 0
        self._refused: list[Operation] = []

    @property
    def open_count(self) -> int:
        """Return how many operations have not ended."""
        return len(self._open)

    def begin(self, at: float, client: int, op: Kind, key: str, **asked: Unpack[Asked]) -> int:
        """Record that a client asks; see :meth:`Recorder.begin`."""
        number = super().begin(at, client, op, key, **asked)
        node = asked.get("node")
        if node is not None and not asked.get("final"):
            owners, trouble = self._world.owners("default", key.encode()), self._trouble
            is_firm = key.startswith(FIRM_KEYS)
            if trouble.steady_circle(node, owners) if is_firm else trouble.steady_reach(node, owners):
                nodes = [node, *owners]
                self._since[number] = (nodes, trouble.changed_at(nodes))
        return number

    def end(
        self, number: int, at: float, outcome: Outcome, *, found: Iterable[str] | None = None, **told: Unpack[Told]
    ) -> Operation:
        """Record what the client was told; see :meth:`Recorder.end`."""
        operation = super().end(number, at, outcome, found=found, **told)
        owed = self._since.pop(number, None)
        if owed is not None and owed[1] == self._trouble.changed_at(owed[0]):
            self._owed += 1
            if outcome == "ok" or operation.error == TooManySiblings.code:
                self._given += 1
            else:
                self._refused.append(operation)
        return operation

    def reach(self) -> Verdict:
        """Judge the operations that had to be answered."""
        share = self._given / self._owed if self._owed else 1.0
        reason = f"{self._given} of {self._owed} operations that a side with a copy had to answer were answered"
        details = tuple(f"{operation.key}: {operation.describe()}" for operation in self._refused[:5])
        return Verdict(checker="reach", ok=share >= _HEALTHY_SHARE, reason=reason, judged=self._owed, details=details)
