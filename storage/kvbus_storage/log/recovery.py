"""Replay: read the commit log from its base and tell a torn tail from damage.

Source: FORMATS.md, "Recovery".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kvbus.core.types import Lsn
from kvbus.errors import ConfigError, CorruptionError
from kvbus.ports.disk import Disk
from kvbus_storage.format_error import FormatError, VersionError
from kvbus_storage.log.format import (
    BASE_NAME,
    HEADER_BYTES,
    Kind,
    LogRecord,
    SegmentHeader,
    decode_base,
    decode_header,
    find_proof_of_sync,
    segment_name,
    segment_number,
)
from kvbus_storage.log.reader import is_zero, read_records

logger = logging.getLogger(__name__)

_KINDS = frozenset(Kind)

Sink = Callable[[LogRecord, int], object]
"""Takes each record that is not a SEAL, in log order, and its segment.

Raises:
    FormatError: the payload is not what its kind says.
"""

_MEND = "this version cannot repair a damaged log and leaves it as it is. Restore the data directory from a copy."


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTail:
    """Where a recovered log ends."""

    segment: int
    """The newest segment, 0 when there is none."""
    end: int
    """Where its records end, 0 when there is none."""
    last_lsn: Lsn
    segment_sizes: Mapping[int, int]
    """Bytes of each segment that counts, by its number."""

    @property
    def segment_count(self) -> int:
        """The number of segments."""
        return len(self.segment_sizes)

    @property
    def log_bytes(self) -> int:
        """Bytes of all segments."""
        return sum(self.segment_sizes.values())


def recover_log(disk: Disk, base: int, sink: Sink) -> LogTail:
    """Feed every record from segment ``base`` on to ``sink`` in order; return where the log ends.

    Removes what FORMATS.md calls leftovers and nothing else.

    Raises:
        CorruptionError: bytes that were durable are damaged or gone.
        ConfigError: a newer kvbus wrote the log.
    """
    segments = _list_segments(disk, base)
    headers = [_read_header(disk, segment) for segment in segments]
    # The segment that the base names was whole before it became the base.
    is_base = len(segments) == 1 and base > 1
    if headers and headers[-1] is None and not is_base and _was_being_created(disk, segments[-1]):
        logger.info("%s has not begun: it has no header and no records; removed", segment_name(segments[-1]))
        disk.remove(segment_name(segments.pop()))
        headers.pop()
    if not segments and base > 1:
        raise _damage(base, 0, "the segment that the manifest or log-base names is missing")
    end, last_lsn = 0, 0
    sizes: dict[int, int] = {}
    for index, segment in enumerate(segments):
        header = _checked_header(headers[index], segment, base, end, last_lsn)
        following = headers[index + 1] if index + 1 < len(segments) else None
        known_end = following.previous_end if following is not None else None
        if index + 1 < len(segments) and known_end is None:
            raise _damage(segments[index + 1], 0, "the segment's header fails its check")
        end, last_lsn = _replay_segment(disk, segment, known_end, header.last_lsn, sink)
        sizes[segment] = end
    if segments:
        # A process that was killed before its sync left records that reads show from now on and the next segment's
        # header builds on, or a segment whose name is not durable: a power cut must not take them any more.
        disk.sync(segment_name(segments[-1]))
        disk.sync_folder()
    return LogTail(
        segment=segments[-1] if segments else 0,
        end=end,
        last_lsn=Lsn(last_lsn),
        segment_sizes=sizes,
    )


def read_base(disk: Disk) -> int:
    """Return the segment that the log base names, 1 where there is no log base.

    Raises:
        CorruptionError: it is damaged.
        ConfigError: a newer kvbus wrote it.
    """
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
    file = disk.open(segment_name(segment))
    try:
        return is_zero(file, HEADER_BYTES)
    finally:
        file.close()


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
    file = disk.open(segment_name(segment))
    try:
        end = HEADER_BYTES
        for record in read_records(file, segment, file.size if known_end is None else known_end):
            _replay_record(segment, record, last_lsn, sink)
            end, last_lsn = record.end, record.lsn
        if known_end is not None and end != known_end:
            raise _damage(segment, end, "the record fails its check in a finished segment")
        if known_end is None and not is_zero(file, end):
            _check_tail(file.read(end, file.size - end), segment, end)
        return end, last_lsn
    finally:
        file.close()


def _replay_record(segment: int, record: LogRecord, last_lsn: int, sink: Sink) -> None:
    if record.kind == Kind.SEAL:
        return
    if record.kind not in _KINDS:
        raise _too_new(segment_name(segment), f"has a record of kind {record.kind} at byte {record.offset}")
    if record.lsn != last_lsn + 1:
        raise _damage(segment, record.offset, f"LSN {record.lsn} follows {last_lsn}")
    try:
        sink(record, segment)
    except FormatError as error:
        raise _damage(segment, record.offset, str(error)) from error


def _check_tail(tail: bytes, segment: int, end: int) -> None:
    proof = find_proof_of_sync(tail, segment, end)
    if proof is not None:
        raise _damage(
            segment, end, f"the record fails its check, and the one at byte {proof.offset} says it was durable"
        )
    logger.warning(
        "%s: dropped a torn tail of %d bytes at byte %d; it was never acknowledged as durable",
        segment_name(segment),
        len(tail),
        end,
    )


def _damage(segment: int, offset: int, what: str) -> CorruptionError:
    return CorruptionError(f"{what}; {_MEND}", segment_name(segment), offset)


def _too_new(path: str, what: object) -> ConfigError:
    return ConfigError(f"{path} {what}: a newer kvbus wrote it; start that version")
