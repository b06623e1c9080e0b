"""The storage report as a person reads it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.report import Spread
from benchmarks.storage.figures import PHASES, Cell
from benchmarks.storage.rounds import Run
from benchmarks.storage.store import System
from benchmarks.storage.systems import SYSTEMS
from benchmarks.storage.workload import Workload

_PUTS = ("put", "put, worker idle", "put, worker busy")


def print_puts(console: Console, run: Run, workloads: Sequence[Workload]) -> None:
    """Print for each workload how fast the stores took its puts, and what that cost in bytes."""
    for workload in workloads:
        table = _table(f"Puts, {workload.label}, 64 a batch")
        for name in ("keys/s", "min–max", "p50 ms", "p99 ms", "worst ms", "settle s", "written", "stored"):
            table.add_column(name, justify="right", no_wrap=True)
        for system in SYSTEMS.values():
            cell = Cell(system.name, "put", workload.value_bytes, workload.synced)
            if cell in run.figures:
                table.add_row(system.label, *_speed(run, cell), *_latencies(run, cell), *_amplification(run, cell))
        console.print(table)


def print_reads(console: Console, run: Run, value_bytes: int) -> None:
    """Print how fast the stores are read: single gets of keys that are there and of such that are not, and a scan."""
    phases = [phase for phase in PHASES if phase not in _PUTS]
    table = _table(f"Reads, {value_bytes} B values (keys/s)")
    for phase in phases:
        table.add_column(phase, justify="right")
    for system in SYSTEMS.values():
        cells = [Cell(system.name, phase, value_bytes, True) for phase in phases]
        if any(cell in run.figures for cell in cells):
            table.add_row(
                system.label, *("\n".join(_speed(run, cell)) if cell in run.figures else "–" for cell in cells)
            )
    if table.row_count:
        console.print(table)


def print_stalls(console: Console, run: Run) -> None:
    """Print how long puts at a fixed rate took with an idle and with a busy worker."""
    cells = [cell for cell in run.figures if cell.phase in _PUTS[1:]]
    if not cells:
        return
    table = _table("Stalls")
    for name in ("p50 ms", "p99 ms", "worst ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for cell in cells:
        table.add_row(cell.phase, *_latencies(run, cell))
    console.print(table)
    console.print(
        "16 puts of 100 B arrive each millisecond; each turn writes what has arrived as one synced batch. "
        f"The worker had a job beside {median(run.busy_percents):.0f} % of the busy engine's puts; only those count.",
        style="dim",
        highlight=False,
    )


def print_settings(console: Console, systems: Sequence[System]) -> None:
    """Print under which settings the stores ran."""
    for system in systems:
        console.print(f"{system.label}: {system.settings}", style="dim", highlight=False, soft_wrap=True)


def _table(title: str) -> Table:
    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    table.add_column("")
    return table


def _speed(run: Run, cell: Cell) -> tuple[str, str]:
    speed = Spread.of([figures.keys_per_second for figures in run.figures[cell]])
    wrong = sum(figures.errors for figures in run.figures[cell])
    mark = f" [bold red]{wrong} wrong[/]" if wrong else ""
    return f"{speed.median:,.0f}{mark}", f"{speed.least:,.0f}–{speed.greatest:,.0f}"


def _latencies(run: Run, cell: Cell) -> tuple[str, str, str]:
    found = run.figures[cell]
    return (
        f"{median(figures.p50_us for figures in found) / 1000:.2f}",
        f"{median(figures.p99_us for figures in found) / 1000:.2f}",
        f"{median(figures.worst_us for figures in found) / 1000:.1f}",
    )


def _amplification(run: Run, cell: Cell) -> tuple[str, str, str]:
    found = run.amplifications[cell]
    written = [each.written for each in found if each.written is not None]
    own = [each.own_written for each in found if each.own_written is not None]
    return (
        f"{median(each.settle_seconds for each in found):.1f}",
        (f"{median(written):.1f}" if written else "–") + (f" ({median(own):.1f})" if own else ""),
        f"{median(each.stored for each in found):.2f}",
    )
