"""The version record's codec: siblings to canonical bytes and back.

``spans`` finds the siblings without copying values; ``decode_record`` also checks every rule of RECORD.md.
Source: RECORD.md, "Record".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from kvbus_modes.ap.causality import ENTRY, ENTRY_BYTES, Context, Dot, join_all

VERSION = 1
MAX_SIBLINGS = 0xFFFF

VALUE = 0
TOMBSTONE = 1
EXPIRING = 2

HEAD = Struct("<BH")
HEAD_BYTES = HEAD.size
SIBLING = Struct("<IQQQBII")
SIBLING_BYTES = SIBLING.size
EXPIRY = Struct("<Q")
EXPIRY_BYTES = EXPIRY.size

ONE_SIBLING = b"\x01\x01\x00"
"""The head of a record of one sibling: most records begin so."""
ONE = Struct("<BHIQQQBII")
"""Head and first sibling: version, count, server, epoch, counter, timestamp, flags, context and value length."""
ONE_BYTES = ONE.size
DOT_BEGIN = HEAD_BYTES
DOT_END = DOT_BEGIN + ENTRY_BYTES

_AFTER_DOT = Struct("<QBII")


class Sibling(NamedTuple):
    """One decoded version: ``value`` None is a tombstone, ``expiry_ms`` is Unix time, ``timestamp`` an HLC."""

    dot: Dot
    context: Context
    timestamp: int
    expiry_ms: int | None
    value: bytes | None


class Span(NamedTuple):
    """Where a sibling lies in a record: offsets of itself, its context, its value and its end."""

    dot: Dot
    flags: int
    begin: int
    context_begin: int
    value_begin: int
    end: int


def encode_record(siblings: Sequence[Sibling]) -> bytes:
    """Encode ``siblings``, given in any order.

    Raises:
        ValueError: two have one dot, one is obsolete, a tombstone has an expiry, or a number is over its limit.
    """
    _check(siblings)
    encoded: list[bytes] = []
    for dot, context, timestamp, expiry_ms, value in sorted(siblings, key=lambda sibling: sibling.dot):
        (server, epoch), counter = dot
        try:
            entry = ENTRY.pack(server, epoch, counter)
        except struct.error as cause:
            raise ValueError(f"dot {dot} is over its limits") from cause
        encoded.append(encode_one(entry, context.to_bytes(), timestamp, expiry_ms, value)[HEAD_BYTES:])
    return assemble(encoded)


def encode_one(entry: bytes, context: bytes, timestamp: int, expiry_ms: int | None, value: bytes | None) -> bytes:
    """Encode the record of one sibling from its dot's 20 bytes and its context's bytes, both canonical.

    Raises:
        ValueError: a tombstone has an expiry, or a number is over its limit.
    """
    try:
        if expiry_ms is None:
            if value is None:
                return ONE_SIBLING + entry + _AFTER_DOT.pack(timestamp, TOMBSTONE, len(context), 0) + context
            return ONE_SIBLING + entry + _AFTER_DOT.pack(timestamp, VALUE, len(context), len(value)) + context + value
        if value is None:
            raise ValueError("a tombstone has no expiry; delete without one")
        fixed = _AFTER_DOT.pack(timestamp, EXPIRING, len(context), len(value)) + EXPIRY.pack(expiry_ms)
        return ONE_SIBLING + entry + fixed + context + value
    except struct.error as cause:
        raise ValueError("a sibling's timestamp, expiry or length is over its limit") from cause


def assemble(siblings: Sequence[bytes]) -> bytes:
    """Join encoded siblings, which ascend by dot, into a record.

    Raises:
        ValueError: there are more than ``MAX_SIBLINGS``.
    """
    if len(siblings) > MAX_SIBLINGS:
        raise ValueError(f"a record of {len(siblings)} siblings is over the limit of {MAX_SIBLINGS}")
    return HEAD.pack(VERSION, len(siblings)) + b"".join(siblings)


def decode_record(record: bytes) -> list[Sibling]:
    """Decode ``record`` and check every rule of RECORD.md.

    Raises:
        ValueError: the bytes are not the canonical encoding of a record.
    """
    siblings: list[Sibling] = []
    for dot, flags, begin, context_begin, value_begin, end in spans(record):
        timestamp = SIBLING.unpack_from(record, begin)[3]
        expiry_ms = EXPIRY.unpack_from(record, begin + SIBLING_BYTES)[0] if flags == EXPIRING else None
        value = None if flags == TOMBSTONE else record[value_begin:end]
        context = Context.from_bytes(record[context_begin:value_begin])
        siblings.append(Sibling(dot, context, timestamp, expiry_ms, value))
    _check(siblings)
    return siblings


def spans(record: bytes) -> list[Span]:
    """Find the siblings of ``record``; all is checked but the contexts' insides.

    Raises:
        ValueError: the record is cut short, has trailing bytes, or its siblings break a rule.
    """
    size = len(record)
    if size < HEAD_BYTES:
        raise ValueError(f"a record of {size} bytes is cut short")
    version, count = HEAD.unpack_from(record)
    if version != VERSION:
        raise ValueError(f"record version {version} is unknown")
    found: list[Span] = []
    last: Dot = ((-1, 0), 0)
    begin = HEAD_BYTES
    for _ in range(count):
        if begin + SIBLING_BYTES > size:
            raise ValueError(f"the sibling at byte {begin} is cut short")
        server, epoch, counter, _, flags, context_bytes, value_bytes = SIBLING.unpack_from(record, begin)
        if flags > EXPIRING or (flags == TOMBSTONE and value_bytes):
            raise ValueError(f"the sibling at byte {begin} has flags {flags} and a value of {value_bytes} bytes")
        dot = ((server, epoch), counter)
        if dot <= last or not counter:
            raise ValueError(f"the sibling at byte {begin} is out of order: dots ascend and counters start at 1")
        context_begin = begin + SIBLING_BYTES + (EXPIRY_BYTES if flags == EXPIRING else 0)
        value_begin = context_begin + context_bytes
        end = value_begin + value_bytes
        if end > size:
            raise ValueError(f"the sibling at byte {begin} is cut short")
        found.append(Span(dot, flags, begin, context_begin, value_begin, end))
        last, begin = dot, end
    if begin != size:
        raise ValueError(f"{size - begin} bytes follow the record's last sibling")
    return found


def _check(siblings: Sequence[Sibling]) -> None:
    seen = join_all(sibling.context for sibling in siblings)
    if len({sibling.dot for sibling in siblings}) < len(siblings):
        raise ValueError("two siblings have the same dot")
    if any(sibling.dot[1] < 1 or seen.contains(sibling.dot) for sibling in siblings):
        raise ValueError("a sibling is obsolete, or its counter is below 1")
