"""Digests of a node's own copies: equal copies have equal ones, whoever compares them."""

from __future__ import annotations

from hashlib import blake2b

from kvbus.core.keyspace import Keyspace
from kvbus.core.topology import Topology
from kvbus.core.types import NodeIndex
from kvbus.ports.engine import Engine

_DIGEST_BYTES = 8
# Above every key of a partition: keys are shorter.
_BEHIND_ALL_KEYS = b"\xff" * 2048


def copy_digests(engine: Engine, topology: Topology, node: NodeIndex, keyspace: Keyspace) -> dict[int, str]:
    """Return the digest (hex) of each partition of ``keyspace`` that ``node`` owns; it reads all of them.

    Raises:
        CorruptionError: a copy cannot be read.
    """
    return {
        partition: _digest(engine, keyspace.engine_head(partition))
        for partition, owners in enumerate(topology.owners)
        if node in owners
    }


def _digest(engine: Engine, head: bytes) -> str:
    digest = blake2b(digest_size=_DIGEST_BYTES)
    for key, record in engine.scan(head, head + _BEHIND_ALL_KEYS):
        digest.update(b"%d %d " % (len(key), len(record)))
        digest.update(key)
        digest.update(record)
    return digest.hexdigest()
