"""One run: a world, its clients and its faults, and what the checkers say about the history."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random

from kvbus.client.machine import MARGIN_SECONDS, SWEEP_SECONDS
from kvbus.core.keyspace import Keyspace
from kvbus.ports.mode import Limits
from kvbus.sim.client import ClientShell
from kvbus.sim.world import World
from kvbus.testing.convergence import digests_converged
from kvbus.testing.history import History
from kvbus.testing.lost_writes import lost_writes
from kvbus.testing.verdict import Verdict
from kvbus.testing.visibility import visibility
from kvbus.torture.ledger import Ledger
from kvbus.torture.plan import Plan
from kvbus.torture.reach import ReachRecorder
from kvbus.torture.script import Runner, Script
from kvbus.torture.trouble import Trouble
from kvbus.torture.workload import DEADLINE_MS, FIRM_KEYS, Habits, Shopper

_LAST_ANSWERS_SECONDS = DEADLINE_MS / 1000 + 1.0
_REPAIR_SECONDS = 10.0
_READING_SECONDS = 60.0
_SIBLINGS = 4
"""The cap of siblings: so low that some puts meet it and must be refused, and few enough that the others go on."""
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
        "lost_writes": "no hinted handoff yet: R replicas may all lack it",
        "convergence": "no anti-entropy yet: replicas stay different",
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
        keyspaces={"default": _keyspace(plan)}, limits=_limits(plan),
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


def _limits(plan: Plan) -> Limits:
    # Of a put that was forwarded twice the second one may be refused, and then its answer says that nothing was stored.
    return Limits() if plan.doubles else Limits(siblings=_SIBLINGS)


def _chooses(client: int) -> bool:
    """Say whether a client goes to the replicas by itself; the others ask the node beside them."""
    return client % 3 == 2


class _Scene:
    """A run in its parts: the workload under trouble, the mending, the final reads."""

    def __init__(self, plan: Plan, world: World) -> None:
        self._plan = plan
        self._world = world
        self._trouble = Trouble(world)
        self.recorder = ReachRecorder(world, self._trouble, {"seed": plan.seed, "mode": plan.mode, "theme": plan.theme})
        self._ledger = Ledger()
        self._shoppers = [self._shopper(number, name) for number, name in enumerate(world.names)]
        self._shells = [self._shell(number, name) for number, name in enumerate(world.names)]
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
        whole = {"r": plan.replicas}
        self._read([self._reading(self._shoppers[0], keys, whole)])
        self._read([self._shoppers[0].scan(keys, **whole)])
        self._read_all = self._count()
        self._read([self._reading(shopper, keys, {}) for shopper in self._shoppers])

    def verdicts(self) -> tuple[Verdict, ...]:
        """Judge what happened."""
        operations = self.recorder.history().operations
        durable = History(operations[: self._read_all])
        usual = History(operations[: self._played] + operations[self._read_all :])
        met = self._met_quorums()
        visible = [visibility(met)] if any(each.op == "read" for each in met.operations) else []
        return (
            self._started(),
            self._answered(),
            self._honest(),
            replace(lost_writes(durable), checker="durable"),
            *visible,
            *self._ledger.verdicts(doubled=self._plan.doubles),
            self._settled(),
            self.recorder.reach(),
            replace(lost_writes(usual), checker="lost_writes"),
            digests_converged(self._digests),
        )

    def _met_quorums(self) -> History:
        """Return the operations whose quorums overlapped, by demand or because no target was missed."""
        operations = self.recorder.history().operations[: self._played]
        removed = {each.element for each in operations if each.op == "remove"}
        return History(
            tuple(
                each
                for each in operations
                if (each.key.startswith(FIRM_KEYS) or not each.degraded) and each.element not in removed
            )
        )

    def _read(self, scripts: list[Script]) -> None:
        for shell, script in zip(self._shells, scripts, strict=False):
            Runner(self._world.timeline, shell, script)
        self._world.timeline.run(_READING_SECONDS, until=lambda: not self.recorder.open_count)

    @staticmethod
    def _reading(shopper: Shopper, keys: list[str], demand: dict[str, int]) -> Script:
        for key in keys:
            yield from shopper.read(key, final=True, **demand)

    def _count(self) -> int:
        return len(self.recorder.history().operations)

    def _shopper(self, number: int, name: str) -> Shopper:
        plan = self._plan
        habits = Habits(keys=plan.keys, quorum=plan.replicas // 2 + 1, replicas=plan.replicas, doubled=plan.doubles)
        rng = Random(f"client {plan.seed} {number}")
        node = None if _chooses(number) else name
        return Shopper(number, node, rng, self._world.timeline, self.recorder, self._ledger, habits)

    def _shell(self, number: int, name: str) -> ClientShell:
        if _chooses(number):
            return self._world.open_shell(routing="topology", beside=name)
        return self._world.open_shell(name, beside=name)

    def _started(self) -> Verdict:
        for name in self._world.names:
            self._trouble.note_damage(name)
        refused = self._trouble.refused_starts
        reason = refused[0] if refused else "every node started from what its disk held"
        return Verdict(checker="recovery", ok=not refused, reason=reason, judged=len(self._world.names))

    def _settled(self) -> Verdict:
        left = {name: process.node.pending() for name, process in self._world.processes.items() if process.is_up}
        open_at = [f"{name} still has {count} operations in flight" for name, count in left.items() if count]
        reason = "; ".join(open_at) or "no node kept an operation that nobody waits for"
        return Verdict(checker="settled", ok=not open_at, reason=reason, judged=len(left))

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
