"""A run: start the systems, go through the scenarios in rounds, stop everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import sleep

from benchmarks.echo import Echo
from benchmarks.etcd import Etcd
from benchmarks.kvbus_cluster import Kvbus
from benchmarks.machine import cpu_seconds, least_disturbed
from benchmarks.measurement import Sample, Scenario, System, SystemName
from benchmarks.processes import Children
from benchmarks.redis import Redis

# Filling leaves work behind, such as the peers' log rewrites.
_SETTLE_SECONDS = 2.0
_IDLE_SECONDS = 1.0

Say = Callable[[str], None]


@dataclass(slots=True)
class Run:
    """What a run has found: samples by scenario, peers that were skipped and why, idle processor shares in percent.

    ``disturbed`` counts the measurements that do not count.
    """

    results: dict[Scenario, list[Sample]] = field(default_factory=dict[Scenario, list[Sample]])
    skipped: dict[SystemName, str] = field(default_factory=dict[SystemName, str])
    idle_percent: dict[SystemName, float] = field(default_factory=dict[SystemName, float])
    disturbed: int = 0


def systems(children: Children) -> list[System]:
    """Return every system that can be measured; none is started."""
    return [Etcd(children), Kvbus(children), Redis(children), Echo(children)]


def measure(
    scenarios: Sequence[Scenario], children: Children, *, rounds: int, seconds: float, say: Say, run: Run
) -> None:
    """Measure ``scenarios`` in interleaved rounds into ``run``, which holds what there is after an interruption too.

    Every other round goes backwards, so that what drifts does not favour who comes first. All systems stay up: a
    paused one would come back with lost connections and an election, and idle ones cost little (see ``idle_percent``).

    Raises:
        BenchmarkError: a system does not start, or a load generator gives no answer.
    """
    wanted = {scenario.system for scenario in scenarios}
    running: dict[SystemName, System] = {}
    for system in systems(children):
        if system.name in wanted:
            reason = system.missing()
            if reason is not None:
                run.skipped[system.name] = reason
                say(f"skipped {system.name}: {reason}")
                continue
            say(f"starting {system.name}")
            system.start()
            running[system.name] = system
    run.idle_percent = _idle_percent(list(running.values()))
    there = [scenario for scenario in scenarios if scenario.system in running]
    run.results = {scenario: [] for scenario in there}
    for number in range(rounds):
        for scenario in there if number % 2 == 0 else reversed(there):
            sample, disturbed = least_disturbed(partial(running[scenario.system].measure, scenario, seconds))
            run.disturbed += disturbed
            run.results[scenario].append(sample)
            speed = f"{sample.ops_per_second:,.0f} ops/s"
            say(f"round {number + 1}/{rounds}  {scenario.label}, {scenario.outstanding} open: {speed}")


def _idle_percent(running: Sequence[System]) -> dict[SystemName, float]:
    sleep(_SETTLE_SECONDS)
    before = {system.name: cpu_seconds(system.process_ids()) for system in running}
    sleep(_IDLE_SECONDS)
    shares: dict[SystemName, float] = {}
    for system in running:
        used, first = cpu_seconds(system.process_ids()), before[system.name]
        if used is not None and first is not None:
            shares[system.name] = round((used - first) / _IDLE_SECONDS * 100, 1)
    return shares
