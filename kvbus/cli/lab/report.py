"""What the proof saw and measured, and the claims that it checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from kvbus.cli.output import Output, print_json, readable, say, table
from kvbus.client import GetReply, PutReply
from kvbus.errors import ClientError, KvbusError, NoQuorum

Outcome = PutReply | GetReply | ClientError


class LabFailed(KvbusError):
    """The cluster did not do what the proof claims."""


def check(condition: bool, claim: str) -> None:
    """See that a claim holds.

    Raises:
        LabFailed: it does not.
    """
    if not condition:
        raise LabFailed(f"not so: {claim}")


def verdict(outcome: Outcome) -> str:
    """Return what a request came to: ``ok``, ``degraded`` or the code of its error."""
    if isinstance(outcome, ClientError):
        return outcome.code
    return "degraded" if outcome.degraded else "ok"


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """One thing that was tried; ``ms`` is how long the answer took, where a client asked."""

    network: str
    tried: str
    through: str
    answer: str
    ms: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One duration; ``name`` is its key in JSON."""

    name: str
    what: str
    seconds: float


@dataclass(slots=True)
class Report:
    """All rows, in the order in which they came."""

    seen: list[Seen] = field(default_factory=list[Seen])
    measured: list[Measured] = field(default_factory=list[Measured])

    def measure(self, name: str, what: str, seconds: float) -> None:
        """Add a duration."""
        self.measured.append(Measured(name=name, what=what, seconds=seconds))

    def show(self, names: Sequence[str], output: Output) -> None:
        """Print it all: two tables, or one JSON object."""
        if output is Output.JSON:
            durations = {row.name: round(row.seconds, 3) for row in self.measured}
            print_json({"nodes": list(names), "seen": [asdict(row) for row in self.seen], "seconds": durations})
            return
        say("")
        table(["network", "tried", "through", "answer", "ms"], self._rows(), wrapped=["answer"])
        if self.measured:
            say("")
            table(["measured", "seconds"], [[row.what, f"{row.seconds:.2f}"] for row in self.measured])

    def _rows(self) -> list[list[str]]:
        """Return the rows; the network's state stands only where it changes."""
        before = [None, *(row.network for row in self.seen)]
        return [
            [
                "" if row.network == last else row.network,
                row.tried,
                row.through,
                row.answer,
                "" if row.ms is None else f"{row.ms:.1f}",
            ]
            for row, last in zip(self.seen, before, strict=False)
        ]


def answer_text(outcome: Outcome) -> str:
    """Write an outcome down for people."""
    if isinstance(outcome, NoQuorum):
        alive, required = outcome.details["alive"], outcome.details["required"]
        return f"refused (no_quorum): {alive} of {required} reachable, nothing was done"
    if isinstance(outcome, ClientError):
        fate = "nothing was done" if outcome.definite else "the outcome is unknown"
        return f"{outcome.code}: {fate}"
    told = verdict(outcome)
    if outcome.degraded:
        told += f", {outcome.acks} copy" if outcome.acks == 1 else f", {outcome.acks} copies"
    if isinstance(outcome, GetReply):
        values = " ".join(readable(value) for value in sorted(outcome.values))
        told += f": {values}" if len(outcome.values) < 2 else f": {values} (siblings)"
    return told
