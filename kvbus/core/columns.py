"""Columns of byte strings: the one layout that peer frames and the commit log share.

A column is ``count u32 | length u32 × count | bytes``, little-endian; the length ``0xFFFFFFFF`` stands for an
absent item. Batches carry columns instead of a map an op, so that one encode serves every peer and the log.
Source: FORMATS.md, "Columns".
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from struct import iter_unpack, pack, unpack_from
from typing import cast

ABSENT = 0xFFFFFFFF
_COUNT_BYTES = 4
_ONE = b"\1\0\0\0"


class ColumnError(ValueError):
    """The bytes are not a column."""


def pack_column(items: Sequence[bytes | None]) -> bytes:
    """Encode ``items``; an item may be absent (``None``) or empty."""
    count = len(items)
    if None in items:
        lengths = [ABSENT if item is None else len(item) for item in items]
        return pack(f"<{count + 1}I", count, *lengths) + b"".join([item for item in items if item is not None])
    present = cast("Sequence[bytes]", items)
    return pack(f"<{count + 1}I", count, *map(len, present)) + b"".join(present)


def unpack_column(data: bytes, offset: int = 0) -> tuple[list[bytes | None], int]:
    """Decode the column that starts at ``offset``; return its items and the offset behind it.

    Raises:
        ColumnError: the column does not fit into ``data``.
    """
    lengths, start = _unpack_lengths(data, offset)
    if ABSENT in lengths:
        return _unpack_sparse(data, lengths, start)
    items, end = _unpack_present(data, lengths, start)
    return cast("list[bytes | None]", items), end


def unpack_full_column(data: bytes, offset: int = 0) -> tuple[list[bytes], int]:
    """Decode a column of which no item may be absent.

    Raises:
        ColumnError: the column does not fit into ``data``, or an item is absent.
    """
    # One item is the usual case where nothing is packed.
    if data[offset : offset + _COUNT_BYTES] == _ONE and len(data) >= (start := offset + 2 * _COUNT_BYTES):
        end = start + int.from_bytes(data[offset + _COUNT_BYTES : start], "little")
        if end <= len(data):
            return [data[start:end]], end
    lengths, start = _unpack_lengths(data, offset)
    if ABSENT in lengths:
        raise ColumnError(f"column at {offset} has an absent item")
    return _unpack_present(data, lengths, start)


def count_items(data: bytes, offset: int = 0) -> int:
    """Return how many items the column that starts at ``offset`` has.

    Raises:
        ColumnError: there is no column.
    """
    if offset + _COUNT_BYTES > len(data):
        raise ColumnError(f"column head at {offset} is cut short")
    count: int = unpack_from("<I", data, offset)[0]
    return count


def _unpack_lengths(data: bytes, offset: int) -> tuple[tuple[int, ...], int]:
    count = count_items(data, offset)
    start = offset + _COUNT_BYTES + 4 * count
    if start > len(data):
        raise ColumnError(f"column of {count} items at {offset} is cut short")
    return unpack_from(f"<{count}I", data, offset + _COUNT_BYTES), start


def _unpack_present(data: bytes, lengths: tuple[int, ...], start: int) -> tuple[list[bytes], int]:
    count = len(lengths)
    if count and lengths.count(lengths[0]) == count:
        return _unpack_uniform(data, lengths[0], count, start)
    bounds = list(accumulate(lengths, initial=start))
    if bounds[-1] > len(data):
        raise ColumnError(f"column of {count} items at {start} is cut short")
    return [data[begin:end] for begin, end in pairwise(bounds)], bounds[-1]


def _unpack_uniform(data: bytes, length: int, count: int, start: int) -> tuple[list[bytes], int]:
    end = start + length * count
    if end > len(data):
        raise ColumnError(f"column of {count} items at {start} is cut short")
    if not length:
        return [b""] * count, end
    return [item for (item,) in iter_unpack(f"{length}s", data[start:end])], end


def _unpack_sparse(data: bytes, lengths: tuple[int, ...], start: int) -> tuple[list[bytes | None], int]:
    items: list[bytes | None] = []
    for length in lengths:
        if length == ABSENT:
            items.append(None)
            continue
        items.append(data[start : start + length])
        start += length
    if start > len(data):
        raise ColumnError("column is cut short")
    return items, start
