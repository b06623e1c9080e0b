"""Writing sorted entries as tables of a bounded size, cut where the next level wants them cut."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from kvbus.errors import CorruptionError
from kvbus.ports.disk import Disk
from kvbus.ports.worker import keep_on
from kvbus_storage.lsm.merge import Chunk
from kvbus_storage.table.compression import Compression
from kvbus_storage.table.format import table_name
from kvbus_storage.table.writer import LONG_SYNC_BYTES, TableMeta, TableWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPlan:
    """How tables are to be written.

    ``first_number`` is the first one's, the others follow. A table ends before a key of ``guards`` (ascending), and
    where it has ``table_bytes`` of keys and records. ``lsn`` is that of the newest batch that may be in them. A sync
    covers about ``sync_bytes``; ``give_way`` is called between two blocks.
    """

    first_number: int
    lsn: int
    guards: Sequence[bytes]
    table_bytes: int
    block_bytes: int
    compression: Compression
    sync_bytes: int = LONG_SYNC_BYTES
    give_way: Callable[[], object] = keep_on


def write_tables(disk: Disk, chunks: Iterable[Chunk], plan: OutputPlan) -> list[TableMeta]:
    """Write ``chunks``, whose keys ascend, as tables; their files and names are durable.

    Raises:
        OSError: the disk is full or failing. Of the files those are left that could not be removed.
    """
    output = _Output(disk, plan)
    try:
        for keys, records in chunks:
            output.add(keys, records)
        output.cut()
        if output.tables:
            disk.sync_folder()
    except (OSError, CorruptionError):
        output.take_back()
        raise
    finally:
        output.close()
    return output.tables


class _Output:
    def __init__(self, disk: Disk, plan: OutputPlan) -> None:
        self._disk = disk
        self._plan = plan
        self._writer: TableWriter | None = None
        self.tables: list[TableMeta] = []
        # The guard before which the open table must end.
        self._guard: bytes | None = None

    def add(self, keys: list[bytes], records: list[bytes]) -> None:
        begin = 0
        while begin < len(keys):
            if self._writer is not None and self._is_complete(keys[begin]):
                self.cut()
            if self._writer is None:
                self._open(keys[begin])
            end = len(keys) if self._guard is None else bisect_left(keys, self._guard, begin)
            assert self._writer is not None
            self._writer.add(keys[begin:end], records[begin:end])
            begin = end

    def cut(self) -> None:
        if self._writer is not None:
            self.tables.append(self._writer.finish(self._plan.lsn))
            self._writer = None

    def take_back(self) -> None:
        count = len(self.tables) + (self._writer is not None)
        for number in range(self._plan.first_number, self._plan.first_number + count):
            with suppress(OSError):
                self._disk.remove(table_name(number))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.abandon()

    def _is_complete(self, key: bytes) -> bool:
        assert self._writer is not None
        return self._writer.data_bytes >= self._plan.table_bytes or (self._guard is not None and key >= self._guard)

    def _open(self, key: bytes) -> None:
        plan = self._plan
        following = bisect_right(plan.guards, key)
        self._guard = plan.guards[following] if following < len(plan.guards) else None
        self._writer = TableWriter(
            self._disk,
            plan.first_number + len(self.tables),
            block_bytes=plan.block_bytes,
            compression=plan.compression,
            sync_bytes=plan.sync_bytes,
            give_way=plan.give_way,
        )
