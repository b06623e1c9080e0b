"""Flush: from sealed segments of the log to tables, in a worker that reads the files and not the node's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kvbus.errors import CorruptionError
from kvbus.ports.disk import Disk
from kvbus_storage.format_error import FormatError
from kvbus_storage.log.format import HEADER_BYTES, Kind, LogRecord, segment_name
from kvbus_storage.log.payload import (
    APPLIED_HEAD_BYTES,
    decode_batch_keys,
    decode_batch_records,
    decode_keys,
    decode_range,
)
from kvbus_storage.log.reader import read_records, read_records_back
from kvbus_storage.lsm.merge import Chunk
from kvbus_storage.removed import REMOVED
from kvbus_storage.table.output import OutputPlan, write_tables
from kvbus_storage.table.writer import TableMeta

_CHUNK_KEYS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushTask:
    """``segments`` are the numbers of the sealed ones, in order, and where their records end."""

    disk: Disk
    segments: Sequence[tuple[int, int]]
    output: OutputPlan


def flush(task: FlushTask) -> list[TableMeta]:
    """Write what the segments hold as tables.

    Raises:
        CorruptionError: a segment does not read as it was written.
        OSError: the disk is full or failing.
    """
    newest = Newest()
    for segment, end in reversed(task.segments):
        _read(task.disk, segment, end, newest, task.output.give_way)
    return write_tables(task.disk, in_chunks(newest.records), task.output)


def in_chunks(records: dict[bytes, bytes]) -> Iterator[Chunk]:
    """Yield the items of ``records`` in the order of their keys."""
    keys = sorted(records)
    for begin in range(0, len(keys), _CHUNK_KEYS):
        part = keys[begin : begin + _CHUNK_KEYS]
        yield part, list(map(records.__getitem__, part))


class Newest:
    """What stands at each key in the end, learnt from log records that come the newest first.

    So what was replaced is passed over: of a key that was written again and again only the last record is read.
    """

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self._dropped: list[tuple[bytes, bytes]] = []

    def take(self, record: LogRecord) -> None:
        """Take note of an older record than those before.

        Raises:
            FormatError: the payload is not what its kind says.
        """
        if record.kind == Kind.RECORD:
            self._take_batch(record.payload, 0)
        elif record.kind == Kind.APPLIED:
            self._take_batch(record.payload, APPLIED_HEAD_BYTES)
        elif record.kind == Kind.PURGE:
            self.records.update(dict.fromkeys(self._fresh(decode_keys(record.payload)), REMOVED))
        elif record.kind == Kind.DROP_RANGE:
            self._dropped.append(decode_range(record.payload))

    def _take_batch(self, payload: bytes, at: int) -> None:
        keys, records_at = decode_batch_keys(payload, at)
        fresh = self._fresh(keys)
        if fresh:
            records = decode_batch_records(payload, records_at, len(keys))
            # Of a key that comes twice the last record counts.
            self.records.update(pair for pair in zip(keys, records, strict=True) if pair[0] in fresh)

    def _fresh(self, keys: list[bytes]) -> set[bytes]:
        """Return those of ``keys`` of which nothing newer says what stands there."""
        fresh = set(keys).difference(self.records)
        for start, end in self._dropped:
            if not fresh:
                break
            fresh = {key for key in fresh if not start <= key < end}
        return fresh


def _read(disk: Disk, segment: int, end: int, newest: Newest, give_way: Callable[[], object]) -> None:
    name = segment_name(segment)
    file = disk.open(name)
    at = end
    try:
        for record in read_records_back(file, segment, end, give_way):
            at = record.offset
            newest.take(record)
            give_way()
        if at != HEADER_BYTES:
            at = max((record.end for record in read_records(file, segment, end)), default=HEADER_BYTES)
            raise CorruptionError("the record fails its check in a sealed segment", name, at)
    except FormatError as error:
        raise CorruptionError(str(error), name, at) from error
    finally:
        file.close()
