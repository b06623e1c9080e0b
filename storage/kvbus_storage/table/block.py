"""Blocks of sorted entries: encoding, search and decoding. No input or output.

Source: FORMATS.md, "Data block".
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import accumulate, pairwise
from struct import Struct

from kvbus_storage.removed import REMOVED

_HEAD = Struct("<IIIII")
_HEAD_BYTES = _HEAD.size
_UNEVEN = 0xFFFFFFFF
_PAIR = Struct("<II")
_ONE = Struct("<I")
_END_BYTES = _ONE.size
_IS_RECORD, _IS_REMOVED = 0, 1


def encode_block(keys: Sequence[bytes], records: Sequence[bytes]) -> bytes:
    """Encode ascending ``keys`` and what stands at them, :data:`~kvbus_storage.removed.REMOVED` included."""
    count = len(keys)
    cut = _common_bytes(keys[0], keys[-1])
    prefix = keys[0][:cut]
    suffixes = [key[cut:] for key in keys] if cut else keys
    removals, kinds = 0, b""
    if REMOVED in records:
        kinds = bytes([_IS_REMOVED if record is REMOVED else _IS_RECORD for record in records])
        removals = kinds.count(_IS_REMOVED)
        records = [b"" if record is REMOVED else record for record in records]
    key_bytes, key_ends = _lengths(suffixes)
    value_bytes, value_ends = _lengths(records)
    head = _HEAD.pack(count, cut, key_bytes, value_bytes, removals)
    return b"".join((head, key_ends, value_ends, kinds if removals else b"", prefix, *suffixes, *records))


def find_in_block(block: bytes, key: bytes) -> bytes | None:
    """Return what stands at ``key`` in a valid block: a record, REMOVED, or None."""
    count, cut, key_bytes, value_bytes, removals = _HEAD.unpack_from(block)
    values_at = _HEAD_BYTES if key_bytes != _UNEVEN else _HEAD_BYTES + _END_BYTES * count
    kinds_at = values_at if value_bytes != _UNEVEN else values_at + _END_BYTES * count
    prefix_at = kinds_at + count if removals else kinds_at
    keys_at = prefix_at + cut
    if block[prefix_at:keys_at] != key[:cut]:
        return None
    suffix = key[cut:]
    if key_bytes != _UNEVEN:
        if len(suffix) != key_bytes:
            return None
        records_at = keys_at + key_bytes * count
        at = block.find(suffix, keys_at, records_at) - keys_at
        if at < 0:
            return None
        # Most often the first place where the bytes stand is a key of its own; else they are a part of two others.
        index, rest = divmod(at, key_bytes) if key_bytes else (0, 0)
        if rest:
            index = _search(block, keys_at, range(key_bytes, key_bytes * count + 1, key_bytes), suffix)
    else:
        ends = _ends(count).unpack_from(block, _HEAD_BYTES)
        records_at = keys_at + ends[-1]
        index = _find_uneven(block, keys_at, ends, suffix)
    if index < 0:
        return None
    return _value(block, index, values_at, kinds_at, records_at, value_bytes, removals)


def decode_block(block: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return the keys of a valid block and what stands at them."""
    count, cut, key_bytes, value_bytes, removals = _HEAD.unpack_from(block)
    values_at = _HEAD_BYTES if key_bytes != _UNEVEN else _HEAD_BYTES + _END_BYTES * count
    kinds_at = values_at if value_bytes != _UNEVEN else values_at + _END_BYTES * count
    prefix_at = kinds_at + count if removals else kinds_at
    keys_at = prefix_at + cut
    keys, records_at = _cut(block, keys_at, count, key_bytes, _HEAD_BYTES)
    if cut:
        prefix = block[prefix_at:keys_at]
        keys = [prefix + suffix for suffix in keys]
    records, _ = _cut(block, records_at, count, value_bytes, values_at)
    if removals:
        kinds = block[kinds_at:prefix_at]
        records = [REMOVED if kind == _IS_REMOVED else record for kind, record in zip(kinds, records, strict=True)]
    return keys, records


def _common_bytes(first: bytes, last: bytes) -> int:
    for length, (one, other) in enumerate(zip(first, last, strict=False)):
        if one != other:
            return length
    return min(len(first), len(last))


def _lengths(items: Sequence[bytes]) -> tuple[int, bytes]:
    """Return the length that all ``items`` have, or UNEVEN and their ends."""
    lengths = list(map(len, items))
    if lengths.count(lengths[0]) == len(lengths):
        return lengths[0], b""
    return _UNEVEN, _ends(len(lengths)).pack(*accumulate(lengths))


def _value(
    block: bytes, index: int, values_at: int, kinds_at: int, records_at: int, value_bytes: int, removals: int
) -> bytes:
    if removals and block[kinds_at + index] == _IS_REMOVED:
        return REMOVED
    if value_bytes != _UNEVEN:
        begin = records_at + index * value_bytes
        return block[begin : begin + value_bytes]
    if not index:
        return block[records_at : records_at + _ONE.unpack_from(block, values_at)[0]]
    begin, end = _PAIR.unpack_from(block, values_at + _END_BYTES * (index - 1))
    return block[records_at + begin : records_at + end]


def _find_uneven(block: bytes, keys_at: int, ends: Sequence[int], suffix: bytes) -> int:
    at = block.find(suffix, keys_at, keys_at + ends[-1]) - keys_at
    if at < 0:
        return -1
    end = at + len(suffix)
    index = bisect_left(ends, end)
    if ends[index] == end and (ends[index - 1] if index else 0) == at:
        return index
    return _search(block, keys_at, ends, suffix)


def _search(block: bytes, keys_at: int, ends: Sequence[int], suffix: bytes) -> int:
    low, high = 0, len(ends)
    while low < high:
        middle = (low + high) // 2
        begin = ends[middle - 1] if middle else 0
        found = block[keys_at + begin : keys_at + ends[middle]]
        if found == suffix:
            return middle
        if found < suffix:
            low = middle + 1
        else:
            high = middle
    return -1


def _cut(block: bytes, start: int, count: int, length: int, ends_at: int) -> tuple[list[bytes], int]:
    """Return ``count`` items that lie from ``start`` on, and where they end."""
    if length != _UNEVEN:
        return list(_items(count, length).unpack_from(block, start)), start + count * length
    bounds = [start, *map(start.__add__, _ends(count).unpack_from(block, ends_at))]
    return [block[begin:end] for begin, end in pairwise(bounds)], bounds[-1]


@cache
def _ends(count: int) -> Struct:
    return Struct(f"<{count}I")


@lru_cache
def _items(count: int, length: int) -> Struct:
    return Struct("<" + f"{length}s" * count)
