"""Tables: written from sorted entries, cut where they should be, read by key and by range."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvbus.errors import CorruptionError
from kvbus.sim.disk import MemoryDisk
from kvbus_storage.format_error import FormatError
from kvbus_storage.lsm.merge import Chunk
from kvbus_storage.removed import REMOVED
from kvbus_storage.table.bloom import hash_key
from kvbus_storage.table.cache import BlockCache
from kvbus_storage.table.compression import Compression
from kvbus_storage.table.format import (
    FOOTER_BYTES,
    Footer,
    decode_footer,
    decode_index,
    encode_footer,
    encode_index,
    separator,
    table_name,
    table_number,
)
from kvbus_storage.table.output import OutputPlan, write_tables
from kvbus_storage.table.table import Table, open_table

LOWEST, HIGHEST = b"", b"\xff" * 8


PLAN = OutputPlan(first_number=7, lsn=3, guards=(), table_bytes=1 << 20, block_bytes=100, compression="none")


def chunks(entries: dict[bytes, bytes], size: int) -> list[Chunk]:
    keys = sorted(entries)
    parts = [keys[begin : begin + size] for begin in range(0, len(keys), size)]
    return [(part, [entries[key] for key in part]) for part in parts]


def written(entries: dict[bytes, bytes], size: int = 10, plan: OutputPlan = PLAN) -> tuple[MemoryDisk, list[Table]]:
    disk = MemoryDisk()
    cache = BlockCache(1 << 20)
    metas = write_tables(disk, chunks(entries, size), plan)
    return disk, [open_table(disk, meta, cache) for meta in metas]


def scanned(table: Table, start: bytes = LOWEST, end: bytes = HIGHEST) -> list[tuple[bytes, bytes]]:
    return [pair for keys, records in table.scan(start, end) for pair in zip(keys, records, strict=True)]


def sample(count: int, seed: int = 1) -> dict[bytes, bytes]:
    random = Random(seed)
    return {
        b"k/%d" % random.randrange(10 * count): random.choice((REMOVED, b"", random.randbytes(random.randrange(60))))
        for _ in range(count)
    }


@pytest.mark.parametrize("how", ["none", "lz4", "zstd"])
@pytest.mark.parametrize("block_bytes", [64, 4096])
def test_table_holds_what_was_written_and_nothing_else(how: Compression, block_bytes: int) -> None:
    entries = sample(300)
    _, (table,) = written(entries, plan=replace(PLAN, compression=how, block_bytes=block_bytes))
    assert dict(scanned(table)) == entries
    for number in range(3000):
        key = b"k/%d" % number
        if table.first_key <= key <= table.last_key:
            found, expected = table.find(key), entries.get(key)
            assert (found, found is REMOVED) == (expected, expected is REMOVED)
        if key in entries:
            assert hash_key(key) in table.bloom
    assert (table.first_key, table.last_key) == (min(entries), max(entries))
    assert table.meta.entries == len(entries)
    assert table.meta.removals == sum(record is REMOVED for record in entries.values())


@given(st.lists(st.text("abc", max_size=4).map(str.encode), min_size=1, max_size=40, unique=True), st.data())
def test_scan_gives_the_keys_of_a_range_in_order(keys: list[bytes], data: st.DataObject) -> None:
    entries = {key: key for key in keys}
    _, (table,) = written(entries, data.draw(st.integers(1, 9)), replace(PLAN, block_bytes=64))
    bounds = st.text("abc", max_size=4).map(str.encode)
    start, end = data.draw(bounds), data.draw(bounds)
    assert scanned(table, start, end) == [(key, key) for key in sorted(keys) if start <= key < end]
    assert {table.block_of(key) for key in keys} == set(range(table.blocks)), "every block is needed"


def test_blocks_are_as_large_as_asked_for_unless_one_entry_is_larger() -> None:
    entries = {b"%03d" % number: bytes(17) for number in range(200)} | {b"100": bytes(900)}
    _, (table,) = written(entries)
    sizes = [sum(map(len, keys + records)) for keys, records in map(table.entries, range(table.blocks))]
    assert sorted(sizes)[-1] == 903
    assert sorted(sizes)[-2] == 100
    assert sum(size == 100 for size in sizes) > len(sizes) - 4


def test_tables_are_cut_before_each_guard_and_at_their_size() -> None:
    entries = {b"%03d" % number: bytes(7) for number in range(300)}
    for size in (1, 7, 50, 300):
        _, tables = written(entries, size, replace(PLAN, guards=(b"050", b"1005", b"250"), table_bytes=400))
        for guard in (b"050", b"1005", b"250"):
            assert not [table for table in tables if table.first_key < guard <= table.last_key]
        assert [pair for table in tables for pair in scanned(table)] == sorted(entries.items())
        assert [table.number for table in tables] == list(range(7, 7 + len(tables)))
        # One chunk may take a table over its size.
        assert max(table.meta.data_bytes for table in tables) <= 400 + 10 * size


def test_tables_and_their_names_are_durable_before_they_are_told() -> None:
    disk, tables = written(sample(50), plan=replace(PLAN, table_bytes=500))
    image = disk.crash(Random(1))
    for table in tables:
        assert dict(scanned(open_table(image, table.meta, BlockCache(0)))) == dict(scanned(table))


def test_nothing_to_write_writes_nothing() -> None:
    disk, tables = written({})
    assert (disk.list(), tables) == ([], [])


@given(st.binary(max_size=5), st.binary(max_size=5))
def test_separator_lies_between_two_keys_and_is_no_longer_than_the_first(one: bytes, other: bytes) -> None:
    before, after = sorted((one, other))
    if before < after:
        found = separator(before, after)
        assert before <= found < after
        assert len(found) <= len(before)


def test_index_and_footer_come_back_whole() -> None:
    index = decode_index(encode_index(b"a", b"z", [b"c", b"", b"z"], [10, 0, 5]))
    assert (index.first_key, index.last_key, index.separators) == (b"a", b"z", [b"c", b"", b"z"])
    assert list(index.bounds) == [0, 10, 10, 15]
    footer = Footer(number=1, filter_offset=2, index_offset=3, index_end=4, entries=5, removals=6, lsn=(1 << 64) - 1)
    assert decode_footer(encode_footer(footer)) == footer
    assert len(encode_footer(footer)) == FOOTER_BYTES == 72


@pytest.mark.parametrize("cut", [0, 1, 5, 20, 26])
def test_bytes_that_are_no_index_are_refused(cut: int) -> None:
    data = encode_index(b"a", b"z", [b"c"], [10])
    with pytest.raises(FormatError):
        decode_index(data[:cut])
    with pytest.raises(FormatError):
        decode_index(data + b"\0")


def test_table_under_another_name_or_size_is_not_taken_for_it() -> None:
    disk, (table,) = written(sample(20))
    disk.files[table_name(8)] = disk.files[table_name(7)].copy_to(disk)
    for number, extra in ((8, 0), (7, 1), (9, 0)):
        meta = replace(table.meta, number=number, size_bytes=table.meta.size_bytes + extra)
        with pytest.raises(CorruptionError, match=f"table-0000000{number} at byte 0"):
            open_table(disk, meta, BlockCache(0))


def test_hidden_ranges_are_half_open_and_only_those_that_touch_the_table() -> None:
    _, (table,) = written({b"b": b"", b"d": b"", b"f": b""})
    for start, end in ((b"a", b"b"), (b"g", b"z"), (b"f1", b"z")):
        assert table.without(start, end) is table
    hidden = table.without(b"b", b"d").without(b"b", b"d")
    assert (table.hidden, hidden.hidden) == ((), ((b"b", b"d"),))
    assert [hidden.hides(key) for key in (b"a", b"b", b"c", b"d", b"f")] == [False, True, True, False, False]


def test_names_of_tables_round_trip() -> None:
    for number in (1, 99_999_999, 123_456_789):
        assert table_number(table_name(number)) == number
    assert [table_number(name) for name in ("table-1", "table-00000001.tmp", "xtable-00000001", "table-")] == [None] * 4
    names = [table_name(number) for number in (1, 2, 10)]
    assert bisect_left(names, table_name(2)) == 1
