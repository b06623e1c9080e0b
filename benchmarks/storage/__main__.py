"""``python -m benchmarks.storage``: our engine beside other embedded stores, in interleaved rounds; ratios and bars."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console

from benchmarks.machine import STOLEN_PERCENT, facts
from benchmarks.measurement import BenchmarkError
from benchmarks.processes import CHECKOUT
from benchmarks.report import BarRow, bars_document
from benchmarks.storage.bars import BARS, bar_row
from benchmarks.storage.rounds import Run, measure
from benchmarks.storage.stall import FULL_STALL, QUICK_STALL, StallPlan
from benchmarks.storage.store import StoreName, System
from benchmarks.storage.systems import SYSTEMS
from benchmarks.storage.tables import print_puts, print_reads, print_settings, print_stalls
from benchmarks.storage.workload import FULL, QUICK, Workload
from benchmarks.tables import print_bars

_FULL_ROUNDS, _QUICK_ROUNDS = 3, 1
_TERMINAL_COLUMNS = 120
_NOTES = (
    "Keys of 22 bytes in random order, values that do not compress; each trial in a process and a folder of its own.",
    "Written: bytes in calls that write, by the kernel's count, until the store had settled; in brackets its own "
    "count: log, flushes, compactions, without the zeros that the log is filled with ahead of its tail. "
    "Stored: disk space after a compaction of everything.",
    "Medians over the rounds. Reads come after the synced puts have settled. Ratios are taken round by round. "
    "Other work on this machine shows as a wide spread.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What to measure."""

    quick: bool
    systems: Sequence[System]
    workloads: Sequence[Workload]
    stall: StallPlan | None
    rounds: int
    skipped: Mapping[StoreName, str]

    @classmethod
    def choose(cls, only: Sequence[str], *, quick: bool, rounds: int | None) -> Plan:
        """Keep what is wanted (``only``, empty for all) and installed."""
        unknown = [name for name in only if name not in SYSTEMS]
        if unknown:
            raise typer.BadParameter(f"there is no store {', '.join(unknown)}; stores: {', '.join(SYSTEMS)}")
        wanted = [system for system in SYSTEMS.values() if not only or system.name in only]
        skipped = {system.name: reason for system in wanted if (reason := system.missing()) is not None}
        return cls(
            quick=quick,
            systems=[system for system in wanted if system.name not in skipped],
            workloads=QUICK if quick else FULL,
            stall=(QUICK_STALL if quick else FULL_STALL) if not only or "lsm" in only else None,
            rounds=rounds or (_QUICK_ROUNDS if quick else _FULL_ROUNDS),
            skipped=skipped,
        )


def main(
    quick: Annotated[bool, typer.Option("--quick", help="A smoke test: small numbers, one round.")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help=f"Rounds.  [default: {_FULL_ROUNDS}]")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this store; may be given again.")] = None,
    output: Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="What to print.")] = "table",
    folder: Annotated[
        Path, typer.Option("--dir", help="Where data lie while it runs; a real disk, or syncs cost nothing.")
    ] = CHECKOUT / ".bench",
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 unless every floor is met.")] = False,
) -> None:
    """Measure our engine beside its peers. Peers that are not installed are named and skipped."""
    plan = Plan.choose(only or [], quick=quick, rounds=rounds)
    # A pipe has no width of its own, and 80 columns would fold the tables.
    console = Console(width=None if sys.stdout.isatty() else _TERMINAL_COLUMNS)
    progress = Console(stderr=True)
    signal.signal(signal.SIGTERM, _terminated)
    folder.mkdir(parents=True, exist_ok=True)
    machine = facts(folder)
    run = Run()
    interrupted = False
    try:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            measure(
                plan.systems,
                plan.workloads,
                plan.stall,
                Path(place),
                rounds=plan.rounds,
                smoke=quick,
                say=lambda line: progress.print(line, style="dim", highlight=False, markup=False),
                found=run,
            )
    except BenchmarkError as error:
        progress.print(str(error), style="red", markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        progress.print("interrupted; everything is stopped, and what there is follows", style="red")
        interrupted = True
    rows = [bar_row(bar, run.figures) for bar in BARS]
    if output == "json":
        print(json.dumps(_document(plan, run, rows, machine), indent=2))
    else:
        _report(console, plan, run, rows, machine)
    if interrupted:
        sys.exit(130)
    if check and not all(row.passed for row in rows):
        sys.exit(1)


def _report(console: Console, plan: Plan, run: Run, rows: Sequence[BarRow], machine: Mapping[str, object]) -> None:
    console.print("  ".join(f"{name} {value}" for name, value in machine.items()), highlight=False)
    print_puts(console, run, plan.workloads)
    for value_bytes in dict.fromkeys(workload.value_bytes for workload in plan.workloads):
        print_reads(console, run, value_bytes)
    print_stalls(console, run)
    meaning = "a smoke test, too small to judge by" if plan.quick else f"median and range of {run.rounds} rounds"
    print_bars(console, rows, title=f"Bars ({meaning})")
    for name, reason in plan.skipped.items():
        console.print(f"{SYSTEMS[name].label} was not measured: {reason}", markup=False)
    print_settings(console, plan.systems)
    for note in _NOTES:
        console.print(note, style="dim", highlight=False)
    if run.disturbed:
        console.print(
            f"Made again, as the host took more than {STOLEN_PERCENT:g} % of the processors: {run.disturbed} trials.",
            style="dim",
        )
    if run.loads:
        console.print(f"Load averages before the trials: {min(run.loads):.1f} to {max(run.loads):.1f}.", style="dim")


def _document(plan: Plan, run: Run, rows: Sequence[BarRow], machine: Mapping[str, object]) -> dict[str, object]:
    return {
        "machine": dict(machine),
        "settings": {system.name: system.settings for system in plan.systems},
        "workloads": [asdict(workload) for workload in plan.workloads],
        "stall": None if plan.stall is None else asdict(plan.stall),
        "figures": [
            {**asdict(cell), "rounds": [asdict(figures) for figures in found]} for cell, found in run.figures.items()
        ],
        "amplification": [
            {**asdict(cell), "rounds": [asdict(each) for each in found]} for cell, found in run.amplifications.items()
        ],
        "busy_percent": run.busy_percents,
        "load_averages": run.loads,
        "disturbed": run.disturbed,
        "bars": bars_document(rows),
        "skipped": dict(plan.skipped),
    }


def _terminated(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    typer.run(main)
