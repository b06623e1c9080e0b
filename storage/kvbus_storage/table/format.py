"""Bytes of a table (SSTable) around its data blocks: block trailer, index, footer. No input or output.

Source: FORMATS.md, "Table".
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from re import compile as compile_pattern
from struct import Struct
from struct import error as struct_error

from kvbus.core.columns import ColumnError, count_items, pack_column, unpack_full_column
from kvbus_storage.checksum import extend
from kvbus_storage.format_error import FormatError, VersionError
from kvbus_storage.table.compression import Compression, compress, decompress

VERSION = 1
_MAGIC = b"KVBUSTBL"
_TABLE_NAME = compile_pattern(r"table-(\d{8,})")
_FRONT = Struct("<8sI")
_FOOTER = Struct("<IQQQQQQQ")
_CRC_BYTES = 4
_TRAILER_BYTES = 1 + _CRC_BYTES

FOOTER_BYTES = _FRONT.size + _FOOTER.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """The last bytes of a table: where its parts lie and what they count."""

    number: int
    filter_offset: int
    index_offset: int
    index_end: int
    entries: int
    removals: int
    lsn: int


@dataclass(frozen=True, slots=True)
class Index:
    """Where a table's blocks lie.

    Block i holds the keys above ``separators[i - 1]`` and up to ``separators[i]``, in the bytes from ``bounds[i]`` to
    ``bounds[i + 1]``.
    """

    first_key: bytes
    last_key: bytes
    separators: list[bytes]
    bounds: array[int]


def table_name(number: int) -> str:
    """Return a table's file name."""
    return f"table-{number:08d}"


def table_number(name: str) -> int | None:
    """Return the number in a table's file name; None for any other name."""
    match = _TABLE_NAME.fullmatch(name)
    return int(match[1]) if match is not None else None


def encode_stored(block: bytes, how: Compression) -> bytes:
    """Encode a block as it lies in the file: compressed where that is worth it, with its trailer."""
    stored, stored_as = compress(block, how)
    body = stored + bytes((stored_as,))
    return body + extend(0, body).to_bytes(_CRC_BYTES, "little")


def decode_stored(data: bytes) -> bytes:
    """Return the block that :func:`encode_stored` encoded.

    Raises:
        FormatError: it fails its check.
    """
    body = data[:-_CRC_BYTES]
    if len(data) < _TRAILER_BYTES or extend(0, body) != int.from_bytes(data[-_CRC_BYTES:], "little"):
        raise FormatError("fails its check")
    try:
        return decompress(body[:-1], body[-1])
    except ValueError as error:
        raise FormatError(str(error)) from error


def stored_as(data: bytes) -> int:
    """Return how the bytes of a stored block lie, which nothing has checked: a :class:`StoredAs` if it is whole."""
    return data[-_TRAILER_BYTES]


def encode_index(first_key: bytes, last_key: bytes, separators: Sequence[bytes], sizes: Sequence[int]) -> bytes:
    """Encode the index of blocks that take ``sizes`` bytes of the file, from its start on."""
    return pack_column([first_key, last_key]) + pack_column(separators) + Struct(f"<{len(sizes)}I").pack(*sizes)


def decode_index(data: bytes) -> Index:
    """Decode the index.

    Raises:
        FormatError: it is not one.
    """
    try:
        (first_key, last_key), at = unpack_full_column(data)
        separators, at = unpack_full_column(data, at)
        sizes = Struct(f"<{len(separators)}I").unpack(data[at:])
    except (ColumnError, ValueError, struct_error) as error:
        raise FormatError(f"is not an index: {error}") from error
    return Index(first_key, last_key, separators, array("Q", accumulate(sizes, initial=0)))


def count_blocks(data: bytes) -> int:
    """Return the number of blocks that an encoded index tells of.

    Raises:
        FormatError: it is not one.
    """
    try:
        _, at = unpack_full_column(data)
        return count_items(data, at)
    except ColumnError as error:
        raise FormatError(f"is not an index: {error}") from error


def encode_footer(footer: Footer) -> bytes:
    """Encode the footer."""
    body = _FOOTER.pack(
        VERSION,
        footer.number,
        footer.filter_offset,
        footer.index_offset,
        footer.index_end,
        footer.entries,
        footer.removals,
        footer.lsn,
    )
    return _FRONT.pack(_MAGIC, extend(0, body)) + body


def decode_footer(data: bytes) -> Footer:
    """Decode the footer.

    Raises:
        FormatError: it is cut short or fails its check.
        VersionError: a newer kvbus wrote it.
    """
    if len(data) != FOOTER_BYTES:
        raise FormatError("is cut short")
    magic, crc = _FRONT.unpack_from(data)
    body = data[_FRONT.size :]
    if magic != _MAGIC or crc != extend(0, body):
        raise FormatError("fails its check")
    version, number, filter_offset, index_offset, index_end, entries, removals, lsn = _FOOTER.unpack(body)
    if version != VERSION:
        raise VersionError(f"has version {version}")
    return Footer(
        number=number,
        filter_offset=filter_offset,
        index_offset=index_offset,
        index_end=index_end,
        entries=entries,
        removals=removals,
        lsn=lsn,
    )


def separator(before: bytes, after: bytes) -> bytes:
    """Return the shortest key that is not below ``before`` and below ``after``."""
    for length, (low, high) in enumerate(zip(before, after, strict=False)):
        if low != high:
            if low + 1 < high and length + 1 < len(before):
                return before[:length] + bytes((low + 1,))
            break
    return before
