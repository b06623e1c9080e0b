"""Which nodes hold a key, from a node's reply to ``topology``. Source: PROTOCOL.md, "Routing"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from kvbus.client.replies import Fields, MalformedReply
from kvbus.core.ring import key_hash, partition_of, partition_shift

ANY_NODE = -1
"""The group of what any node can answer."""
_HASH = "mmh3_x64_128"


class RoutingTable:
    """Replica sets by number; keys with the same replicas, in whatever order, share one.

    ``groups[number]`` lists the replicas' client addresses, ``addresses`` all nodes'. ``owners[partition]`` holds
    positions in ``addresses``.
    """

    def __init__(self, epoch: int, addresses: Sequence[str], owners: Sequence[Sequence[int]]) -> None:
        self.epoch = epoch
        self.addresses = tuple(addresses)
        self.groups: list[tuple[str, ...]] = []
        self._shift = partition_shift(len(owners))
        self._group_of: list[int] = []
        numbers: dict[tuple[int, ...], int] = {}
        for row in owners:
            nodes = tuple(sorted(row))
            number = numbers.setdefault(nodes, len(numbers))
            if number == len(self.groups):
                self.groups.append(tuple(self.addresses[node] for node in nodes))
            self._group_of.append(number)

    @classmethod
    def from_reply(cls, reply: Fields) -> RoutingTable:
        """Build the table.

        Raises:
            MalformedReply: the reply lacks something, contradicts itself or uses another hash.
        """
        nodes, owners, epoch = reply.get("nodes"), reply.get("owners"), reply.get("epoch")
        if reply.get("hash") != _HASH or not isinstance(nodes, list) or not isinstance(owners, list):
            raise MalformedReply(f"topology must name the hash {_HASH}, nodes and owners")
        addresses = [_client_address(node) for node in cast("list[object]", nodes)]
        rows = [_row(row, len(addresses)) for row in cast("list[object]", owners)]
        try:
            return cls(epoch if isinstance(epoch, int) else 0, addresses, rows)
        except ValueError as error:
            raise MalformedReply(str(error)) from error

    def group_of(self, keyspace: str, key: bytes) -> int:
        """Return the number of the key's replica set."""
        if len(self.groups) == 1:
            return 0
        return self._group_of[partition_of(key_hash(keyspace, key), self._shift)]


def _client_address(node: object) -> str:
    address = cast("Mapping[str, object]", node).get("client") if isinstance(node, Mapping) else None
    if not isinstance(address, str):
        raise MalformedReply("a node of the topology has no client address")
    return address


def _row(row: object, nodes: int) -> list[int]:
    if not isinstance(row, list):
        raise MalformedReply("owners must hold arrays")
    indices: list[int] = []
    for index in cast("list[object]", row):
        if type(index) is not int or not 0 <= index < nodes:
            raise MalformedReply("owners names a node that is not there")
        indices.append(index)
    return indices
