"""Reading one table.

Source: FORMATS.md, "Table".
"""

from __future__ import annotations

import logging
from array import array
from bisect import bisect_left
from collections.abc import Callable, Container, Iterator
from copy import copy
from typing import TypeVar

from kvbus.errors import ConfigError, CorruptionError
from kvbus.ports.disk import Disk, ReadFile
from kvbus_storage.format_error import FormatError, VersionError
from kvbus_storage.table.block import decode_block, find_in_block
from kvbus_storage.table.bloom import Filter
from kvbus_storage.table.cache import BlockCache
from kvbus_storage.table.format import (
    FOOTER_BYTES,
    Footer,
    Index,
    count_blocks,
    decode_footer,
    decode_index,
    decode_stored,
    encode_index,
    table_name,
)
from kvbus_storage.table.writer import TableMeta

logger = logging.getLogger(__name__)

_PLACE_BITS = 32
_WINDOW_BLOCKS = 32
_SEPARATOR_BYTES = 72
"""What a block's place in the index takes in memory, about: a short bytes object, a pointer to it, and an offset."""

MEND = "Restore the data directory from a copy."

Part = TypeVar("Part")


class Table:
    """A table opened for reading: its filter and its index are in memory, its blocks come through ``cache``.

    ``index`` is the encoded one, whose check has been made. It is decoded when it is needed first: to do so for all
    that a job has written would hold up a node's loop.
    ``hidden`` holds the ranges of keys, ``(start, end)`` half open, that were dropped after the table was written.
    """

    __slots__ = (
        "_bounds",
        "_cache",
        "_cached",
        "_encoded_index",
        "_place",
        "_separators",
        "bloom",
        "file",
        "first_key",
        "hidden",
        "last_key",
        "memory_bytes",
        "meta",
        "number",
    )

    def __init__(
        self, file: ReadFile, meta: TableMeta, bloom: Filter, index: bytes, blocks: int, cache: BlockCache
    ) -> None:
        self.meta = meta
        self.number = meta.number
        self.first_key = meta.first_key
        self.last_key = meta.last_key
        self.hidden: tuple[tuple[bytes, bytes], ...] = ()
        self.bloom: Container[int] = bloom.bloom
        self.memory_bytes = bloom.size_bytes + _SEPARATOR_BYTES * blocks
        self.file = file
        self._encoded_index = index
        self._separators: list[bytes] = []
        self._bounds: array[int] = array("Q")
        self._cache = cache
        self._cached = cache.entries
        self._place = meta.number << _PLACE_BITS

    @property
    def blocks(self) -> int:
        """The number of data blocks."""
        return len(self._separators or self._load_index())

    def find(self, key: bytes) -> bytes | None:
        """Return what stands at ``key``, between the first and the last one: a record, REMOVED, or None.

        Raises:
            CorruptionError: the block is damaged.
        """
        index = bisect_left(self._separators or self._load_index(), key)
        entry = self._cached.get(self._place + index)
        if entry is None:
            block = self._read_block(index)
            self._cache.put(self._place + index, block)
            return find_in_block(block, key)
        entry.uses += 1
        return find_in_block(entry.block, key)

    def without(self, start: bytes, end: bytes) -> Table:
        """Return the same table with the keys from ``start`` up to ``end`` dropped."""
        if start >= end or start > self.last_key or self.first_key >= end or (start, end) in self.hidden:
            return self
        twin = copy(self)
        twin.hidden = (*self.hidden, (start, end))
        return twin

    def visible(self, start: bytes, end: bytes) -> list[tuple[bytes, bytes]]:
        """Return the parts of the range from ``start`` up to ``end`` that were not dropped, in order."""
        parts: list[tuple[bytes, bytes]] = []
        for hidden_from, hidden_to in sorted(self.hidden):
            if start < hidden_from:
                parts.append((start, min(hidden_from, end)))
            start = max(start, hidden_to)
            if start >= end:
                return parts
        return [*parts, (start, end)] if start < end else parts

    @property
    def is_hidden(self) -> bool:
        """Say whether all of its keys were dropped."""
        return bool(self.hidden) and not self.visible(self.first_key, self.last_key + b"\0")

    def hides(self, key: bytes) -> bool:
        """Say whether ``key`` lies in a dropped range."""
        return any(start <= key < end for start, end in self.hidden)

    def block_of(self, key: bytes) -> int:
        """Return the number of the first block that may hold ``key`` or what follows it; :attr:`blocks` if none."""
        return bisect_left(self._separators or self._load_index(), key)

    def is_cached(self, block: int) -> bool:
        """Say whether a block is in memory."""
        return self._place + block in self._cached

    def entries(self, block: int) -> tuple[list[bytes], list[bytes]]:
        """Return the keys in a block and what stands at them; the cache is asked and left as it is.

        Raises:
            CorruptionError: the block is damaged.
        """
        entry = self._cached.get(self._place + block)
        return decode_block(self._read_block(block) if entry is None else entry.block)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[list[bytes], list[bytes]]]:
        """Yield the entries with ``start <= key < end`` in order, some at a time.

        Raises:
            CorruptionError: a block is damaged.
        """
        block, count = self.block_of(start), 1
        while block < self.blocks:
            keys, records = self._entries_of(block, min(block + count, self.blocks))
            block += count
            # Most scans are short; a long one reads more and more at once.
            count = min(2 * count, _WINDOW_BLOCKS)
            low, high = bisect_left(keys, start), bisect_left(keys, end)
            if low < high:
                yield keys[low:high], records[low:high]
            if high < len(keys):
                return

    def close(self) -> None:
        """Release the file."""
        self.file.close()

    def _load_index(self) -> list[bytes]:
        try:
            index = decode_index(self._encoded_index)
        except FormatError as error:
            raise CorruptionError(f"the table's index {error}", table_name(self.number), 0) from error
        if index.separators:
            self._encoded_index = b""
        self._separators, self._bounds = index.separators, index.bounds
        return self._separators

    def _entries_of(self, first: int, last: int) -> tuple[list[bytes], list[bytes]]:
        """Return the entries of the blocks from ``first`` up to ``last``; the cache is asked of a single one only."""
        if last - first == 1:
            return self.entries(first)
        return read_entries(self.file, self._bounds, first, last, table_name(self.number))

    def _read_block(self, index: int) -> bytes:
        bounds = self._bounds
        begin = bounds[index]
        return _decoded(self.file.read(begin, bounds[index + 1] - begin), table_name(self.number), begin)


class DamagedTable(Table):
    """Stands for a table that cannot be opened: whatever is looked for in its range of keys meets the damage."""

    def __init__(self, file: ReadFile, meta: TableMeta, cache: BlockCache, damage: CorruptionError) -> None:
        super().__init__(file, meta, Filter.of_hashes([]), encode_index(b"", b"", [], []), 0, cache)
        self.bloom = _Anything()
        # An error that is raised keeps the frames that it went through, and all that these hold: so each gets a copy.
        self._damage = copy(damage)

    def find(self, key: bytes) -> bytes | None:
        """Raise the error that opening it has met."""
        raise copy(self._damage)

    def entries(self, block: int) -> tuple[list[bytes], list[bytes]]:
        """Raise the error that opening it has met."""
        raise copy(self._damage)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[list[bytes], list[bytes]]]:
        """Raise the error that opening it has met."""
        raise copy(self._damage)


class _Anything:
    """A filter that rules nothing out."""

    def __contains__(self, hashed: object) -> bool:
        return True


def open_table(disk: Disk, meta: TableMeta, cache: BlockCache) -> Table:
    """Open the table that ``meta`` names.

    Raises:
        CorruptionError: it is missing, or its filter, index or footer is damaged.
        ConfigError: a newer kvbus wrote it.
    """
    file = _open_file(disk, meta)
    try:
        return _read_table(file, meta, cache)
    except BaseException:
        file.close()
        raise


def open_table_or_damage(disk: Disk, meta: TableMeta, cache: BlockCache) -> Table:
    """Open the table that ``meta`` names; where it is damaged, return what stands for it.

    Raises:
        CorruptionError: it is missing.
        ConfigError: a newer kvbus wrote it.
    """
    file = _open_file(disk, meta)
    try:
        return _read_table(file, meta, cache)
    except CorruptionError as error:
        logger.error("its keys count as damaged from %r to %r: %s", meta.first_key, meta.last_key, error)
        return DamagedTable(file, meta, cache, error)


def _open_file(disk: Disk, meta: TableMeta) -> ReadFile:
    name = table_name(meta.number)
    try:
        return disk.open(name)
    except FileNotFoundError as error:
        raise CorruptionError(f"the table is missing. {MEND}", name, 0) from error


def _read_table(file: ReadFile, meta: TableMeta, cache: BlockCache) -> Table:
    name = table_name(meta.number)
    footer = read_footer(file, name)
    if (file.size, footer.number, footer.entries) != (meta.size_bytes, meta.number, meta.entries):
        raise CorruptionError("the table is another one than the manifest names", name, 0)
    index, blocks = _read_part(file, footer.index_offset, footer.index_end, name, "index", _counted)
    return Table(file, meta, _read_filter(file, footer, name), index, blocks, cache)


def _counted(index: bytes) -> tuple[bytes, int]:
    return index, count_blocks(index)


def read_footer(file: ReadFile, name: str) -> Footer:
    """Read a table's footer.

    Raises:
        CorruptionError: it is damaged.
        ConfigError: a newer kvbus wrote it.
    """
    at = max(file.size - FOOTER_BYTES, 0)
    try:
        return decode_footer(file.read(at, FOOTER_BYTES))
    except FormatError as error:
        raise CorruptionError(f"the table's footer {error}", name, at) from error
    except VersionError as error:
        raise ConfigError(f"{name} {error}: a newer kvbus wrote it; start that version") from error


def read_index(file: ReadFile, footer: Footer, name: str) -> Index:
    """Read a table's index.

    Raises:
        CorruptionError: it is damaged.
    """
    return _read_part(file, footer.index_offset, footer.index_end, name, "index", decode_index)


def read_entries(
    file: ReadFile, bounds: array[int], first: int, last: int, name: str
) -> tuple[list[bytes], list[bytes]]:
    """Read the keys in the blocks from ``first`` up to ``last`` and what stands at them, with one read.

    Block i lies between ``bounds[i]`` and ``bounds[i + 1]``.

    Raises:
        CorruptionError: a block is damaged.
    """
    begin = bounds[first]
    data = file.read(begin, bounds[last] - begin)
    keys: list[bytes] = []
    records: list[bytes] = []
    for block in range(first, last):
        stored = data[bounds[block] - begin : bounds[block + 1] - begin]
        more_keys, more_records = decode_block(_decoded(stored, name, bounds[block]))
        keys += more_keys
        records += more_records
    return keys, records


def _decoded(stored: bytes, name: str, offset: int) -> bytes:
    try:
        return decode_stored(stored)
    except FormatError as error:
        raise CorruptionError(f"the block {error}", name, offset) from error


def _read_filter(file: ReadFile, footer: Footer, name: str) -> Filter:
    return _read_part(file, footer.filter_offset, footer.index_offset, name, "filter", Filter.decode)


def _read_part(file: ReadFile, begin: int, end: int, name: str, noun: str, decode: Callable[[bytes], Part]) -> Part:
    try:
        return decode(decode_stored(file.read(begin, end - begin)))
    except ValueError as error:
        raise CorruptionError(f"the table's {noun} {error}", name, begin) from error
