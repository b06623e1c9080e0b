"""Writing one table: ascending entries in, a synced file out.

Source: FORMATS.md, "Table".
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from kvbus.ports.disk import Disk
from kvbus_storage.removed import REMOVED
from kvbus_storage.table.block import encode_block
from kvbus_storage.table.bloom import Filter, hash_key
from kvbus_storage.table.compression import Compression
from kvbus_storage.table.format import (
    Footer,
    encode_footer,
    encode_index,
    encode_stored,
    separator,
    table_name,
)

SHORT_SYNC_BYTES, LONG_SYNC_BYTES = 64 << 10, 1 << 20
"""Bytes that are written and synced at once: another file's sync waits behind whatever a longer one has in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMeta:
    """What the manifest says of a table.

    ``size_bytes`` is the file's, ``data_bytes`` that of its keys and records. ``lsn`` is that of the newest batch that
    may be in it; ``removals`` of its ``entries`` are removed keys.
    """

    number: int
    size_bytes: int
    data_bytes: int
    entries: int
    removals: int
    lsn: int
    first_key: bytes
    last_key: bytes


class TableWriter:
    """Writes one table, a chunk of entries at a time."""

    def __init__(
        self,
        disk: Disk,
        number: int,
        *,
        block_bytes: int,
        compression: Compression,
        sync_bytes: int,
        give_way: Callable[[], object],
    ) -> None:
        self._number = number
        self._block_bytes = block_bytes
        self._compression: Compression = compression
        self._sync_bytes = sync_bytes
        self._give_way = give_way
        self._file = disk.create(table_name(number))
        self._keys: list[bytes] = []
        self._records: list[bytes] = []
        self._hashes: list[int] = []
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._separators: list[bytes] = []
        self._sizes: list[int] = []
        self._first_key = self._last_key = b""
        self._entries = self._removals = 0
        self.data_bytes = 0

    def add(self, keys: Sequence[bytes], records: Sequence[bytes]) -> None:
        """Add entries behind the present ones; both lists are as long, ``keys`` ascend."""
        if not keys:
            return
        if not self._entries:
            self._first_key = keys[0]
        self._hashes += map(hash_key, keys)
        self._entries += len(keys)
        self._last_key = keys[-1]
        removals = sum(record is REMOVED for record in records) if REMOVED in records else 0
        self._removals += removals
        self._keys += keys
        self._records += records
        self.data_bytes += sum(map(len, keys)) + sum(map(len, records)) - removals * len(REMOVED)
        self._cut_blocks(keep_rest=True)

    def finish(self, lsn: int) -> TableMeta:
        """Write what is left, the filter, the index and the footer; sync and close the file.

        Raises:
            OSError: the disk is full or failing; what was written is a leftover.
        """
        self._cut_blocks(keep_rest=False)
        filter_offset = sum(self._sizes)
        self._put(encode_stored(Filter.of_hashes(self._hashes).encode(), "none"))
        index_offset = self._file.offset + self._parts_bytes
        self._put(encode_stored(encode_index(self._first_key, self._last_key, self._separators, self._sizes), "none"))
        footer = Footer(
            number=self._number,
            filter_offset=filter_offset,
            index_offset=index_offset,
            index_end=self._file.offset + self._parts_bytes,
            entries=self._entries,
            removals=self._removals,
            lsn=lsn,
        )
        self._put(encode_footer(footer))
        self._append()
        size_bytes = self._file.offset
        self._file.close()
        return TableMeta(
            number=self._number,
            size_bytes=size_bytes,
            data_bytes=self.data_bytes,
            entries=self._entries,
            removals=self._removals,
            lsn=lsn,
            first_key=self._first_key,
            last_key=self._last_key,
        )

    def abandon(self) -> None:
        """Close the file as it is; it is a leftover."""
        self._file.close()

    def _cut_blocks(self, *, keep_rest: bool) -> None:
        keys, records = self._keys, self._records
        lengths = map(int.__add__, map(len, keys), map(len, records))
        ends = list(accumulate(lengths, initial=0))
        begin, count = 0, len(keys)
        while begin < count:
            end = max(bisect_right(ends, ends[begin] + self._block_bytes) - 1, begin + 1)
            if end >= count:
                if keep_rest:
                    break
                end = count
            self._cut_block(keys[begin:end], records[begin:end], keys[end] if end < count else None)
            begin = end
        del keys[:begin], records[:begin]

    def _cut_block(self, keys: list[bytes], records: list[bytes], following: bytes | None) -> None:
        stored = encode_stored(encode_block(keys, records), self._compression)
        self._separators.append(keys[-1] if following is None else separator(keys[-1], following))
        self._sizes.append(len(stored))
        self._put(stored)

    def _put(self, part: bytes) -> None:
        self._parts.append(part)
        self._parts_bytes += len(part)
        if self._parts_bytes >= self._sync_bytes:
            self._append()
        self._give_way()

    def _append(self) -> None:
        if self._parts:
            self._file.append(b"".join(self._parts))
            self._file.sync()
            self._parts, self._parts_bytes = [], 0
