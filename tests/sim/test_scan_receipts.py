"""What a scan's receipt is worth: a page crosses runs of partitions with other replicas, and tells the weakest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from kvbus.core.ring import key_hash, partition_of
from tests.sim.world import Reply, World

KEYS = [b"key-%d" % number for number in range(200)]
LOST = (2, 3)


def filled_world(**keyspace: Any) -> World:
    """Return five nodes with keys in every partition."""
    world = World(5, **keyspace)
    assert world.ask(0, "mput", keys=KEYS, values=KEYS, w=3)["errors"] == []
    keys_in = Counter(partition_of(key_hash("default", key), world.topology.shift) for key in KEYS)
    assert len(keys_in) == world.topology.partitions
    assert min(keys_in.values()) >= 2
    return world


def names(nodes: Sequence[int]) -> list[str]:
    return [f"n{node + 1}" for node in nodes]


def damaged_world(**keyspace: Any) -> tuple[World, Sequence[Sequence[int]]]:
    """Return a world without two of its nodes, and the replicas of each partition that are left.

    The first partition and the last one still have two; some between them have one.
    """
    world = filled_world(**keyspace)
    for node in LOST:
        world.crash(node)
    left = [[node for node in sorted(owners) if node not in LOST] for owners in world.topology.owners]
    assert len(left[0]) == len(left[-1]) == 2
    assert min(map(len, left)) == 1
    return world, left


def world_of_one_loss() -> World:
    """Return a world without one of its nodes: every partition has two replicas or three."""
    world = filled_world()
    world.crash(LOST[0])
    return world


def scan(world: World, **fields: Any) -> Reply:
    """Scan through a node that is up, with a receipt."""
    reply = world.ask(1, "scan", receipt=True, **fields)
    assert reply["ok"], reply
    return reply


def test_a_page_over_many_runs_tells_the_weakest_of_them_wherever_it_lies() -> None:
    world, left = damaged_world()
    reply = scan(world)
    assert len(reply["keys"]) == len(KEYS)
    assert (reply["degraded"], reply["acks"]) == (True, 1)
    receipt = reply["receipt"]
    assert receipt["replicas"] in [names(nodes) for nodes in left if len(nodes) == 1]
    fixed = {"mode": "ap", "node": "n2", "epoch": 1, "acks": 1, "primary": 1, "hinted": 0, "guarantee": "eventual"}
    assert {name: receipt[name] for name in fixed} == fixed


def test_a_page_that_ends_before_the_weak_runs_is_worth_more() -> None:
    world, left = damaged_world()
    reply = scan(world, limit=1)
    assert "degraded" not in reply
    assert (reply["receipt"]["acks"], reply["receipt"]["replicas"]) == (2, names(left[0]))


def test_the_page_behind_the_weak_runs_is_worth_more_again() -> None:
    world, left = damaged_world()
    weakest_last = max(partition for partition, nodes in enumerate(left) if len(nodes) == 1)
    reply = scan(world, cursor=(weakest_last + 1).to_bytes(2))
    assert 0 < len(reply["keys"]) < len(KEYS)
    assert "degraded" not in reply
    assert reply["receipt"]["acks"] == len(reply["receipt"]["replicas"]) == 2


def test_where_runs_miss_their_target_by_one_and_by_two_the_smallest_count_is_told() -> None:
    world, _ = damaged_world(r=3)
    reply = scan(world)
    assert (reply["degraded"], reply["acks"], reply["receipt"]["acks"]) == (True, 1, 1)


def test_primaries_that_overlap_with_every_write_are_worth_a_quorum_on_every_run() -> None:
    world = filled_world()
    assert scan(world, pr=2)["receipt"]["guarantee"] == "quorum"
    assert scan(world, pr=1)["receipt"]["guarantee"] == "eventual"
    assert scan(world, r=3)["receipt"]["guarantee"] == "eventual"


def test_a_demand_that_one_run_cannot_meet_refuses_the_page_and_a_lower_one_is_served() -> None:
    world = world_of_one_loss()
    refused = world.ask(1, "scan", receipt=True, r=3)["error"]
    assert (refused["code"], refused["definite"], refused["required"], refused["alive"]) == ("no_quorum", True, 3, 2)
    reply = scan(world, pr=2)
    assert "degraded" not in reply
    assert (reply["receipt"]["acks"], reply["receipt"]["guarantee"]) == (2, "quorum")
