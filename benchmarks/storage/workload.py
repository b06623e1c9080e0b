"""What is written and read: the same keys and values for every store, drawn from seeds."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from struct import Struct

BATCH_KEYS = 64
MEMORY_BYTES = 256 << 20
"""What our engine may take: a node's default."""

_PREFIX = Struct(">IH")
_SPACE = 0x6B76_6275
_PARTITIONS = 64
_KEY_BYTES = 16
_HIT_SEED, _MISS_SEED, _VALUE_SEED = 1, 2, 3
_POOL_BYTES = 1 << 20
# Odd, so that a pool's every place comes once before the first one comes again.
_STRIDE = 77_711


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """``keys`` keys in random order with values of ``value_bytes``, in batches; then ``gets`` of them, one at a time.

    ``quiet_seconds`` is how long a store must have nothing to do in the background to count as settled.
    """

    value_bytes: int
    keys: int
    gets: int
    synced: bool
    quiet_seconds: float

    @property
    def user_bytes(self) -> int:
        """Bytes of all keys and values."""
        return self.keys * (_PREFIX.size + _KEY_BYTES + self.value_bytes)

    @property
    def label(self) -> str:
        """Name the workload, such as ``100 B × 1,000,000, synced``."""
        return f"{self.value_bytes} B × {self.keys:,}, {'synced' if self.synced else 'not synced'}"


FULL = tuple(
    Workload(value_bytes=value_bytes, keys=keys, gets=200_000, synced=synced, quiet_seconds=1.5)
    for value_bytes, keys in ((100, 1_000_000), (1000, 200_000))
    for synced in (True, False)
)
QUICK = (
    Workload(value_bytes=100, keys=8_000, gets=4_000, synced=True, quiet_seconds=0.1),
    Workload(value_bytes=1000, keys=2_000, gets=2_000, synced=False, quiet_seconds=0.1),
)


def stored_keys(count: int, seed: int = _HIT_SEED) -> list[bytes]:
    """Return ``count`` engine keys in random order: space u32, partition u16 and 16 random bytes."""
    luck = Random(seed).randbytes(_KEY_BYTES * count)
    prefixes = [_PREFIX.pack(_SPACE, partition) for partition in range(_PARTITIONS)]
    return [
        prefixes[luck[begin] % _PARTITIONS] + luck[begin : begin + _KEY_BYTES]
        for begin in range(0, len(luck), _KEY_BYTES)
    ]


def absent_keys(count: int) -> list[bytes]:
    """Return ``count`` keys of the same kind that were never stored."""
    return stored_keys(count, _MISS_SEED)


class Values:
    """Values of one length that do not compress, cut out of one pool of random bytes."""

    def __init__(self, value_bytes: int) -> None:
        self._value_bytes = value_bytes
        self._pool = Random(_VALUE_SEED).randbytes(_POOL_BYTES + value_bytes)

    def batch(self, first: int, count: int) -> list[bytes]:
        """Return the values of ``count`` keys from number ``first`` on."""
        pool, length = self._pool, self._value_bytes
        places = [number * _STRIDE % _POOL_BYTES for number in range(first, first + count)]
        return [pool[place : place + length] for place in places]
