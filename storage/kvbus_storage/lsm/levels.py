"""Which tables there are and who lies above whom: level 0 has runs, newest first, each other level is one run.

A run's tables are in the order of their keys and do not overlap. A key's newest state is in the first run that holds
it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kvbus.ports.engine import ReadPath, ReadTable
from kvbus_storage.lsm.merge import Chunk
from kvbus_storage.table.bloom import hash_key
from kvbus_storage.table.format import table_name
from kvbus_storage.table.table import Table

LEVELS = 7
"""Level 6 holds what the levels above it do not: a million times level 1 with the usual ratio of ten."""


class Run:
    """Tables that do not overlap, in the order of their keys. ``number`` tells runs of level 0 apart."""

    __slots__ = ("last_keys", "level", "number", "tables")

    def __init__(self, level: int, number: int, tables: Iterable[Table]) -> None:
        self.level = level
        self.number = number
        self.tables = sorted(tables, key=lambda table: table.first_key)
        self.last_keys = [table.last_key for table in self.tables]

    @property
    def size_bytes(self) -> int:
        """Bytes of all its files."""
        return sum(table.meta.size_bytes for table in self.tables)

    def table_of(self, key: bytes) -> Table | None:
        """Return the table whose keys reach over ``key``, or None."""
        index = bisect_left(self.last_keys, key)
        if index < len(self.tables) and self.tables[index].first_key <= key:
            return self.tables[index]
        return None

    def overlapping(self, first: bytes, last: bytes) -> list[Table]:
        """Return the tables that hold keys between ``first`` and ``last``, both included."""
        tables = self.tables[bisect_left(self.last_keys, first) :]
        return tables[: bisect_right([table.first_key for table in tables], last)]

    def scan(self, start: bytes, end: bytes) -> Iterator[Chunk]:
        """Yield the entries with ``start <= key < end`` in order, dropped ranges left out."""
        for table in self.tables[bisect_left(self.last_keys, start) :]:
            if table.first_key >= end:
                return
            for visible_from, visible_to in table.visible(start, end):
                yield from table.scan(visible_from, visible_to)


@dataclass(slots=True)
class Probes:
    """What looking for keys in tables took: filters asked, those that said "maybe", and those that were wrong."""

    filters: int = 0
    maybes: int = 0
    false_positives: int = 0


@dataclass(frozen=True, slots=True)
class Levels:
    """All tables at one time; never changed, so that a scan or a snapshot can hold on to it.

    ``runs`` is the order in which a key is looked for. ``guards`` are the keys at which tables are cut.
    """

    runs: tuple[Run, ...] = ()
    guards: tuple[bytes, ...] = ()

    def tables(self) -> Iterator[Table]:
        """Yield every table."""
        for run in self.runs:
            yield from run.tables

    def sizes(self) -> dict[int, int]:
        """Return the bytes of each level's files."""
        found = dict.fromkeys(range(LEVELS), 0)
        for run in self.runs:
            found[run.level] += run.size_bytes
        return found

    def level(self, level: int) -> list[Run]:
        """Return the runs of a level, newest first; none or one of each but level 0."""
        return [run for run in self.runs if run.level == level]

    def find(self, key: bytes, probes: Probes) -> bytes | None:
        """Return what stands at ``key``: a record, REMOVED, or None.

        Raises:
            CorruptionError: a block is damaged.
        """
        hashed = hash_key(key)
        for run in self.runs:
            tables = run.tables
            index = bisect_left(run.last_keys, key)
            if index == len(tables):
                continue
            table = tables[index]
            if key < table.first_key:
                continue
            probes.filters += 1
            if hashed not in table.bloom:
                continue
            if table.hidden and table.hides(key):
                continue
            probes.maybes += 1
            record = table.find(key)
            if record is not None:
                return record
            probes.false_positives += 1
        return None

    def explain(self, key: bytes) -> ReadPath:
        """Return the way of :meth:`find`, without a trace of it in the cache.

        Raises:
            CorruptionError: a block is damaged.
        """
        path = ReadPath(memtable="miss", blooms=[], sstables=[])
        hashed = hash_key(key)
        for run in self.runs:
            table = run.table_of(key)
            if table is None:
                continue
            may_hold = hashed in table.bloom
            path["blooms"].append((table_name(table.number), "maybe" if may_hold else "no"))
            if not may_hold:
                continue
            block = table.block_of(key)
            found = not table.hides(key) and key in table.entries(block)[0]
            path["sstables"].append(
                ReadTable(
                    table=table_name(table.number),
                    level=run.level,
                    block=block,
                    cached=table.is_cached(block),
                    found=found,
                )
            )
            if found:
                break
        return path

    def scan(self, start: bytes, end: bytes) -> list[Iterator[Chunk]]:
        """Return what each run holds between two keys, newest run first."""
        return [run.scan(start, end) for run in self.runs]

    def without(self, hidden: Iterable[tuple[int, bytes, bytes]]) -> Levels:
        """Return the levels with ranges dropped from tables: ``(table number, start, end)``."""
        places = {table.number: (run.level, run.number, table) for run in self.runs for table in run.tables}
        for number, start, end in hidden:
            if number in places:
                level, run_number, table = places[number]
                places[number] = level, run_number, table.without(start, end)
        present = {id(table) for table in self.tables()}
        new = [place for place in places.values() if id(place[2]) not in present]
        return self.changed(new, ()) if new else self

    def changed(
        self, added: Iterable[tuple[int, int, Table]], removed: Iterable[int], guards: Iterable[bytes] | None = None
    ) -> Levels:
        """Return the levels with the tables ``(level, run, table)`` added and those with the numbers ``removed`` gone.

        A table that is there already and added again moves. ``guards`` take the place of those there are.
        """
        added = list(added)
        gone = {*removed, *(table.number for _, _, table in added)}
        places: dict[tuple[int, int], list[Table]] = {}
        for run in self.runs:
            places[run.level, run.number] = [table for table in run.tables if table.number not in gone]
        for level, number, table in added:
            places.setdefault((level, number), []).append(table)
        runs = [Run(level, number, tables) for (level, number), tables in places.items() if tables]
        runs.sort(key=lambda run: (run.level, -run.number))
        return Levels(tuple(runs), self.guards if guards is None else tuple(guards))
