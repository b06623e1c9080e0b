"""The epoch-numbered document of who owns what, and the look-up tables made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kvbus.core.placement import Member as Placed
from kvbus.core.placement import Table, place
from kvbus.core.quorum import ReplicaSet, mask_of
from kvbus.core.ring import partition_shift
from kvbus.core.types import Epoch, NodeIndex


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One node of the cluster and the addresses at which it can be reached."""

    name: str
    client: str
    peer: str
    gossip: str
    dc: str = "dc1"
    rack: str = "r1"
    weight: float = 1.0


class Topology:
    """Members, partitions and owners at one epoch.

    A member's position in ``members`` is its short id. ``owners[partition]`` lists the replicas' short ids in
    preference order; ``group_of[partition]`` names its :class:`ReplicaSet` in ``groups``, so that operations of
    different partitions with the same replicas can share a batch.
    """

    def __init__(
        self,
        *,
        epoch: Epoch,
        members: Sequence[Member],
        partitions: int,
        replicas: int | Mapping[str, int],
        table: Table,
    ) -> None:
        self.epoch = epoch
        self.members = tuple(members)
        self.partitions = partitions
        self.replicas = replicas
        self.shift = partition_shift(partitions)
        self.index = {member.name: NodeIndex(i) for i, member in enumerate(self.members)}
        self.owners = tuple(tuple(self.index[name] for name in row) for row in table)
        self.groups: list[ReplicaSet] = []
        self.group_of: list[int] = []
        numbers: dict[tuple[NodeIndex, ...], int] = {}
        for row in self.owners:
            nodes = tuple(sorted(row))
            number = numbers.setdefault(nodes, len(numbers))
            if number == len(self.groups):
                self.groups.append(self._replica_set(nodes))
            self.group_of.append(number)

    @classmethod
    def first(cls, *, members: Sequence[Member], partitions: int, replicas: int | Mapping[str, int]) -> Topology:
        """Build epoch 1 from the initial members; the short id is the index by sorted name."""
        ordered = sorted(members, key=lambda member: member.name)
        placed = [Placed(name=m.name, dc=m.dc, rack=m.rack, weight=m.weight) for m in ordered]
        table = place(None, placed, partitions=partitions, replicas=replicas)
        return cls(epoch=Epoch(1), members=ordered, partitions=partitions, replicas=replicas, table=table)

    def _replica_set(self, nodes: tuple[NodeIndex, ...]) -> ReplicaSet:
        by_dc: dict[str, list[NodeIndex]] = {}
        for node in nodes:
            by_dc.setdefault(self.members[node].dc, []).append(node)
        return ReplicaSet(nodes, mask_of(nodes), {dc: mask_of(inside) for dc, inside in by_dc.items()})

    def names(self, mask: int) -> list[str]:
        """Return the names of the nodes in a bit mask, by short id."""
        return [member.name for i, member in enumerate(self.members) if mask >> i & 1]

    def document(self, status: Mapping[NodeIndex, str]) -> dict[str, object]:
        """Return the reply to ``topology``. Source: PROTOCOL.md, "Operations"."""
        return {
            "epoch": self.epoch,
            "hash": "mmh3_x64_128",
            "partitions": self.partitions,
            "nodes": [
                {
                    "name": member.name,
                    "client": member.client,
                    "dc": member.dc,
                    "rack": member.rack,
                    "weight": member.weight,
                    "status": status.get(NodeIndex(i), "unknown"),
                }
                for i, member in enumerate(self.members)
            ],
            "owners": [list(row) for row in self.owners],
        }
