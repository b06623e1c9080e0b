"""Ingestion: finished tables from elsewhere become tables of this engine, in a worker that checks every block."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kvbus.errors import ConfigError, CorruptionError
from kvbus.ports.disk import Disk
from kvbus_storage.lsm.compaction import table_chunks
from kvbus_storage.lsm.merge import Chunk
from kvbus_storage.table.output import OutputPlan, write_tables
from kvbus_storage.table.table import read_footer, read_index
from kvbus_storage.table.writer import TableMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingestion:
    """``files`` that wait; ``is_free`` says whether there are no keys in their ranges, ``done`` is told the outcome."""

    files: Sequence[str]
    is_free: Callable[[], bool]
    done: Callable[[Exception | None], object]


class Ingestions:
    """Ingestions that wait for the worker, in order."""

    def __init__(self) -> None:
        self._waiting: deque[Ingestion] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, ingestion: Ingestion) -> None:
        """Let one wait."""
        self._waiting.append(ingestion)

    def take(self) -> Ingestion | None:
        """Return the next one; None where there are keys in its way, or none can say, which it is told."""
        ingestion = self._waiting.popleft()
        try:
            if ingestion.is_free():
                return ingestion
            raise ConfigError(f"{', '.join(ingestion.files)}: there are keys in their range; drop the range first")
        except (ConfigError, CorruptionError) as error:
            ingestion.done(error)
            return None


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
