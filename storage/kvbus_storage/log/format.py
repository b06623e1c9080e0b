"""Bytes of the commit log: segment header, record, log base. No input or output.

Source: FORMATS.md, "Segment header", "Log record", "Log base".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from re import compile as compile_pattern
from struct import Struct
from typing import NamedTuple

from kvbus_storage.checksum import extend
from kvbus_storage.format_error import FormatError, VersionError

VERSION = 1
BASE_NAME = "log-base"
_SEGMENT_NAME = compile_pattern(r"log-(\d{8,})")

_HEADER_MAGIC = b"KVBUSLOG"
_BASE_MAGIC = b"KVBUSBAS"
_RECORD_MAGIC = b"KVLR"
_FRONT = Struct("<8sI")
_HEADER = Struct("<IQQQ")
_BASE = Struct("<IQ")
_RECORD_FRONT = Struct("<4sI")
_RECORD_HEAD = Struct("<IQQB")
_PLACE = Struct("<QQ")

HEADER_BYTES = _FRONT.size + _HEADER.size
RECORD_HEAD_BYTES = _RECORD_FRONT.size + _RECORD_HEAD.size


class Kind(IntEnum):
    """What a log record holds."""

    RECORD = 1
    SEAL = 2
    DROP_RANGE = 3
    PURGE = 4
    RAFT_ENTRY = 5
    RAFT_STATE = 6
    APPLIED = 7


VOTES = frozenset((Kind.RAFT_ENTRY, Kind.RAFT_STATE))
"""What other members of a Raft group rely on: synced by each commit, whatever the durability setting."""


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The first bytes of a segment, which tie it to the one before."""

    segment: int
    previous_end: int
    last_lsn: int


class LogRecord(NamedTuple):
    """One record of a segment; ``end`` is the offset behind it."""

    offset: int
    end: int
    lsn: int
    synced: int
    kind: int
    payload: bytes


def segment_name(segment: int) -> str:
    """Return the file name of a segment."""
    return f"log-{segment:08d}"


def segment_number(name: str) -> int | None:
    """Return the number in a segment's file name; None for any other name."""
    match = _SEGMENT_NAME.fullmatch(name)
    return int(match[1]) if match is not None else None


def encode_header(header: SegmentHeader) -> bytes:
    """Encode a segment header (40 bytes)."""
    body = _HEADER.pack(VERSION, header.segment, header.previous_end, header.last_lsn)
    return _FRONT.pack(_HEADER_MAGIC, extend(0, body)) + body


def decode_header(data: bytes) -> SegmentHeader:
    """Decode the segment header at the start of ``data``.

    Raises:
        FormatError: it is cut short or fails its check.
        VersionError: a newer kvbus wrote it.
    """
    segment, previous_end, last_lsn = _HEADER.unpack(_checked_body(data, _HEADER_MAGIC, _HEADER.size))[1:]
    return SegmentHeader(segment, previous_end, last_lsn)


def encode_base(segment: int) -> bytes:
    """Encode the log base (24 bytes)."""
    body = _BASE.pack(VERSION, segment)
    return _FRONT.pack(_BASE_MAGIC, extend(0, body)) + body


def decode_base(data: bytes) -> int:
    """Decode the log base and return the oldest segment that counts.

    Raises:
        FormatError: it is cut short or fails its check.
        VersionError: a newer kvbus wrote it.
    """
    segment: int = _BASE.unpack(_checked_body(data, _BASE_MAGIC, _BASE.size))[1]
    return segment


def encode_record_head(*, segment: int, offset: int, lsn: int, synced: int, kind: int, payload: bytes) -> bytes:
    """Encode what stands before ``payload`` at ``offset`` of ``segment`` (29 bytes)."""
    head = _RECORD_HEAD.pack(len(payload), lsn, synced, kind)
    return _RECORD_FRONT.pack(_RECORD_MAGIC, _record_crc(segment, offset, head, payload)) + head


def read_record(data: bytes, segment: int, offset: int, base: int = 0) -> LogRecord | None:
    """Return the record at ``offset`` of the segment, or None where there is no valid one.

    ``data`` are the segment's bytes from ``base`` on.
    """
    at = offset - base
    body = at + RECORD_HEAD_BYTES
    if body > len(data):
        return None
    magic, crc = _RECORD_FRONT.unpack_from(data, at)
    head = data[at + _RECORD_FRONT.size : body]
    length, lsn, synced, kind = _RECORD_HEAD.unpack(head)
    end = body + length
    if magic != _RECORD_MAGIC or end > len(data):
        return None
    payload = data[body:end]
    if crc != _record_crc(segment, offset, head, payload):
        return None
    return LogRecord(offset, base + end, lsn, synced, kind, payload)


def record_bytes(data: bytes, at: int) -> int | None:
    """Return the bytes that the record at ``at`` of ``data`` says it takes; None where its head is not whole."""
    if at + RECORD_HEAD_BYTES > len(data):
        return None
    length: int = _RECORD_HEAD.unpack_from(data, at + _RECORD_FRONT.size)[0]
    return RECORD_HEAD_BYTES + length


def find_proof_of_sync(tail: bytes, segment: int, offset: int) -> LogRecord | None:
    """Return a valid record behind ``offset`` that was written when the bytes at ``offset`` were durable.

    ``tail`` are the segment's bytes from ``offset`` on.
    """
    at = tail.find(_RECORD_MAGIC, 1)
    while at >= 0:
        record = read_record(tail, segment, offset + at, offset)
        if record is not None and record.synced > offset:
            return record
        at = tail.find(_RECORD_MAGIC, at + 1)
    return None


def _record_crc(segment: int, offset: int, head: bytes, payload: bytes) -> int:
    return extend(extend(0, _PLACE.pack(segment, offset) + head), payload)


def _checked_body(data: bytes, magic: bytes, size: int) -> bytes:
    if len(data) < _FRONT.size + size:
        raise FormatError("cut short")
    found, crc = _FRONT.unpack_from(data)
    body = data[_FRONT.size : _FRONT.size + size]
    if found != magic or crc != extend(0, body):
        raise FormatError("fails its check")
    version = int.from_bytes(body[:4], "little")
    if version != VERSION:
        raise VersionError(f"has version {version}")
    return body
