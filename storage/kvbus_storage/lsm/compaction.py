"""Compaction: from overlapping tables to fewer ones, in a worker; a function from files to files."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from kvbus.errors import CorruptionError
from kvbus.ports.disk import Disk, ReadFile
from kvbus_storage.lsm.merge import Chunk, merge
from kvbus_storage.removed import REMOVED
from kvbus_storage.table.format import Index, table_name
from kvbus_storage.table.output import OutputPlan, write_tables
from kvbus_storage.table.table import read_entries, read_footer, read_index
from kvbus_storage.table.writer import TableMeta

_READ_BYTES = 128 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A table and the ranges of keys in it that were dropped."""

    number: int
    hidden: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionTask:
    """``runs`` are the inputs, the newest run first, the tables of each in the order of their keys.

    ``drops_removals`` says that nothing older can hold any of their keys, so that removals need not be kept.
    """

    disk: Disk
    runs: Sequence[Sequence[Input]]
    drops_removals: bool
    output: OutputPlan


def compact(task: CompactionTask) -> list[TableMeta]:
    """Merge the inputs into new tables.

    Raises:
        CorruptionError: an input is damaged.
        OSError: the disk is full or failing.
    """
    chunks: Iterable[Chunk] = merge([_run(task.disk, run, task.output.give_way) for run in task.runs])
    if task.drops_removals:
        chunks = map(_without_removals, chunks)
    return write_tables(task.disk, chunks, task.output)


def table_chunks(file: ReadFile, index: Index, name: str) -> Iterator[Chunk]:
    """Yield a table's entries in order, some blocks at a time.

    Raises:
        CorruptionError: a block is damaged.
    """
    bounds, blocks = index.bounds, len(index.separators)
    first = 0
    while first < blocks:
        last = max(bisect_left(bounds, bounds[first] + _READ_BYTES, first, blocks), first + 1)
        yield read_entries(file, bounds, first, last, name)
        first = last


def _run(disk: Disk, tables: Sequence[Input], give_way: Callable[[], object]) -> Iterator[Chunk]:
    for table in tables:
        name = table_name(table.number)
        with closing(_open(disk, name)) as file:
            for chunk in table_chunks(file, read_index(file, read_footer(file, name), name), name):
                yield _without_hidden(chunk, table.hidden) if table.hidden else chunk
                give_way()


def _open(disk: Disk, name: str) -> ReadFile:
    try:
        return disk.open(name)
    except FileNotFoundError as error:
        # A manifest names it, and nothing of the engine's removes what a job reads.
        raise CorruptionError("the table is missing", name, 0) from error


def _without_hidden(chunk: Chunk, hidden: tuple[tuple[bytes, bytes], ...]) -> Chunk:
    keys, records = chunk
    for start, end in hidden:
        low, high = bisect_left(keys, start), bisect_left(keys, end)
        keys, records = keys[:low] + keys[high:], records[:low] + records[high:]
    return keys, records


def _without_removals(chunk: Chunk) -> Chunk:
    keys, records = chunk
    if REMOVED not in records:
        return chunk
    kept = [(key, record) for key, record in zip(keys, records, strict=True) if record is not REMOVED]
    return [key for key, _ in kept], [record for _, record in kept]
