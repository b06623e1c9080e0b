"""The hash ring: where keys, partitions and the virtual nodes of servers lie.

The ring has 2^128 positions, of which ``Q`` partitions cover equal arcs. A key's place is MurmurHash3_x64_128 with
its first 64-bit word on top, so that the partition is simply that word's highest bits.
Source: PROTOCOL.md, "Routing"; DeCandia et al., "Dynamo", 2007, §4.2 and §6.2 (strategy 3).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import chain

import mmh3

from kvbus.core.types import Partition

RING_BITS = 128
HASH_BITS = 64
MAX_PARTITIONS = 65_536
TOKENS_PER_NODE = 64
"""Virtual nodes of the heaviest server; a lighter one has its proportion of them, at least one."""


def key_hash(keyspace: str, key: bytes) -> int:
    """Return the first 64-bit word, unsigned, of the hash of ``keyspace ‖ 0x00 ‖ key``."""
    return mmh3.hash64(keyspace.encode() + b"\0" + key, 0, True, signed=False)[0]


def partition_shift(partitions: int) -> int:
    """Return the number of bits by which a key hash is shifted right to give its partition: 64 - log2 Q.

    Raises:
        ValueError: ``partitions`` is not a power of two from 1 to 65536.
    """
    if not 1 <= partitions <= MAX_PARTITIONS or partitions & (partitions - 1):
        raise ValueError(f"partitions = {partitions}: take a power of two from 1 to {MAX_PARTITIONS}, such as 64")
    return HASH_BITS - (partitions.bit_length() - 1)


def partition_of(hash_word: int, shift: int) -> Partition:
    """Return the partition of a key hash; ``shift`` comes from :func:`partition_shift`."""
    return Partition(hash_word >> shift)


def partition_position(partition: Partition, partitions: int) -> int:
    """Return the 128-bit position at which a partition's arc starts: ``partition / Q`` of the ring."""
    return int(partition) << (partition_shift(partitions) + RING_BITS - HASH_BITS)


def node_tokens(name: str, count: int) -> list[int]:
    """Return the ring positions of a node's first ``count`` virtual nodes, unsorted.

    They follow from the name alone, so that a change of weight adds or takes away tokens at the end of the list
    and leaves the others where they are.
    """
    stem = name.encode() + b"\0"
    words = (mmh3.hash64(stem + index.to_bytes(4, "little"), 0, True, signed=False) for index in range(count))
    return [high << HASH_BITS | low for high, low in words]


class Ring:
    """The virtual nodes of all servers in ring order; never changes.

    ``weights`` maps a server's name to its weight (> 0). The order of the map does not matter.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        heaviest = max(weights.values(), default=1)
        placed: list[tuple[int, str]] = []
        self._tokens: dict[str, list[int]] = {}
        for name in sorted(weights):
            count = max(1, round(TOKENS_PER_NODE * (weights[name] / heaviest)))
            self._tokens[name] = sorted(node_tokens(name, count))
            placed.extend((token, name) for token in self._tokens[name])
        placed.sort()
        self._positions = [token for token, _ in placed]
        self._names = [name for _, name in placed]

    def walk(self, position: int) -> Iterator[str]:
        """Yield every server once, in the order in which a clockwise walk from ``position`` meets its first token."""
        start = bisect_left(self._positions, position)
        seen: dict[str, None] = {}
        for index in chain(range(start, len(self._names)), range(start)):
            name = self._names[index]
            if name not in seen:
                seen[name] = None
                yield name
                if len(seen) == len(self._tokens):
                    return

    def distance(self, position: int, name: str) -> int:
        """Return how far a clockwise walk from ``position`` goes until it meets a token of the server ``name``."""
        tokens = self._tokens[name]
        index = bisect_left(tokens, position)
        return tokens[index] - position if index < len(tokens) else tokens[0] + (1 << RING_BITS) - position
