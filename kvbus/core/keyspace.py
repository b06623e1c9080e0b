"""A keyspace: its name, its consistency mode and its quorum sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import pack

import mmh3

ENGINE_HEAD_BYTES = 6
BEHIND_ALL = b"\xff" * 1025
"""Sorts behind every rest of a user key: those have at most 1024 bytes."""


def partition_of_key(engine_key: bytes) -> int:
    """Return the partition in an engine key's head."""
    return int.from_bytes(engine_key[4:ENGINE_HEAD_BYTES], "big")


def space_of(name: str) -> int:
    """Return the keyspace's number in engine keys: the top 32 bits of MurmurHash3_x64_128 of its name.

    A hash and not a counter, so that nodes agree without a catalogue; the configuration refuses two names with one
    number.
    """
    return mmh3.hash64(name.encode(), 0, True, signed=False)[0] >> 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Keyspace:
    """One keyspace as every node sees it.

    ``r`` and ``w`` are targets: a side that cannot meet them still answers, and says ``degraded``; with
    ``availability = "quorum"`` they are demands. Source: semantics "Targets and demands".
    """

    name: str
    mode: str = "ap"
    n: int = 3
    r: int = 2
    w: int = 2
    availability: str = "always"
    space: int = field(init=False)
    hash_prefix: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", space_of(self.name))
        object.__setattr__(self, "hash_prefix", self.name.encode() + b"\x00")

    @property
    def preset(self) -> str:
        """Name the balance between reads and writes that ``n``, ``r`` and ``w`` strike."""
        if self.n > 1 and self.r == 1 and self.w == self.n:
            return "R=1,W=N"
        if self.n > 1 and self.r == self.n and self.w == 1:
            return "R=N,W=1"
        return "R+W>N" if self.r + self.w > self.n else "R+W≤N"

    def engine_head(self, partition: int) -> bytes:
        """Return the bytes that every engine key of this keyspace's ``partition`` starts with."""
        return pack(">IH", self.space, partition)
