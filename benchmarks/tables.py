"""The report as a person reads it."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.report import BarRow, ScenarioRow, Verdict

_STYLES: dict[Verdict, str] = {
    "goal met": "bold green",
    "met": "green",
    "missed": "bold red",
    "errors": "bold red",
    "not measured": "dim",
}


def print_scenarios(console: Console, rows: Sequence[ScenarioRow]) -> None:
    """Print the medians of all closed loops."""
    table = Table(title="Closed loops (medians over the rounds)", box=box.SIMPLE, title_justify="left")
    table.add_column("what")
    for name in ("open", "ops/s", "min–max", "p50 ms", "p99 ms", "errors"):
        table.add_column(name, justify="right")
    for row in rows:
        scenario, speed = row.scenario, row.ops_per_second
        table.add_row(
            scenario.label,
            str(scenario.outstanding),
            f"{speed.median:,.0f}",
            f"{speed.least:,.0f}–{speed.greatest:,.0f}",
            f"{row.p50_us / 1000:.2f}",
            f"{row.p99_us / 1000:.2f}",
            f"[bold red]{row.errors}[/]" if row.errors else "0",
        )
    console.print(table)
    for row in rows:
        if row.errors:
            console.print(
                f"{row.scenario.label}, {row.scenario.outstanding} open: the last error was: {row.last_error}",
                style="red",
                markup=False,
            )


def print_bars(console: Console, rows: Sequence[BarRow], *, title: str) -> None:
    """Print each bar with its ratio, its spread and the verdict."""
    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    table.add_column("ratio")
    for name in ("median", "min–max", "floor", "goal"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for row in rows:
        ratio = row.ratio
        table.add_row(
            row.bar.name,
            "–" if ratio is None else f"{ratio.median:.2f}",
            "–" if ratio is None else f"{ratio.least:.2f}–{ratio.greatest:.2f}",
            f"{row.bar.floor:g}",
            f"{row.bar.goal:g}",
            f"[{_STYLES[row.verdict]}]{row.verdict}[/]",
        )
    console.print(table)
