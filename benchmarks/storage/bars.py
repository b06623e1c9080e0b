"""The bars that our engine must pass: ratios of two figures of one round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.bars import Bounds
from benchmarks.report import BarRow, judge
from benchmarks.storage.figures import Cell, Figures, Phase
from benchmarks.storage.store import StoreName

Results = Mapping[Cell, Sequence[Figures]]
"""The figures of each cell, one a round, in the order of the rounds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StorageBar(Bounds):
    """The bounds of ``figure of ours / figure of theirs``."""

    ours: Cell
    theirs: Cell
    figure: Literal["keys_per_second", "p99_us"] = "keys_per_second"


def _bar(name: str, cells: tuple[StoreName, Phase, int, bool], floor: float, goal: float) -> StorageBar:
    theirs = Cell(*cells)
    ours = Cell("lsm", theirs.phase, theirs.value_bytes, theirs.synced)
    return StorageBar(name=name, ours=ours, theirs=theirs, floor=floor, goal=goal)


BARS = (
    _bar("put / raw append, 100 B, synced", ("append", "put", 100, True), 0.6, 0.9),
    _bar("put / LevelDB put, 100 B, synced", ("leveldb", "put", 100, True), 1, 1.5),
    _bar("get / LevelDB get, 100 B", ("leveldb", "get hit", 100, True), 0.55, 1),
    _bar("put / LevelDB put, 1 KB, not synced", ("leveldb", "put", 1000, False), 0.7, 1),
    StorageBar(
        name="put p99, worker busy / idle (less is better)",
        ours=Cell("lsm", "put, worker busy", 100, True),
        theirs=Cell("lsm", "put, worker idle", 100, True),
        floor=2,
        goal=1.3,
        figure="p99_us",
    ),
)


def bar_row(bar: StorageBar, results: Results) -> BarRow:
    """Judge one bar; rounds that only one side has do not count."""
    ours, theirs = results.get(bar.ours, ()), results.get(bar.theirs, ())
    pairs = zip(ours, theirs, strict=False)
    found = [getattr(mine, bar.figure) / getattr(other, bar.figure) for mine, other in pairs]
    return judge(bar, found, errors=any(figures.errors for figures in (*ours, *theirs)))
