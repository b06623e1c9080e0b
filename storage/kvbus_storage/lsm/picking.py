"""What to compact next: the level whose size is furthest over its target, and a bounded part of it. Pure.

Level 0 is picked by its depth, the number of runs that lie over each other between two guards. So one compaction takes
what lies between two guards, never the whole of level 1, and of many runs the oldest.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile

from kvbus_storage.lsm.levels import LEVELS, Levels, Run
from kvbus_storage.options import EngineOptions
from kvbus_storage.table.table import Table

_GUARDS_A_LEVEL = 4
_RUNS_AT_ONCE = 4
"""Times ``level0_runs`` that one compaction reads: a block of each is in memory, and a flush waits meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """``runs`` are the inputs, newest first; what they become belongs to level ``to``.

    ``drops_removals`` says that no table outside can hold an older state of any of their keys. ``moves`` says that the
    one input can go to ``to`` as it is.
    """

    runs: list[list[Table]]
    to: int
    drops_removals: bool
    moves: bool
    run: int = 0

    @property
    def tables(self) -> list[Table]:
        """All inputs."""
        return [table for run in self.runs for table in run]


class Picker:
    """Picks compactions; it goes round each level's keys, so that all of them have their turn."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._cursors = [b""] * LEVELS

    def pick(self, levels: Levels, avoid: Collection[int] = (), *, all_of_it: bool = False) -> Compaction | None:
        """Return what to compact next, without the tables whose numbers ``avoid`` holds; None where nothing is due.

        Dropped keys that lie in tables come last. With ``all_of_it`` there is something due as long as more than one
        level is in use, or one of level 0.
        """
        due = [level for score, level in sorted(self._scores(levels), reverse=True) if score >= 1]
        if all_of_it:
            used = sorted({run.level for run in levels.runs})
            due += [level for level in used if level == 0 or level < used[-1]]
        for level in due:
            for candidate in self._depths(levels, avoid) if level == 0 else self._tables(levels, level):
                if not _meets(candidate.tables, avoid):
                    return candidate
        return _with_dropped_keys(levels, avoid)

    def depth(self, levels: Levels) -> int:
        """Return the most runs of level 0 that lie over each other."""
        return max(depth for depth, _, _ in self._intervals(levels))

    def _scores(self, levels: Levels) -> list[tuple[float, int]]:
        scores = [(self.depth(levels) / self._options.level0_runs, 0)]
        target: float = self._options.level1_bytes
        for level in range(1, LEVELS - 1):
            runs = levels.level(level)
            scores.append(((runs[0].size_bytes if runs else 0) / target, level))
            target *= self._options.level_ratio
        return scores

    def _intervals(self, levels: Levels) -> list[tuple[int, int, int]]:
        """Return the depth between two guards, the bytes there, and the interval's number, of each."""
        depths = [0] * (len(levels.guards) + 1)
        sizes = [0] * (len(levels.guards) + 1)
        for run in levels.level(0):
            touched: dict[int, None] = {}
            for table in run.tables:
                first = bisect_right(levels.guards, table.first_key)
                last = bisect_right(levels.guards, table.last_key)
                for interval in range(first, last + 1):
                    touched[interval] = None
                    sizes[interval] += table.meta.size_bytes
            for interval in touched:
                depths[interval] += 1
        return list(zip(depths, sizes, range(len(depths)), strict=True))

    def _depths(self, levels: Levels, avoid: Collection[int]) -> Iterator[Compaction]:
        """Yield what lies between two guards of level 0 and below it, the deepest first, of many runs the oldest.

        Where tables to avoid are in the way, the runs above them are put together within level 0.
        """
        guards, runs = levels.guards, levels.level(0)
        for depth, _, interval in sorted(self._intervals(levels), reverse=True):
            if not depth:
                return
            chosen = [
                [
                    table
                    for table in run.tables
                    if bisect_right(guards, table.first_key) <= interval <= bisect_right(guards, table.last_key)
                ]
                for run in runs
            ]
            # A table that was cut before a guard came reaches further, and so must whatever overlaps it.
            while (wider := _overlapping(runs, chosen)) != chosen:
                chosen = wider
            there = [(run.number, tables) for run, tables in zip(runs, chosen, strict=True) if tables]
            oldest = there[-_RUNS_AT_ONCE * self._options.level0_runs :]
            downwards = self._compaction(levels, [tables for _, tables in oldest], 1)
            if not _meets(downwards.tables, avoid):
                yield downwards
                continue
            above = list(takewhile(lambda each: not _meets(each[1], avoid), there))
            if len(above) > 1 and len(above) >= self._options.level0_runs:
                inputs = [tables for _, tables in above]
                yield Compaction(runs=inputs, to=0, run=above[0][0], drops_removals=False, moves=False)

    def _tables(self, levels: Levels, level: int) -> Iterator[Compaction]:
        """Yield each table of a level with what lies below it, going on behind the one that was asked for last."""
        (run,) = levels.level(level)
        begin = bisect_right([table.first_key for table in run.tables], self._cursors[level])
        for table in (*run.tables[begin:], *run.tables[:begin]):
            self._cursors[level] = table.first_key
            yield self._compaction(levels, [[table]], level + 1)

    def _compaction(self, levels: Levels, runs: list[list[Table]], to: int) -> Compaction:
        first, last = _bounds([table for run in runs for table in run])
        below = [table for run in levels.level(to) for table in run.overlapping(first, last)]
        inputs = [*runs, below] if below else runs
        first, last = _bounds([table for run in inputs for table in run])
        only = inputs[0][0] if len(inputs) == len(inputs[0]) == 1 else None
        return Compaction(
            runs=inputs,
            to=to,
            drops_removals=not _older(levels, to, first, last),
            moves=only is not None and not only.hidden and not only.meta.removals,
        )


def fitting_guards(levels: Levels, options: EngineOptions) -> list[bytes]:
    """Return the keys at which levels 0 and 1 are to be cut from now on.

    No interval of level 1 holds much over ``guard_bytes``. There are at most four times as many as a full level 1 calls
    for: those go first that have the least between their neighbours, as after a load that went on to other keys.
    """
    found = list(levels.guards)
    for run in levels.level(1):
        size = 0
        for table in run.tables:
            if table.first_key in levels.guards:
                size = 0
            if size >= options.guard_bytes:
                found.append(table.first_key)
                size = 0
            size += table.meta.size_bytes
    found.sort()
    most = _GUARDS_A_LEVEL * max(options.level1_bytes // options.guard_bytes, 1)
    if len(found) > most:
        sizes = [0] * (len(found) + 1)
        for run in (*levels.level(0), *levels.level(1)):
            for table in run.tables:
                sizes[bisect_right(found, table.first_key)] += table.meta.size_bytes
        while len(found) > most:
            least = min(range(len(found)), key=lambda index: sizes[index] + sizes[index + 1])
            sizes[least : least + 2] = [sizes[least] + sizes[least + 1]]
            del found[least]
    return found


def _with_dropped_keys(levels: Levels, avoid: Collection[int]) -> Compaction | None:
    """Return a table of level 1 or below that dropped keys are still in, to be written without them."""
    for run in levels.runs:
        for table in run.tables if run.level else ():
            if table.hidden and table.number not in avoid:
                older = _older(levels, run.level, table.first_key, table.last_key)
                return Compaction(runs=[[table]], to=run.level, drops_removals=not older, moves=False)
    return None


def _older(levels: Levels, level: int, first: bytes, last: bytes) -> bool:
    """Say whether a table below ``level`` may hold an older state of keys from ``first`` to ``last``."""
    return any(run.level > level and run.overlapping(first, last) for run in levels.runs)


def _meets(tables: Iterable[Table], avoid: Collection[int]) -> bool:
    return any(table.number in avoid for table in tables)


def _overlapping(runs: list[Run], chosen: list[list[Table]]) -> list[list[Table]]:
    first, last = _bounds([table for run in chosen for table in run])
    return [run.overlapping(first, last) for run in runs]


def _bounds(tables: list[Table]) -> tuple[bytes, bytes]:
    return min(table.first_key for table in tables), max(table.last_key for table in tables)
