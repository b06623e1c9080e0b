"""Ingestion: finished tables from elsewhere become tables of this engine, in a worker that checks every block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kvbus.errors import CorruptionError
from kvbus.ports.disk import Disk
from kvbus_storage.lsm.compaction import table_chunks
from kvbus_storage.lsm.merge import Chunk
from kvbus_storage.table.output import OutputPlan, write_tables
from kvbus_storage.table.table import read_footer, read_index
from kvbus_storage.table.writer import TableMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestTask:
    """``files`` are tables under names of their own, in the order of their keys, which do not overlap."""

    disk: Disk
    files: Sequence[str]
    output: OutputPlan


def ingest(task: IngestTask) -> list[TableMeta]:
    """Write what the files hold as tables of the engine.

    Raises:
        CorruptionError: a file is damaged.
        OSError: a file is missing, or the disk is full or failing.
    """
    return write_tables(task.disk, _chunks(task.disk, task.files), task.output)


def key_range(disk: Disk, name: str) -> tuple[bytes, bytes]:
    """Return the first and the last key of a table file.

    Raises:
        CorruptionError: its footer or index is damaged.
        FileNotFoundError: there is no such file.
    """
    file = disk.open(name)
    try:
        index = read_index(file, read_footer(file, name), name)
    finally:
        file.close()
    return index.first_key, index.last_key


def _chunks(disk: Disk, names: Sequence[str]) -> Iterator[Chunk]:
    last = b""
    for name in names:
        file = disk.open(name)
        try:
            for keys, records in table_chunks(file, read_index(file, read_footer(file, name), name), name):
                if keys[0] <= last and last:
                    raise CorruptionError("its keys do not follow those before them", name, 0)
                last = keys[-1]
                yield keys, records
        finally:
            file.close()
