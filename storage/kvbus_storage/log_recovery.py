"""Replay: read the commit log from its base and tell a torn tail from damage.

Source: FORMATS.md, "Recovery".
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from kvbus.core.columns import ColumnError, unpack_full_column
from kvbus.core.types import Lsn
from kvbus.errors import ConfigError, CorruptionError
from kvbus.ports.disk import Disk
from kvbus_storage.log_format import (
    BASE_NAME,
    HEADER_BYTES,
    FormatError,
    Kind,
    LogRecord,
    SegmentHeader,
    VersionError,
    decode_base,
    decode_header,
    find_proof_of_sync,
    read_records,
    segment_name,
    segment_number,
)

logger = logging.getLogger(__name__)

Sink = Callable[[list[bytes], list[bytes]], object]
"""Takes the keys and records of one batch, in log order."""

_MEND = (
    "this version cannot repair a damaged log and leaves it as it is. Restore the data directory from a copy; or, "
    "where other replicas hold this node's data, move the directory away and let the node join again as a new member."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTail:
    """Where a recovered log ends."""

    segment: int
    """The newest segment, 0 when there is none."""
    end: int
    """Where its records end, 0 when there is none."""
    last_lsn: Lsn
    segment_count: int
    log_bytes: int


def recover_log(disk: Disk, sink: Sink) -> LogTail:
    """Feed every logged batch to ``sink`` in order; return where the log ends.

    Removes what FORMATS.md calls leftovers and nothing else.

    Raises:
        CorruptionError: bytes that were durable are damaged or gone.
        ConfigError: a newer kvbus wrote the log.
    """
    base = _read_base(disk)
    segments = _list_segments(disk, base)
    headers = [_read_header(disk, segment) for segment in segments]
    if headers and headers[-1] is None and _was_being_created(disk, segments[-1]):
        logger.warning("%s has no header and no records: it was being created; removed", segment_name(segments[-1]))
        disk.remove(segment_name(segments.pop()))
        headers.pop()
    if not segments and base > 1:
        raise _damage(base, 0, "the segment that log-base names is missing")
    end, last_lsn, log_bytes = 0, 0, 0
    for index, segment in enumerate(segments):
        header = _checked_header(headers[index], segment, base, end, last_lsn)
        following = headers[index + 1] if index + 1 < len(segments) else None
        known_end = following.previous_end if following is not None else None
        if index + 1 < len(segments) and known_end is None:
            raise _damage(segments[index + 1], 0, "the segment's header fails its check")
        end, last_lsn = _replay_segment(disk, segment, known_end, header.last_lsn, sink)
        log_bytes += end
    if segments:
        # A process that was killed before its sync left records that reads show from now on and the next segment's
        # header builds on: a power cut must not take them any more.
        disk.sync(segment_name(segments[-1]))
    return LogTail(
        segment=segments[-1] if segments else 0,
        end=end,
        last_lsn=Lsn(last_lsn),
        segment_count=len(segments),
        log_bytes=log_bytes,
    )


def _read_base(disk: Disk) -> int:
    try:
        return decode_base(disk.read(BASE_NAME))
    except FileNotFoundError:
        return 1
    except FormatError as error:
        raise CorruptionError(f"the log base is {error}; {_MEND}", BASE_NAME, 0) from error
    except VersionError as error:
        raise _too_new(BASE_NAME, error) from error


def _list_segments(disk: Disk, base: int) -> list[int]:
    numbers = sorted(number for name in disk.list() if (number := segment_number(name)) is not None)
    for number in [number for number in numbers if number < base]:
        logger.info("%s is a leftover of a rewritten log; removed", segment_name(number))
        disk.remove(segment_name(number))
    segments = [number for number in numbers if number >= base]
    for expected, number in enumerate(segments, start=base):
        if number != expected:
            raise _damage(expected, 0, "the segment is missing")
    return segments


def _read_header(disk: Disk, segment: int) -> SegmentHeader | None:
    try:
        return decode_header(disk.read(segment_name(segment), 0, HEADER_BYTES))
    except FormatError:
        return None
    except VersionError as error:
        raise _too_new(segment_name(segment), error) from error


def _was_being_created(disk: Disk, segment: int) -> bool:
    return not disk.read(segment_name(segment), HEADER_BYTES).strip(b"\0")


def _checked_header(header: SegmentHeader | None, segment: int, base: int, end: int, last_lsn: int) -> SegmentHeader:
    if header is None:
        raise _damage(segment, 0, "the segment's header fails its check")
    if header.segment != segment:
        raise _damage(segment, 0, f"the header belongs to segment {header.segment}")
    is_rewritten_base = segment == base > 1
    if not is_rewritten_base and (header.previous_end, header.last_lsn) != (end, last_lsn):
        raise _damage(segment, 0, f"the header continues LSN {header.last_lsn}, the log before it ends at {last_lsn}")
    return header


def _replay_segment(disk: Disk, segment: int, known_end: int | None, last_lsn: int, sink: Sink) -> tuple[int, int]:
    data = disk.read(segment_name(segment))
    end = HEADER_BYTES
    for record in read_records(data, segment, len(data) if known_end is None else known_end):
        _replay_record(segment, record, last_lsn, sink)
        end, last_lsn = record.end, record.lsn
    if known_end is not None and end != known_end:
        raise _damage(segment, end, "the record fails its check in a finished segment")
    if known_end is None:
        _check_tail(data, segment, end)
    return end, last_lsn


def _replay_record(segment: int, record: LogRecord, last_lsn: int, sink: Sink) -> None:
    if record.kind == Kind.SEAL:
        return
    if record.kind != Kind.RECORD:
        raise _too_new(segment_name(segment), f"has a record of kind {record.kind} at byte {record.offset}")
    if record.lsn != last_lsn + 1:
        raise _damage(segment, record.offset, f"LSN {record.lsn} follows {last_lsn}")
    try:
        keys, middle = unpack_full_column(record.payload)
        records, end = unpack_full_column(record.payload, middle)
    except ColumnError as error:
        raise _damage(segment, record.offset, f"the payload is not two columns: {error}") from error
    if len(keys) != len(records) or end != len(record.payload):
        raise _damage(segment, record.offset, f"{len(keys)} keys stand beside {len(records)} records")
    sink(keys, records)


def _check_tail(data: bytes, segment: int, end: int) -> None:
    if not data[end:].strip(b"\0"):
        return
    proof = find_proof_of_sync(data, segment, end)
    if proof is not None:
        raise _damage(
            segment, end, f"the record fails its check, and the one at byte {proof.offset} says it was durable"
        )
    logger.warning(
        "%s: dropped a torn tail of %d bytes at byte %d; it was never acknowledged as durable",
        segment_name(segment),
        len(data) - end,
        end,
    )


def _damage(segment: int, offset: int, what: str) -> CorruptionError:
    return CorruptionError(f"{what}; {_MEND}", segment_name(segment), offset)


def _too_new(path: str, what: object) -> ConfigError:
    return ConfigError(f"{path} {what}: a newer kvbus wrote it; start that version")
