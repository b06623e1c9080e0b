"""Compression of blocks: the one place that touches lz4 and zstandard.

Source: FORMATS.md, "Block".
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Literal, cast

import zstandard
from lz4 import block as lz4_block  # type: ignore[import-untyped]

Compression = Literal["none", "lz4", "zstd"]

_ZSTD_LEVEL = 1
_WORTH_IT = 7 / 8

_compress_lz4 = cast("Callable[[bytes], bytes]", lz4_block.compress)  # pyright: ignore[reportUnknownMemberType]
_decompress_lz4 = cast("Callable[[bytes], bytes]", lz4_block.decompress)  # pyright: ignore[reportUnknownMemberType]
_Lz4Error = cast("type[Exception]", lz4_block.LZ4BlockError)  # pyright: ignore[reportUnknownMemberType]
_compress_zstd = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=False).compress
_decompress_zstd = zstandard.ZstdDecompressor().decompress


class StoredAs(IntEnum):
    """How a block's bytes lie on the disk."""

    PLAIN = 0
    LZ4 = 1
    ZSTD = 2


def compress(data: bytes, how: Compression) -> tuple[bytes, StoredAs]:
    """Return ``data`` as it is to be stored; it stays plain where an eighth at least is not saved."""
    if how == "none":
        return data, StoredAs.PLAIN
    if how == "lz4":
        stored, stored_as = _compress_lz4(data), StoredAs.LZ4
    else:
        stored, stored_as = _compress_zstd(data), StoredAs.ZSTD
    return (stored, stored_as) if len(stored) < len(data) * _WORTH_IT else (data, StoredAs.PLAIN)


def decompress(stored: bytes, stored_as: int) -> bytes:
    """Return the block that ``stored`` holds.

    Raises:
        ValueError: the bytes are no such block.
    """
    if stored_as == StoredAs.PLAIN:
        return stored
    try:
        if stored_as == StoredAs.LZ4:
            return _decompress_lz4(stored)
        if stored_as == StoredAs.ZSTD:
            return _decompress_zstd(stored)
    except (_Lz4Error, zstandard.ZstdError) as error:
        raise ValueError(f"the block cannot be decompressed: {error}") from error
    raise ValueError(f"the block is stored in a way that has no name: {stored_as}")
