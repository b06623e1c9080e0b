"""Flush: from sealed segments of the log to tables, in a worker that reads the files and not the node's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kvbus.errors import CorruptionError
from kvbus.ports.disk import Disk
from kvbus_storage.format_error import FormatError
from kvbus_storage.log.format import HEADER_BYTES, Kind, LogRecord, segment_name
from kvbus_storage.log.payload import decode_applied, decode_batch, decode_keys, decode_range
from kvbus_storage.log.reader import read_records
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
    found: dict[bytes, bytes] = {}
    for segment, end in task.segments:
        _replay(task.disk, segment, end, found, task.output.give_way)
    return write_tables(task.disk, in_chunks(found), task.output)


def in_chunks(records: dict[bytes, bytes]) -> Iterator[Chunk]:
    """Yield the items of ``records`` in the order of their keys."""
    keys = sorted(records)
    for begin in range(0, len(keys), _CHUNK_KEYS):
        part = keys[begin : begin + _CHUNK_KEYS]
        yield part, list(map(records.__getitem__, part))


def replay_record(record: LogRecord, found: dict[bytes, bytes]) -> None:
    """Do to ``found`` what a log record says.

    Raises:
        FormatError: the payload is not what its kind says.
    """
    if record.kind == Kind.RECORD:
        found.update(zip(*decode_batch(record.payload), strict=True))
    elif record.kind == Kind.APPLIED:
        found.update(zip(*decode_applied(record.payload).batch, strict=True))
    elif record.kind == Kind.PURGE:
        found.update(dict.fromkeys(decode_keys(record.payload), REMOVED))
    elif record.kind == Kind.DROP_RANGE:
        start, end = decode_range(record.payload)
        for key in [key for key in found if start <= key < end]:
            del found[key]


def _replay(disk: Disk, segment: int, end: int, found: dict[bytes, bytes], give_way: Callable[[], object]) -> None:
    file = disk.open(segment_name(segment))
    at = HEADER_BYTES
    try:
        for record in read_records(file, segment, end):
            replay_record(record, found)
            at = record.end
            give_way()
    except FormatError as error:
        raise CorruptionError(str(error), segment_name(segment), at) from error
    finally:
        file.close()
    if at != end:
        raise CorruptionError("the record fails its check in a sealed segment", segment_name(segment), at)
