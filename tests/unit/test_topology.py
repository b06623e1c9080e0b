"""The topology document and the look-up tables made from it."""

from __future__ import annotations

from random import Random

import pytest

from kvbus.core.keyspace import Keyspace
from kvbus.core.locator import Locator
from kvbus.core.request import DEFAULT_OPTIONS, Call, ClientOrigin, RequestColumns
from kvbus.core.ring import key_hash, partition_of
from kvbus.core.topology import Member, Topology
from kvbus.core.types import NodeIndex


def members(count: int, dcs: int = 1) -> list[Member]:
    return [
        Member(name=f"n{i}", client=f"c{i}", peer=f"p{i}", gossip=f"g{i}", dc=f"dc{i % dcs + 1}") for i in range(count)
    ]


def test_short_ids_are_the_order_of_names_whatever_the_configuration_says() -> None:
    shuffled = members(5)
    Random(1).shuffle(shuffled)
    one, other = (Topology.first(members=m, partitions=64, replicas=3) for m in (members(5), shuffled))
    assert one.index == {f"n{i}": i for i in range(5)}
    assert (one.owners, one.members) == (other.owners, other.members)


@pytest.mark.parametrize(("count", "replicas"), [(1, 1), (3, 3), (5, 3), (7, 2)])
def test_groups_are_the_unordered_replica_sets(count: int, replicas: int) -> None:
    topology = Topology.first(members=members(count), partitions=64, replicas=replicas)
    assert len(topology.owners) == len(topology.group_of) == 64
    for owners, group in zip(topology.owners, topology.group_of, strict=True):
        found = topology.groups[group]
        assert found.nodes == tuple(sorted(owners))
        assert found.mask == sum(1 << node for node in owners)
        assert len(found.nodes) == replicas
    assert len({group.nodes for group in topology.groups}) == len(topology.groups)


def test_data_centres_split_a_replica_set() -> None:
    topology = Topology.first(members=members(4, dcs=2), partitions=16, replicas={"dc1": 2, "dc2": 1})
    for group in topology.groups:
        assert group.dc_masks["dc1"] == 0b0101
        assert group.dc_masks["dc2"].bit_count() == 1
        assert group.dc_masks["dc1"] | group.dc_masks["dc2"] == group.mask


def test_names_are_told_by_short_id() -> None:
    topology = Topology.first(members=members(5), partitions=16, replicas=3)
    assert topology.names(0b10110) == ["n1", "n2", "n4"]


def test_the_document_says_who_owns_what_and_how_it_is() -> None:
    topology = Topology.first(members=members(2), partitions=4, replicas=1)
    document = topology.document({NodeIndex(0): "up"})
    assert document["nodes"] == [
        {"name": f"n{i}", "client": f"c{i}", "dc": "dc1", "rack": "r1", "weight": 1.0, "status": status}
        for i, status in enumerate(("up", "unknown"))
    ]
    assert (document["epoch"], document["hash"], document["partitions"]) == (1, "mmh3_x64_128", 4)
    assert document["owners"] == [list(owners) for owners in topology.owners]


@pytest.mark.parametrize("count", [3, 5])
def test_located_operations_lie_with_their_replicas_and_keep_their_order(count: int) -> None:
    topology = Topology.first(members=members(count), partitions=16, replicas=3)
    keyspace = Keyspace(name="default")
    columns = RequestColumns("get", "default", DEFAULT_OPTIONS)
    columns.keys = [b"%d" % number for number in range(200)]
    columns.slots = list(range(200))
    columns.calls = [Call(ClientOrigin(b"", False), 0, "mget", "get", 200, True)] * 200
    parts = Locator(topology, keyspace).locate(columns)
    assert sorted(slot for part in parts for slot in part.columns.slots) == columns.slots
    assert len({part.replicas.nodes for part in parts}) == len(parts) == len(topology.groups)
    for part in parts:
        assert part.columns.slots == sorted(part.columns.slots)
        for key, engine_key in zip(part.columns.keys, part.engine_keys, strict=True):
            partition = partition_of(key_hash("default", key), topology.shift)
            assert engine_key == keyspace.engine_head(partition) + key
            assert part.replicas.nodes == tuple(sorted(topology.owners[partition]))
