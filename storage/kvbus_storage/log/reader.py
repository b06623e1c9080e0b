"""Reading one segment of the log, a window at a time, so that a start and a flush need little memory.

Source: FORMATS.md, "Log record".
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator

from kvbus.ports.disk import ReadFile
from kvbus.ports.worker import keep_on
from kvbus_storage.log.format import HEADER_BYTES, LogRecord, read_record, record_bytes

_WINDOW_BYTES = 1 << 20
_HEADS_WINDOW_BYTES = 64 << 10


def is_zero(file: ReadFile, offset: int) -> bool:
    """Say whether nothing but zeros stands from ``offset`` on."""
    while window := file.read(offset, _WINDOW_BYTES):
        if window.strip(b"\0"):
            return False
        offset += len(window)
    return True


def read_records(file: ReadFile, segment: int, end: int) -> Iterator[LogRecord]:
    """Yield the records that follow each other from the header on, up to ``end`` or the first invalid one."""
    base, window = HEADER_BYTES, b""
    offset = HEADER_BYTES
    while offset < end:
        at = offset - base
        size = record_bytes(window, at)
        if size is None or at + size > len(window):
            wanted = _WINDOW_BYTES if size is None else max(_WINDOW_BYTES, size)
            base, window = offset, file.read(offset, min(wanted, end - offset))
            size = record_bytes(window, 0)
            if size is not None and len(window) < size <= end - offset:
                window = file.read(offset, size)
        record = read_record(window, segment, offset, base)
        if record is None or record.end > end:
            return
        yield record
        offset = record.end


def read_records_back(
    file: ReadFile, segment: int, end: int, give_way: Callable[[], object] = keep_on
) -> Iterator[LogRecord]:
    """Yield the records up to ``end``, the newest first, down to an invalid one; none where they do not lead there.

    ``give_way`` is called between two windows that are looked through beforehand.
    """
    starts = _record_starts(file, end, give_way)
    while starts:
        first = min(bisect_left(starts, end - _WINDOW_BYTES), len(starts) - 1)
        base = starts[first]
        window = file.read(base, end - base)
        for start in reversed(starts[first:]):
            record = read_record(window, segment, start, base)
            if record is None or record.end != end:
                return
            yield record
            end = start
        del starts[first:]


def _record_starts(file: ReadFile, end: int, give_way: Callable[[], object]) -> array[int]:
    """Return where records begin, as their heads say it, which are not checked."""
    starts = array("Q")
    base, window = HEADER_BYTES, b""
    offset = HEADER_BYTES
    while offset < end:
        size = record_bytes(window, offset - base)
        if size is None:
            give_way()
            base, window = offset, file.read(offset, min(_HEADS_WINDOW_BYTES, end - offset))
            size = record_bytes(window, 0)
            if size is None:
                break
        starts.append(offset)
        offset += size
    return starts if offset == end else array("Q")
