"""Bloom filters: the one place that touches rbloom, with MurmurHash3 from mmh3.

A key is hashed once; the hash is looked up in as many filters as there are.
Source: FORMATS.md, "Filter"; Bloom, "Space/time trade-offs in hash coding with allowable errors" (1970).
"""

from __future__ import annotations

from collections.abc import Sequence

from mmh3 import hash128
from rbloom import Bloom

BITS_A_KEY = 10
_PROBES_BYTES, _MOST_PROBES = 8, 64
_FALSE_POSITIVE_RATE = 0.0082
"""What ten bits a key give at best: 0.6185 to the tenth."""


def hash_key(key: bytes) -> int:
    """Return the signed 128-bit MurmurHash3_x64_128 (seed 0) of ``key``, which the filters take."""
    return hash128(key, 0, True, True)


class Filter:
    """Says of a key's hash that it is surely not in a table, or that it may be: ``hashed in filter.bloom``."""

    __slots__ = ("bloom",)

    def __init__(self, bloom: Bloom) -> None:
        self.bloom = bloom

    @classmethod
    def of_hashes(cls, hashes: Sequence[int]) -> Filter:
        """Build the filter of the keys with these hashes (:func:`hash_key`)."""
        # int hands the hashes through, at the speed of C.
        bloom = Bloom(max(len(hashes), 1), _FALSE_POSITIVE_RATE, int)
        bloom.update(hashes)  # pyright: ignore[reportUnknownMemberType]
        return cls(bloom)

    @classmethod
    def decode(cls, data: bytes) -> Filter:
        """Decode what :meth:`encode` gave.

        Raises:
            ValueError: the bytes are not a filter.
        """
        probes = int.from_bytes(data[:_PROBES_BYTES], "little")
        if len(data) <= _PROBES_BYTES or not 0 < probes <= _MOST_PROBES:
            raise ValueError(f"is no filter: {len(data)} bytes, {probes} probes")
        return cls(Bloom.load_bytes(data, int))

    def encode(self) -> bytes:
        """Encode the filter."""
        return self.bloom.save_bytes()

    @property
    def size_bytes(self) -> int:
        """Memory that the bits take."""
        return self.bloom.size_in_bits // 8
