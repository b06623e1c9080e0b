"""One table, read and checked block by block; what is damaged does not hide the rest.

Source: FORMATS.md, "Table".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import exp
from struct import error as struct_error
from typing import NamedTuple, TypeVar

from kvbus.core.key_text import engine_key_text
from kvbus.ports.disk import ReadFile
from kvbus.ports.engine_tools import Damage
from kvbus_storage.format_error import FormatError
from kvbus_storage.removed import REMOVED
from kvbus_storage.table.block import decode_block
from kvbus_storage.table.bloom import Filter, hash_key
from kvbus_storage.table.compression import StoredAs
from kvbus_storage.table.format import (
    FOOTER_BYTES,
    Footer,
    Index,
    decode_footer,
    decode_index,
    decode_stored,
    stored_as,
    table_number,
)
from kvbus_storage.table.writer import TableMeta

_KEY_CHARACTERS = 40
_PROBES_BYTES = 8
_WAYS = {way.value: way.name.lower() for way in StoredAs}

Part = TypeVar("Part")


class Block(NamedTuple):
    """A data block; ``keys`` and ``records`` are empty and ``way`` is "damaged" where it cannot be read."""

    number: int
    offset: int
    stored_bytes: int
    way: str
    block_bytes: int
    keys: Sequence[bytes]
    records: Sequence[bytes]

    @property
    def removals(self) -> int:
        """How many of the keys are removed ones."""
        return sum(record is REMOVED for record in self.records)


class TableScan:
    """Reads a table; ``meta`` is what the manifest says of it, None where nobody asks the manifest.

    ``damage`` is whole once :meth:`blocks` has ended.

    Raises:
        VersionError: a newer kvbus wrote it.
    """

    def __init__(self, file: ReadFile, name: str, meta: TableMeta | None = None) -> None:
        self._file = file
        self._meta = meta
        self.damage: list[Damage] = []
        self.index: Index | None = None
        self.bloom: Filter | None = None
        self.filter_bits = self.probes = 0
        self._footer_at = max(file.size - FOOTER_BYTES, 0)
        self.footer = self._read_footer(name)
        if self.footer is not None and self._parts_fit(self.footer):
            footer = self.footer
            self.bloom = self._part(footer.filter_offset, footer.index_offset, "filter", self._decode_filter)
            self.index = self._part(footer.index_offset, footer.index_end, "index", decode_index)
        if self.index is not None:
            self._check_index(self.index)

    @property
    def false_positive_rate(self) -> float:
        """The share of absent keys that the filter lets through, in theory. Source: FORMATS.md, "Filter"."""
        if self.footer is None or not self.filter_bits:
            return 0.0
        return float((1 - exp(-self.probes * self.footer.entries / self.filter_bits)) ** self.probes)

    def blocks(self) -> Iterator[Block]:
        """Yield the data blocks in order, also those that cannot be read."""
        if self.index is None or self.footer is None:
            return
        entries = removals = denied = 0
        is_whole = True
        low: bytes | None = None
        for number in range(len(self.index.separators)):
            block = self._block(self.index, number)
            yield block
            if not block.keys:
                is_whole = False
            else:
                self._check_keys(self.index, block, low)
                entries += len(block.keys)
                removals += block.removals
                denied += self._denied(block.keys)
            low = self.index.separators[number]
        if denied:
            self.damage.append(Damage(self.footer.filter_offset, f"the filter denies {denied} of the table's keys"))
        if is_whole and (entries, removals) != (self.footer.entries, self.footer.removals):
            said = f"{self.footer.entries} entries with {self.footer.removals} removals"
            self._at_footer(f"the footer says {said}, the blocks have {entries} with {removals}")

    def _read_footer(self, name: str) -> Footer | None:
        meta = self._meta
        if meta is not None and meta.size_bytes != self._file.size:
            self._at_footer(f"the manifest says {meta.size_bytes} bytes, the file has {self._file.size}")
        try:
            footer = decode_footer(self._file.read(self._footer_at, FOOTER_BYTES))
        except FormatError as error:
            self._at_footer(f"the table's footer {error}; without it nobody knows where its blocks lie")
            return None
        if table_number(name) not in (None, footer.number):
            self._at_footer(f"the footer belongs to table {footer.number}")
        if meta is not None:
            said = (meta.entries, meta.removals, meta.lsn)
            if said != (footer.entries, footer.removals, footer.lsn):
                self._at_footer("entries, removals and LSN in the footer are not those that the manifest names")
        return footer

    def _parts_fit(self, footer: Footer) -> bool:
        fits = footer.filter_offset <= footer.index_offset <= footer.index_end == self._footer_at
        if not fits:
            self._at_footer("the footer's offsets are not in order")
        return fits

    def _part(self, begin: int, end: int, noun: str, decode: Callable[[bytes], Part]) -> Part | None:
        try:
            return decode(decode_stored(self._file.read(begin, end - begin)))
        except ValueError as error:
            self.damage.append(Damage(begin, f"the table's {noun} {error}"))
            return None

    def _decode_filter(self, data: bytes) -> Filter:
        bloom = Filter.decode(data)
        self.probes = int.from_bytes(data[:_PROBES_BYTES], "little")
        self.filter_bits = 8 * (len(data) - _PROBES_BYTES)
        return bloom

    def _check_index(self, index: Index) -> None:
        assert self.footer is not None
        at = self.footer.index_offset
        if index.bounds[-1] != self.footer.filter_offset:
            what = f"the blocks end at byte {index.bounds[-1]}, the filter begins at {self.footer.filter_offset}"
            self.damage.append(Damage(at, what))
        if not index.separators:
            self.damage.append(Damage(at, "the index has no block"))
        if any(low >= high for low, high in pairwise(index.separators)):
            self.damage.append(Damage(at, "the index's separators do not ascend"))
        meta = self._meta
        if meta is not None and (meta.first_key, meta.last_key) != (index.first_key, index.last_key):
            self.damage.append(Damage(at, "first and last key are not those that the manifest names"))

    def _block(self, index: Index, number: int) -> Block:
        begin, end = index.bounds[number], index.bounds[number + 1]
        data = self._file.read(begin, end - begin)
        try:
            block = decode_stored(data)
            keys, records = _decoded(block)
        except FormatError as error:
            self.damage.append(Damage(begin, f"block {number} {error}"))
            return Block(number, begin, end - begin, "damaged", 0, (), ())
        return Block(number, begin, end - begin, _WAYS[stored_as(data)], len(block), keys, records)

    def _check_keys(self, index: Index, block: Block, low: bytes | None) -> None:
        keys, number = block.keys, block.number
        wrong = next((after for before, after in pairwise(keys) if before >= after), None)
        if wrong is not None:
            self._at_block(block, f"the keys do not ascend at {engine_key_text(wrong, _KEY_CHARACTERS)}")
        if keys[-1] > index.separators[number] or (low is not None and keys[0] <= low):
            self._at_block(block, "it holds keys that the index does not look for there")
        if number == 0 and keys[0] != index.first_key:
            self._at_block(block, "its first key is not the one in the index")
        if number == len(index.separators) - 1 and keys[-1] != index.last_key:
            self._at_block(block, "its last key is not the one in the index")

    def _denied(self, keys: Sequence[bytes]) -> int:
        if self.bloom is None:
            return 0
        bloom = self.bloom.bloom
        return sum(hash_key(key) not in bloom for key in keys)

    def _at_block(self, block: Block, what: str) -> None:
        self.damage.append(Damage(block.offset, f"block {block.number}: {what}"))

    def _at_footer(self, what: str) -> None:
        self.damage.append(Damage(self._footer_at, what))


def _decoded(block: bytes) -> tuple[list[bytes], list[bytes]]:
    """Decode a block that passed its check, but that a fault of the writer may have made wrong.

    Raises:
        FormatError: it is none.
    """
    try:
        keys, records = decode_block(block)
    except (struct_error, ValueError, IndexError) as error:
        raise FormatError(f"passes its check and is no block all the same: {error}") from error
    if not keys:
        raise FormatError("has no entries")
    return keys, records
