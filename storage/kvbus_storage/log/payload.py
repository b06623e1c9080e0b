"""What a log record holds, by its kind. No input or output.

Source: FORMATS.md, "Log record".
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

from kvbus.core.columns import ColumnError, pack_column, unpack_full_column
from kvbus_storage.format_error import FormatError

_PLACE = Struct("<QQ")
_ENTRIES = Struct("<QQI")
_STATE = Struct("<QQQQQB")

APPLIED_HEAD_BYTES = _PLACE.size
"""What stands before the batch in an APPLIED."""


class Batch(NamedTuple):
    """RECORD: ``records[i]`` stands at ``keys[i]`` from now on."""

    keys: list[bytes]
    records: list[bytes]


class RaftEntries(NamedTuple):
    """RAFT_ENTRY: entries of one group from index ``first`` on; those that the group had from there on are gone."""

    group: int
    first: int
    terms: tuple[int, ...]
    entries: list[bytes]


class RaftState(NamedTuple):
    """RAFT_STATE: one group's term and vote, and where its log begins: behind entry ``offset`` of ``offset_term``.

    A group that ``is_forgotten`` has nothing any more.
    """

    group: int
    term: int
    vote: int
    offset: int
    offset_term: int
    is_forgotten: bool


class Applied(NamedTuple):
    """APPLIED: what entry ``last`` of ``group``, and those behind the last APPLIED, did, as a batch."""

    group: int
    last: int
    batch: Batch


def encode_batch(keys: Sequence[bytes], records: Sequence[bytes]) -> bytes:
    """Encode a RECORD."""
    return pack_column(keys) + pack_column(records)


def decode_batch(payload: bytes, at: int = 0) -> Batch:
    """Decode a RECORD.

    Raises:
        FormatError: it is not one.
    """
    keys, middle = decode_batch_keys(payload, at)
    return Batch(keys, decode_batch_records(payload, middle, len(keys)))


def decode_batch_keys(payload: bytes, at: int = 0) -> tuple[list[bytes], int]:
    """Decode the keys of a batch, which stands from ``at`` on; return them and where its records begin.

    Raises:
        FormatError: it is not one.
    """
    try:
        return unpack_full_column(payload, at)
    except ColumnError as error:
        raise FormatError(f"the payload is not two columns: {error}") from error


def decode_batch_records(payload: bytes, at: int, count: int) -> list[bytes]:
    """Decode the records of a batch of ``count`` keys, which stand from ``at`` on.

    Raises:
        FormatError: they do not.
    """
    try:
        records, end = unpack_full_column(payload, at)
    except ColumnError as error:
        raise FormatError(f"the payload is not two columns: {error}") from error
    if len(records) != count or end != len(payload):
        raise FormatError(f"{count} keys stand beside {len(records)} records")
    return records


def encode_keys(keys: Sequence[bytes]) -> bytes:
    """Encode a PURGE, or a DROP_RANGE of two keys."""
    return pack_column(keys)


def decode_keys(payload: bytes) -> list[bytes]:
    """Decode a PURGE.

    Raises:
        FormatError: it is not one.
    """
    try:
        keys, end = unpack_full_column(payload)
    except ColumnError as error:
        raise FormatError(f"the payload is not a column: {error}") from error
    if end != len(payload):
        raise FormatError(f"{len(payload) - end} bytes follow the keys")
    return keys


def decode_range(payload: bytes) -> tuple[bytes, bytes]:
    """Decode a DROP_RANGE.

    Raises:
        FormatError: it is not one.
    """
    keys = decode_keys(payload)
    if len(keys) != 2:
        raise FormatError(f"a range has two bounds, here are {len(keys)}")
    return keys[0], keys[1]


def encode_entries(group: int, first: int, terms: Sequence[int], entries: Sequence[bytes]) -> bytes:
    """Encode a RAFT_ENTRY."""
    return _ENTRIES.pack(group, first, len(terms)) + Struct(f"<{len(terms)}Q").pack(*terms) + pack_column(entries)


def decode_entries(payload: bytes) -> RaftEntries:
    """Decode a RAFT_ENTRY.

    Raises:
        FormatError: it is not one.
    """
    try:
        group, first, count = _ENTRIES.unpack_from(payload)
        terms = Struct(f"<{count}Q").unpack_from(payload, _ENTRIES.size)
        entries, end = unpack_full_column(payload, _ENTRIES.size + 8 * count)
    except (struct_error, ColumnError) as error:
        raise FormatError(f"the payload is no entries of a group: {error}") from error
    if end != len(payload) or len(entries) != count:
        raise FormatError(f"{count} terms stand beside {len(entries)} entries")
    return RaftEntries(group, first, terms, entries)


def encode_state(state: RaftState) -> bytes:
    """Encode a RAFT_STATE."""
    return _STATE.pack(*state)


def decode_state(payload: bytes) -> RaftState:
    """Decode a RAFT_STATE.

    Raises:
        FormatError: it is not one.
    """
    if len(payload) != _STATE.size:
        raise FormatError("the payload is not a group's state")
    return RaftState(*_STATE.unpack(payload))


def encode_applied(group: int, index: int, keys: Sequence[bytes], records: Sequence[bytes]) -> bytes:
    """Encode an APPLIED."""
    return _PLACE.pack(group, index) + encode_batch(keys, records)


def decode_applied(payload: bytes) -> Applied:
    """Decode an APPLIED.

    Raises:
        FormatError: it is not one.
    """
    if len(payload) < _PLACE.size:
        raise FormatError("the payload is not what a group applied")
    group, index = _PLACE.unpack_from(payload)
    return Applied(group, index, decode_batch(payload, _PLACE.size))
