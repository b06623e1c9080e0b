"""Ratios, medians and verdicts: from samples to rows, without a clock or a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Literal

from benchmarks.bars import Bar, Bounds
from benchmarks.measurement import Sample, Scenario

Verdict = Literal["goal met", "met", "missed", "errors", "not measured"]
Results = Mapping[Scenario, Sequence[Sample]]
"""The samples of each scenario, one a round, in the order of the rounds."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, and the smallest and greatest value over the rounds."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Sum up at least one value."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class BarRow:
    """A bar and what became of it; ``ratio`` is None where it was not measured."""

    bar: Bounds
    ratio: Spread | None
    verdict: Verdict

    @property
    def passed(self) -> bool:
        """Tell whether the floor is met."""
        return self.verdict in ("met", "goal met")


@dataclass(frozen=True, slots=True)
class ScenarioRow:
    """A scenario's medians over its rounds, and the sum of its errors."""

    scenario: Scenario
    ops_per_second: Spread
    p50_us: float
    p99_us: float
    errors: int
    last_error: str


def ratios(bar: Bar, results: Results) -> list[float]:
    """Return ours / theirs of each round in which both were measured; a latency of 0 is none."""
    ours = [getattr(sample, bar.figure) for sample in results.get(bar.ours, ())]
    theirs = [getattr(sample, bar.figure) for sample in results.get(bar.theirs, ())]
    pairs = zip(ours, theirs, strict=False)
    return [mine / other for mine, other in pairs if other and (mine or not bar.lower_is_better)]


def bar_row(bar: Bar, results: Results) -> BarRow:
    """Judge one bar by the ratios of its rounds."""
    errors = any(sample.errors for scenario in (bar.ours, bar.theirs) for sample in results.get(scenario, ()))
    return judge(bar, ratios(bar, results), errors=errors)


def judge(bar: Bounds, found: Sequence[float], *, errors: bool) -> BarRow:
    """Judge a bar by the median of the ratios ``found``; a run with failed operations proves nothing."""
    if not found:
        return BarRow(bar, None, "not measured")
    ratio = Spread.of(found)
    if errors:
        return BarRow(bar, ratio, "errors")
    if bar.passes(ratio.median, bar.goal):
        return BarRow(bar, ratio, "goal met")
    return BarRow(bar, ratio, "met" if bar.passes(ratio.median, bar.floor) else "missed")


def bar_rows(bars: Iterable[Bar], results: Results) -> list[BarRow]:
    """Judge all bars, in their order."""
    return [bar_row(bar, results) for bar in bars]


def scenario_rows(results: Results) -> list[ScenarioRow]:
    """Sum up each scenario that was measured."""
    return [
        ScenarioRow(
            scenario,
            Spread.of([sample.ops_per_second for sample in samples]),
            median(sample.p50_us for sample in samples),
            median(sample.p99_us for sample in samples),
            sum(sample.errors for sample in samples),
            next((sample.last_error for sample in reversed(samples) if sample.last_error), ""),
        )
        for scenario, samples in results.items()
        if samples
    ]


def document(
    machine: Mapping[str, object],
    settings: Mapping[str, object],
    results: Results,
    rows: Sequence[BarRow],
    skipped: Mapping[str, str],
) -> dict[str, object]:
    """Return the whole report as JSON holds it; ``skipped`` maps a system to why it was not measured."""
    return {
        "machine": dict(machine),
        "settings": dict(settings),
        "scenarios": [
            {**asdict(scenario), "rounds": [asdict(sample) for sample in samples]}
            for scenario, samples in results.items()
        ],
        "bars": bars_document(rows),
        "skipped": dict(skipped),
    }


def bars_document(rows: Sequence[BarRow]) -> list[dict[str, object]]:
    """Return the bars as JSON holds them."""
    return [
        {
            "name": row.bar.name,
            "figure": row.bar.figure,
            "ratio": None if row.ratio is None else asdict(row.ratio),
            "floor": row.bar.floor,
            "goal": row.bar.goal,
            "verdict": row.verdict,
        }
        for row in rows
    ]
