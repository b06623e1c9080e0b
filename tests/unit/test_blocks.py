"""Data blocks, filters and the block cache: what stands where, what is never missed, what stays in memory."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvbus_storage.removed import REMOVED
from kvbus_storage.table.block import decode_block, encode_block, find_in_block
from kvbus_storage.table.bloom import BITS_A_KEY, Filter, hash_key
from kvbus_storage.table.cache import BlockCache
from kvbus_storage.table.compression import Compression
from kvbus_storage.table.format import decode_stored, encode_stored

LIKE_THE_MARK = b"\0kvbus removed\0"

# Few letters and lengths, so that keys contain each other, end alike and share prefixes.
keys_of_a_block = st.lists(st.text("ab", max_size=5).map(str.encode), min_size=1, max_size=12, unique=True).map(sorted)
states = st.one_of(st.just(REMOVED), st.binary(max_size=3), st.sampled_from((LIKE_THE_MARK, b"", b"ab", b"x" * 300)))


def check_block(keys: list[bytes], records: list[bytes], absent: list[bytes]) -> None:
    block = encode_block(keys, records)
    found_keys, found_records = decode_block(block)
    assert (found_keys, found_records) == (keys, records)
    assert [record is REMOVED for record in found_records] == [record is REMOVED for record in records]
    for key, record in zip(keys, records, strict=True):
        found = find_in_block(block, key)
        assert found == record
        assert (found is REMOVED) == (record is REMOVED)
    for key in absent:
        if key not in keys:
            assert find_in_block(block, key) is None


@given(keys_of_a_block, st.data())
def test_block_holds_its_keys_and_no_others(keys: list[bytes], data: st.DataObject) -> None:
    records = data.draw(st.lists(states, min_size=len(keys), max_size=len(keys)))
    near = [key[:cut] for key in keys for cut in range(len(key))] + [key + b"a" for key in keys]
    check_block(keys, records, [*near, b"", b"ba", b"abab", b"c", b"bbbbbb"])


@given(
    st.integers(0, 4), st.sets(st.text("ab", min_size=3, max_size=3), min_size=1), st.sampled_from((b"", b"r", REMOVED))
)
def test_block_of_even_lengths_holds_its_keys_and_no_others(cut: int, suffixes: set[str], record: bytes) -> None:
    keys = [b"prefix"[:cut] + suffix.encode() for suffix in sorted(suffixes)]
    others = [b"prefix"[:cut] + number.encode() for number in ("aaa", "aab", "aba", "baa", "bab", "bbb", "ab", "abab")]
    check_block(keys, [record] * len(keys), [*others, b"", b"pref"])


@pytest.mark.parametrize(
    "keys",
    [
        [b""],
        [b"", b"a"],
        [b"key"],
        [b"key", b"key1", b"key11", b"key111"],
        [b"aab", b"aba", b"baa"],
        [b"\0", b"\0\0", b"\0\0\0"],
        [b"p/", b"p/a", b"p/ab", b"p/b"],
    ],
)
@pytest.mark.parametrize("record", [b"", b"r", REMOVED, LIKE_THE_MARK])
def test_keys_that_contain_each_other_and_empty_suffixes_are_told_apart(keys: list[bytes], record: bytes) -> None:
    absent = [b"", b"a", b"ab", b"ba", b"ke", b"key1111", b"\0\0\0\0", b"p", b"p/abb", b"q"]
    check_block(keys, [record] * len(keys), absent)
    uneven = [b"r" * number for number in range(len(keys))]
    check_block(keys, uneven, absent)
    check_block(keys, [REMOVED, *uneven][: len(keys)], absent)


@pytest.mark.parametrize("how", ["none", "lz4", "zstd"])
@pytest.mark.parametrize("block", [b"", b"x", b"ab" * 3000, Random(1).randbytes(3000)])
def test_stored_block_comes_back_whole_and_never_grows_by_more_than_its_trailer(how: Compression, block: bytes) -> None:
    stored = encode_stored(block, how)
    assert decode_stored(stored) == block
    assert len(stored) <= len(block) + 5
    if how != "none" and len(block) == 6000:
        assert len(stored) < 600


def test_filter_never_misses_a_key_and_is_wrong_as_rarely_as_the_theory_says() -> None:
    for count in (1, 100, 20_000):
        keys = [b"key/%d" % number for number in range(count)]
        kept = Filter.decode(Filter.of_hashes([hash_key(key) for key in keys]).encode())
        assert all(hash_key(key) in kept.bloom for key in keys)
        assert kept.size_bytes <= count * BITS_A_KEY / 8 * 1.05 + 16
    wrong = sum(hash_key(b"other/%d" % number) in kept.bloom for number in range(20_000))
    assert wrong / 20_000 < 1.5 * 0.6185**BITS_A_KEY


def test_filter_of_nothing_holds_nothing() -> None:
    kept = Filter.decode(Filter.of_hashes([]).encode())
    assert hash_key(b"") not in kept.bloom


def test_hash_of_a_key_is_the_documented_one() -> None:
    assert hash_key(b"") == 0
    # A signed number of 128 bits: half of all hashes are below zero.
    assert -(1 << 127) <= min(map(hash_key, (b"%d" % number for number in range(20)))) < 0


def ask(cache: BlockCache, place: int, size: int = 760) -> bool:
    """Read a block as a table does; say whether it was in memory."""
    entry = cache.entries.get(place)
    if entry is None:
        cache.put(place, bytes(size))
        return False
    entry.uses += 1
    return True


def test_cache_keeps_its_budget_whatever_comes() -> None:
    random = Random(1)
    cache = BlockCache(50_000)
    for _ in range(3000):
        ask(cache, random.randrange(300), random.choice((10, 1000, 9000)))
        assert cache.used_bytes <= 50_000
    assert cache.used_bytes > 35_000
    assert cache.used_bytes == sum(len(entry.block) + 240 for entry in cache.entries.values())
    cache.resize(5000)
    assert cache.used_bytes <= 5000


def test_block_larger_than_the_budget_is_served_and_not_kept() -> None:
    cache = BlockCache(1000)
    ask(cache, 1, 5000)
    assert (len(cache), cache.used_bytes) == (0, 0)
    ask(cache, 2, 100)
    assert ask(cache, 2, 100)


@pytest.mark.parametrize("rounds", [1, 3])
def test_scan_of_cold_blocks_leaves_the_hot_ones_in_memory(rounds: int) -> None:
    cache = BlockCache(100_000)
    hot = range(60)
    for _ in range(4):
        for place in hot:
            ask(cache, place)
    for turn in range(rounds):
        for place in range(1000 + 5000 * turn, 6000 + 5000 * turn):
            ask(cache, place)
        kept = sum(ask(cache, place) for place in hot)
        assert kept >= 54, f"{kept} of 60 hot blocks are left"


def test_new_hot_blocks_take_the_place_of_those_nobody_asks_for_any_more() -> None:
    cache = BlockCache(100_000)
    for _ in range(5):
        for place in range(90):
            ask(cache, place)
    for _ in range(30):
        for place in range(1000, 1060):
            ask(cache, place)
    assert sum(ask(cache, place) for place in range(1000, 1060)) >= 54


def test_a_block_that_comes_does_not_have_all_others_looked_at() -> None:
    cache = BlockCache(4_000_000)
    for place in range(4000):
        ask(cache, place)
        ask(cache, place)
    before = {place: entry.uses for place, entry in cache.entries.items()}
    ask(cache, 5000)
    changed = [
        place for place, uses in before.items() if place not in cache.entries or cache.entries[place].uses != uses
    ]
    assert len(before) > 2000
    assert 0 < len(changed) < 200


def test_uneven_use_is_served_mostly_from_memory() -> None:
    random = Random(2)
    cache = BlockCache(200_000)
    hits = sum(ask(cache, int(random.paretovariate(1.0))) for _ in range(20_000))
    assert hits > 18_000
    assert cache.misses == 20_000 - hits
