"""From a keyspace's user keys to engine keys and replica sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mmh3

from kvbus.core.keyspace import Keyspace
from kvbus.core.quorum import ReplicaSet
from kvbus.core.request import RequestColumns
from kvbus.core.topology import Topology

_hash128 = mmh3.mmh3_x64_128_uintdigest


class Located(NamedTuple):
    """Operations whose keys have the same replicas, and their engine keys."""

    replicas: ReplicaSet
    columns: RequestColumns
    engine_keys: list[bytes]

    def select(self, chosen: Sequence[int]) -> Located:
        """Return the operations at the indices ``chosen``."""
        keys = self.engine_keys
        return Located(self.replicas, self.columns.select(chosen), [keys[index] for index in chosen])


class Locator:
    """Finds the partitions of one keyspace's keys under one topology."""

    def __init__(self, topology: Topology, keyspace: Keyspace) -> None:
        self.keyspace = keyspace
        self._prefix = keyspace.hash_prefix
        self._shift = topology.shift
        self._topology = topology
        self._heads = [keyspace.engine_head(partition) for partition in range(topology.partitions)]

    def locate(self, columns: RequestColumns) -> list[Located]:
        """Split ``columns`` by unordered replica set; order inside each part is kept."""
        prefix, shift, heads = self._prefix, self._shift, self._heads
        # The partition is the topmost bits of the hash's first half, which the integer has as its lower one.
        last = len(heads) - 1
        partitions = [_hash128(prefix + key) >> shift & last for key in columns.keys]
        engine_keys = [heads[partition] + key for partition, key in zip(partitions, columns.keys, strict=True)]
        groups = self._topology.groups
        if len(groups) == 1:
            return [Located(groups[0], columns, engine_keys)]
        group_of = self._topology.group_of
        chosen: dict[int, list[int]] = {}
        for index, partition in enumerate(partitions):
            chosen.setdefault(group_of[partition], []).append(index)
        if len(chosen) == 1:
            return [Located(groups[next(iter(chosen))], columns, engine_keys)]
        return [
            Located(groups[group], columns.select(indices), [engine_keys[i] for i in indices])
            for group, indices in chosen.items()
        ]
