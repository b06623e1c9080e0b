"""Records in the nodes' own copies, as if earlier writes had left them there."""

from __future__ import annotations

from collections.abc import Mapping

from kvbus.core.ring import key_hash, partition_of
from kvbus_modes.ap.causality import ENTRY
from kvbus_modes.ap.record import encode_one
from tests.sim.world import World


def version(
    value: bytes | None, *, server: int = 9, epoch: int = 5, expiry_ms: int | None = None, context: bytes = b""
) -> bytes:
    """Return the record of one sibling; None is a tombstone."""
    return encode_one(ENTRY.pack(server, epoch, 1), context, 5, expiry_ms, value)


def store(world: World, node: int, records: Mapping[bytes, bytes]) -> None:
    """Put records, by user key, into the copy of ``node``."""
    keys: list[bytes] = []
    for key in records:
        partition = partition_of(key_hash(world.keyspace.name, key), world.topology.shift)
        keys.append(world.keyspace.engine_head(partition) + key)
    world.engines[node].apply(keys, list(records.values()))
    world.engines[node].commit()
