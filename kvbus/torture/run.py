"""One run: a world, its clients and its faults, and what the checkers say about the history."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random

from kvbus.client.machine import MARGIN_SECONDS, SWEEP_SECONDS
from kvbus.core.keyspace import Keyspace
from kvbus.sim.world import World
from kvbus.testing.convergence import digests_converged
from kvbus.testing.history import History
from kvbus.testing.lost_writes import lost_writes
from kvbus.testing.verdict import Verdict
from kvbus.testing.visibility import visibility
from kvbus.torture.plan import Plan
from kvbus.torture.reach import ReachRecorder
from kvbus.torture.trouble import Trouble
from kvbus.torture.workload import DEADLINE_MS, FIRM_KEYS, Runner, Script, Shopper

_LAST_ANSWERS_SECONDS = DEADLINE_MS / 1000 + 1.0
_REPAIR_SECONDS = 10.0
_READING_SECONDS = 60.0
_HONEST_ERRORS = (
    "timeout",
    "no_quorum",
    "unreachable",
    "read_only",
    "shutting_down",
    "overloaded",
    "too_many_siblings",
)
# An add is a read and a write, each with a deadline after which the client waits a little for the node's own word.
_LATEST_ANSWER_SECONDS = 2 * (DEADLINE_MS / 1000 + MARGIN_SECONDS + 2 * SWEEP_SECONDS)

GAPS: Mapping[str, Mapping[str, str]] = {
    "ap": {
        "lost_writes": "no hinted handoff yet: a read of R replicas can miss what only another one has",
        "convergence": "no anti-entropy yet: replicas stay different until somebody writes the key",
    }
}
"""What a mode does not promise in this version, by checker, and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What came of one run. ``trace_hash`` is equal for equal plans, on every machine and Python."""

    plan: Plan
    verdicts: tuple[Verdict, ...]
    trace_hash: str
    virtual_seconds: float
    operations: int
    history: History

    def failed(self) -> list[Verdict]:
        """Return the verdicts that break a promise of the mode."""
        gaps = GAPS.get(self.plan.mode, {})
        return [verdict for verdict in self.verdicts if not verdict.passed and verdict.checker not in gaps]


def run_plan(plan: Plan, *, watch: Callable[[World], object] = lambda world: None) -> Result:
    """Run a plan to its end and judge it. ``watch`` is given the world before anything happens in it."""
    world = World(
        plan.nodes, seed=plan.seed, replicas=plan.replicas, partitions=plan.partitions,
        keyspaces={"default": _keyspace(plan)},
    )  # fmt: skip
    watch(world)
    scene = _Scene(plan, world)
    broke: Verdict | None = None
    try:
        scene.play()
    except Exception:
        broke = Verdict(checker="machine", ok=False, reason=traceback.format_exc(), judged=1)
    verdicts = (broke,) if broke else scene.verdicts()
    return Result(
        plan=plan, verdicts=verdicts, trace_hash=world.trace.hexdigest(), virtual_seconds=world.timeline.now,
        operations=len(scene.recorder.history().operations), history=scene.recorder.history(),
    )  # fmt: skip


def _keyspace(plan: Plan) -> Keyspace:
    quorum = min(2, plan.replicas)
    return Keyspace(name="default", mode=plan.mode, n=plan.replicas, r=quorum, w=quorum)


class _Scene:
    """A run in its parts: the workload under trouble, the mending, the final reads."""

    def __init__(self, plan: Plan, world: World) -> None:
        self._plan = plan
        self._world = world
        self._trouble = Trouble(world)
        self.recorder = ReachRecorder(world, self._trouble, {"seed": plan.seed, "mode": plan.mode, "theme": plan.theme})
        self._shoppers = [self._shopper(number, name) for number, name in enumerate(world.names)]
        self._shells = [world.open_shell(name, beside=name) for name in world.names]
        self._played = self._read_all = 0
        self._digests: dict[str, dict[int, str]] = {}

    def play(self) -> None:
        """Let everything happen, up to the final reads."""
        world, plan = self._world, self._plan
        world.settle()
        self._trouble.plan(plan.faults)
        for shopper, shell in zip(self._shoppers, self._shells, strict=True):
            Runner(world.timeline, shell, shopper.shop(plan.seconds, plan.rate))
        world.timeline.run(plan.seconds + _LAST_ANSWERS_SECONDS)
        self._trouble.mend()
        world.settle()
        world.timeline.run(_REPAIR_SECONDS)
        keys = sorted({operation.key for operation in self.recorder.history().operations})
        # Before the final reads, which may repair what they read.
        self._digests = self._world.digests("default")
        self._played = self._count()
        self._read(keys, {"r": plan.replicas}, readers=1)
        self._read_all = self._count()
        self._read(keys, {}, readers=len(world.names))

    def verdicts(self) -> tuple[Verdict, ...]:
        """Judge what happened."""
        operations = self.recorder.history().operations
        durable = History(operations[: self._read_all])
        usual = History(operations[: self._played] + operations[self._read_all :])
        firm = History(tuple(each for each in operations[: self._played] if each.key.startswith(FIRM_KEYS)))
        visible = [visibility(firm)] if any(each.op == "read" for each in firm.operations) else []
        return (
            self._started(),
            self._answered(),
            self._honest(),
            replace(lost_writes(durable), checker="durable"),
            *visible,
            self.recorder.reach(),
            replace(lost_writes(usual), checker="lost_writes"),
            digests_converged(self._digests),
        )

    def _read(self, keys: list[str], demand: dict[str, int], *, readers: int) -> None:
        def script(shopper: Shopper) -> Script:
            for key in keys:
                yield from shopper.read(key, final=True, **demand)

        for number in range(readers):
            Runner(self._world.timeline, self._shells[number], script(self._shoppers[number]))
        self._world.timeline.run(_READING_SECONDS, until=lambda: not self.recorder.open_count)

    def _count(self) -> int:
        return len(self.recorder.history().operations)

    def _shopper(self, number: int, name: str) -> Shopper:
        plan = self._plan
        quorum = plan.replicas // 2 + 1
        rng = Random(f"client {plan.seed} {number}")
        return Shopper(number, name, rng, self._world.timeline, self.recorder, keys=plan.keys, quorum=quorum)

    def _started(self) -> Verdict:
        refused = self._trouble.refused_starts
        reason = refused[0] if refused else "every node started from what its disk held"
        return Verdict(checker="recovery", ok=not refused, reason=reason, judged=len(self._world.names))

    def _honest(self) -> Verdict:
        operations = self.recorder.history().operations
        odd = [each for each in operations if each.error is not None and each.error not in _HONEST_ERRORS]
        reason = f"{odd[0].key}: {odd[0].describe()}" if odd else "every error was one that faults explain"
        return Verdict(checker="honest", ok=not odd, reason=reason, judged=len(operations))

    def _answered(self) -> Verdict:
        operations = self.recorder.history().operations
        late = [each for each in operations if each.end is None or each.end - each.start > _LATEST_ANSWER_SECONDS]
        reason = f"{late[0].key}: {late[0].describe()}" if late else "every operation had an outcome in time"
        return Verdict(checker="answered", ok=not late, reason=reason, judged=len(operations))
