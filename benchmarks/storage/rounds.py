"""Interleaved rounds: each trial in a process and a folder of its own, one after the other."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic

from benchmarks.machine import least_disturbed
from benchmarks.processes import module, run
from benchmarks.storage.figures import RESULT, Amplification, Cell, Figures, TrialResult
from benchmarks.storage.stall import PLAN, VALUE_BYTES, StallPlan
from benchmarks.storage.store import StoreName, System
from benchmarks.storage.trial import WORKLOAD
from benchmarks.storage.workload import Workload

_TRIAL_SECONDS = 900.0
_MOST_TRIES = 2

Say = Callable[[str], None]


@dataclass(slots=True)
class Run:
    """What a run has found, round by round; ``disturbed`` counts the trials that do not count.

    ``rounds`` counts those that are complete. ``loads`` are the machine's load averages before each trial,
    ``busy_percents`` the shares of puts in the stall trial's busy turns that had a busy worker beside them.
    """

    figures: dict[Cell, list[Figures]] = field(default_factory=dict[Cell, list[Figures]])
    amplifications: dict[Cell, list[Amplification]] = field(default_factory=dict[Cell, list[Amplification]])
    busy_percents: list[float] = field(default_factory=list[float])
    loads: list[float] = field(default_factory=list[float])
    disturbed: int = 0
    rounds: int = 0


def measure(
    systems: Sequence[System],
    workloads: Sequence[Workload],
    stall: StallPlan | None,
    folder: Path,
    *,
    rounds: int,
    smoke: bool,
    say: Say,
    found: Run,
) -> None:
    """Measure into ``found``, which holds what there is after an interruption too.

    Stores that are compared follow each other; every other round goes backwards, so that what drifts does not favour
    who comes first. A trial that the host disturbed is made again, once. A ``smoke`` test does without that, and
    without waiting until the trial before has nothing left for the disk to write.

    Raises:
        BenchmarkError: a trial failed.
    """
    trial = partial(_trial, found, folder, smoke)
    trials = [(system, workload) for workload in workloads for system in systems]
    for number in range(rounds):
        for system, workload in trials if number % 2 == 0 else reversed(trials):
            say(f"round {number + 1}/{rounds}  {system.label}, {workload.label}")
            arguments = (system.name, WORKLOAD.dump_json(workload).decode())
            result = trial("benchmarks.storage.trial", *arguments)
            _note(found, system.name, workload.value_bytes, workload.synced, result)
        if stall is not None:
            say(f"round {number + 1}/{rounds}  stalls")
            result = trial("benchmarks.storage.stall", PLAN.dump_json(stall).decode())
            _note(found, "lsm", VALUE_BYTES, True, result)
        found.rounds += 1


def _trial(found: Run, folder: Path, smoke: bool, name: str, *arguments: str) -> TrialResult:
    if not smoke:
        os.sync()
    found.loads.append(os.getloadavg()[0])
    result, disturbed = least_disturbed(
        partial(_run_once, folder, name, *arguments), most_tries=1 if smoke else _MOST_TRIES
    )
    found.disturbed += disturbed
    return result


def _run_once(folder: Path, name: str, *arguments: str) -> TrialResult:
    place = folder / f"{monotonic():.6f}"
    place.mkdir()
    try:
        return RESULT.validate_json(run(module(name, *arguments, str(place)), _TRIAL_SECONDS))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _note(found: Run, store: StoreName, value_bytes: int, synced: bool, result: TrialResult) -> None:
    for phase, figures in result.phases.items():
        found.figures.setdefault(Cell(store, phase, value_bytes, synced), []).append(figures)
    if result.amplification is not None:
        found.amplifications.setdefault(Cell(store, "put", value_bytes, synced), []).append(result.amplification)
    if result.busy_percent is not None:
        found.busy_percents.append(result.busy_percent)
