"""Reading one segment of the log, a window at a time, so that a start and a flush need little memory.

Source: FORMATS.md, "Log record".
"""

from __future__ import annotations

from collections.abc import Iterator

from kvbus.ports.disk import ReadFile
from kvbus_storage.log.format import HEADER_BYTES, LogRecord, read_record, record_bytes

_WINDOW_BYTES = 1 << 20


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
