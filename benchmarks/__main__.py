"""``python -m benchmarks``: kvbus beside etcd, Redis and a raw echo, in interleaved rounds; medians and ratios."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from benchmarks.bars import BARS, Bar, scenarios
from benchmarks.closed_loop import Run, measure
from benchmarks.machine import STOLEN_PERCENT, facts
from benchmarks.measurement import KEYS, VALUE_BYTES, BenchmarkError, Scenario
from benchmarks.processes import CHECKOUT, Children
from benchmarks.report import BarRow, bar_rows, document, scenario_rows
from benchmarks.tables import print_bars, print_scenarios

_FULL = (5, 3.0)
_QUICK = (2, 1.5)
_TERMINAL_COLUMNS = 110
_NOTES = (
    "Puts overwrite {keys:,} keys with values of {value} B; a kvbus put carries the context of this client's last put "
    "to its key.",
    "Unpacked: by a client of its own with keys of its own, one operation a frame instead of all that was issued in "
    "one turn of the client's loop. etcd's gets are "
    "linearizable; a Redis put is SET and WAIT 1 with the log synced at every write.",
    "Ratios are taken round by round; the median of {rounds} rounds of {seconds:g} s counts. "
    "Other work on this machine shows as a wide spread.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What to measure and how long."""

    scenarios: list[Scenario]
    bars: list[Bar]
    rounds: int
    seconds: float

    @classmethod
    def choose(cls, only: str | None, rounds: int, seconds: float) -> Plan:
        """Keep the bars whose names hold ``only``, and the scenarios that they need; None keeps all."""
        if only is None:
            return cls(scenarios=scenarios(), bars=list(BARS), rounds=rounds, seconds=seconds)
        bars = [bar for bar in BARS if only in bar.name]
        if not bars:
            raise typer.BadParameter(f"no bar's name holds {only!r}; bars: {'; '.join(bar.name for bar in BARS)}")
        needed = [scenario for scenario in scenarios() if any(scenario in (bar.ours, bar.theirs) for bar in bars)]
        return cls(scenarios=needed, bars=bars, rounds=rounds, seconds=seconds)


def main(
    quick: Annotated[bool, typer.Option("--quick", help="2 rounds of 1.5 s.")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help=f"Rounds.  [default: {_FULL[0]}]")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help=f"Seconds a loop.  [default: {_FULL[1]:g}]")] = None,
    only: Annotated[str | None, typer.Option(help="Only bars whose names hold this text.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
    folder: Annotated[
        Path, typer.Option("--dir", help="Where data lie while it runs; a real disk, or syncs cost nothing.")
    ] = CHECKOUT / ".bench",
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 unless every floor is met.")] = False,
) -> None:
    """Measure kvbus beside its peers. Peers that are not installed are skipped."""
    default_rounds, default_seconds = _QUICK if quick else _FULL
    plan = Plan.choose(only, rounds or default_rounds, seconds or default_seconds)
    # A pipe has no width of its own, and 80 columns would fold the tables.
    console = Console(width=None if sys.stdout.isatty() else _TERMINAL_COLUMNS)
    signal.signal(signal.SIGTERM, _terminated)
    folder.mkdir(parents=True, exist_ok=True)
    machine = facts(folder)
    console.print("  ".join(f"{name} {value}" for name, value in machine.items()), highlight=False)
    run = Run()
    try:
        with tempfile.TemporaryDirectory(dir=folder) as place, Children(Path(place)) as children:
            measure(
                plan.scenarios,
                children,
                rounds=plan.rounds,
                seconds=plan.seconds,
                say=lambda line: console.print(line, style="dim", highlight=False, markup=False),
                run=run,
            )
    except BenchmarkError as error:
        console.print(str(error), style="red", markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped", style="red")
        sys.exit(130)
    rows = _report(console, plan, run, machine, json_file)
    if check and not all(row.passed for row in rows):
        sys.exit(1)


def _report(console: Console, plan: Plan, run: Run, machine: dict[str, object], json_file: Path | None) -> list[BarRow]:
    rows = bar_rows(plan.bars, run.results)
    print_scenarios(console, scenario_rows(run.results))
    print_bars(console, rows, title="Bars (AP, W = R = 2, fsynced)")
    for name, reason in run.skipped.items():
        console.print(f"{name} was not measured: {reason}", markup=False)
    for note in _NOTES:
        text = note.format(keys=KEYS, value=VALUE_BYTES, rounds=plan.rounds, seconds=plan.seconds)
        console.print(text, style="dim", highlight=False)
    if run.disturbed:
        console.print(
            f"Made again, because the host took more than {STOLEN_PERCENT:g} % of the processors: {run.disturbed} "
            "measurements.",
            style="dim",
        )
    idle = ", ".join(f"{name} {percent:g} %" for name, percent in run.idle_percent.items())
    if idle:
        console.print(f"All servers stay up; one core's share that each takes when idle: {idle}.", style="dim")
    if json_file is not None:
        settings = {
            "rounds": plan.rounds, "seconds": plan.seconds, "keys": KEYS, "value_bytes": VALUE_BYTES,
            "idle_percent": run.idle_percent, "disturbed": run.disturbed,
        }  # fmt: skip
        report = document(machine, settings, run.results, rows, {str(k): v for k, v in run.skipped.items()})
        json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return rows


def _terminated(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    typer.run(main)
