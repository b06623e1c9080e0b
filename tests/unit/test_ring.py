"""The hash ring: the protocol's vectors, arcs, tokens and the clockwise walk."""

from __future__ import annotations

from itertools import islice

import mmh3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvbus.core.ring import Ring, key_hash, node_tokens, partition_of, partition_position, partition_shift
from kvbus.core.types import Partition

RING_SIZE = 1 << 128


@pytest.mark.parametrize(
    ("keyspace", "key", "word", "partition"),
    [
        ("default", b"k", 0x32672D92EF84E145, 12),
        ("default", b"U+0041", 0xA08318E580D42EC3, 40),
        ("ledger", b"\xff\x00", 0xC0FD474859F68C51, 48),
    ],
)
def test_key_hash_meets_the_vectors_of_the_protocol(keyspace: str, key: bytes, word: int, partition: int) -> None:
    assert key_hash(keyspace, key) == word
    assert partition_of(word, partition_shift(64)) == partition


def test_shift_leaves_as_many_bits_as_number_the_partitions() -> None:
    for bits in range(17):
        shift = partition_shift(1 << bits)
        assert partition_of((1 << 64) - 1, shift) == (1 << bits) - 1
        assert partition_of(0, shift) == 0


@pytest.mark.parametrize("partitions", [-64, 0, 3, 63, 96, 131_072])
def test_partition_count_that_is_no_power_of_two_is_refused_with_the_mend(partitions: int) -> None:
    with pytest.raises(ValueError, match="take a power of two from 1 to 65536"):
        partition_shift(partitions)


@given(st.text(max_size=20), st.binary(min_size=1, max_size=40), st.integers(0, 16))
def test_key_lies_on_the_arc_of_its_partition(keyspace: str, key: bytes, bits: int) -> None:
    partitions = 1 << bits
    partition = partition_of(key_hash(keyspace, key), partition_shift(partitions))
    high, low = mmh3.hash64(keyspace.encode() + b"\0" + key, 0, True, signed=False)
    start = partition_position(partition, partitions)
    assert start <= (high << 64 | low) < start + RING_SIZE // partitions


def test_partitions_divide_the_ring_into_equal_arcs() -> None:
    assert [partition_position(Partition(index), 4) for index in range(4)] == [
        index * RING_SIZE // 4 for index in range(4)
    ]


def test_fewer_tokens_are_a_prefix_of_more() -> None:
    tokens = node_tokens("n1", 64)
    assert node_tokens("n1", 16) == tokens[:16]
    assert len(dict.fromkeys(tokens + node_tokens("n2", 64))) == 128
    assert all(0 <= token < RING_SIZE for token in tokens)


def test_walk_meets_each_server_once_in_token_order() -> None:
    weights = {"n1": 1.0, "n2": 2.0, "n3": 0.5}
    counts = {"n1": 32, "n2": 64, "n3": 16}
    ring = Ring(weights)
    tokens = [(token, name) for name in weights for token in node_tokens(name, counts[name])]
    for partition in range(64):
        position = partition_position(Partition(partition), 64)
        clockwise = sorted(((token - position) % RING_SIZE, name) for token, name in tokens)
        assert list(ring.walk(position)) == list(dict.fromkeys(name for _, name in clockwise))
        for name in weights:
            assert ring.distance(position, name) == min(gap for gap, owner in clockwise if owner == name)


def test_walk_meets_heavy_servers_first_more_often() -> None:
    ring = Ring({"heavy": 4.0, "light": 1.0})
    firsts = [next(ring.walk(partition_position(Partition(index), 1024))) for index in range(1024)]
    assert 0.7 < firsts.count("heavy") / 1024 < 0.9


def test_walk_does_not_depend_on_the_order_of_servers() -> None:
    names = [f"n{index}" for index in range(9)]
    forward, backward = Ring(dict.fromkeys(names, 1.0)), Ring(dict.fromkeys(reversed(names), 1.0))
    for position in range(0, RING_SIZE, RING_SIZE // 32):
        assert list(forward.walk(position)) == list(backward.walk(position))


def test_newcomer_takes_first_places_only_for_itself() -> None:
    before = Ring(dict.fromkeys((f"n{index}" for index in range(9)), 1.0))
    after = Ring(dict.fromkeys((f"n{index}" for index in range(10)), 1.0))
    for position in range(0, RING_SIZE, RING_SIZE // 64):
        old, new = (list(islice(ring.walk(position), 1)) for ring in (before, after))
        assert new in (old, ["n9"])


def test_empty_ring_yields_nobody() -> None:
    assert list(Ring({}).walk(7)) == []
