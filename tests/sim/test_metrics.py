"""A node counts each operation once: by kind, mode and what became of it; failures of quorums and shed ones besides."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from kvbus.core.metrics import SECONDS_BUCKETS, Histogram, Metrics
from kvbus.core.ring import key_hash, partition_of
from kvbus.ports.mode import Limits
from tests.sim.world import World

KEYS = [b"%d" % number for number in range(8)]


def metrics_of(world: World, node: int) -> Metrics:
    return world.nodes[node].metrics


def requests(world: World, node: int) -> dict[tuple[str, str], int]:
    """Return how many operations of mode ap the node has counted, by kind and outcome."""
    found = metrics_of(world, node).request_seconds
    assert {mode for _, mode, _ in found} <= {"ap"}
    return {(op, outcome): sum(histogram.counts) for (op, _, outcome), histogram in found.items()}


def quorums(world: World, node: int) -> dict[str, int]:
    """Return how many quorums of mode ap the node has counted, by kind of operation."""
    found = metrics_of(world, node).quorum_seconds
    assert {mode for _, mode in found} <= {"ap"}
    return {op: sum(histogram.counts) for (op, _), histogram in found.items()}


def test_each_operation_is_counted_once_by_the_node_that_coordinates_it_and_by_no_other() -> None:
    world = World(3)
    for key in KEYS[:3]:
        assert world.ask(0, "put", key=key, value=b"v")["ok"]
    ctxs = world.ask(0, "mput", keys=KEYS, values=KEYS)["ctxs"]
    for key in KEYS[:2]:
        assert world.ask(0, "get", key=key)["ok"]
    assert world.ask(0, "mget", keys=KEYS)["errors"] == []
    assert world.ask(0, "delete", key=KEYS[0], ctx=ctxs[0])["ok"]
    for _ in range(4):
        assert world.ask(0, "scan")["ok"]
    assert requests(world, 0) == {("put", "ok"): 11, ("get", "ok"): 10, ("delete", "ok"): 1, ("scan", "ok"): 4}
    assert quorums(world, 0) == {"put": 11, "get": 10, "delete": 1}
    assert metrics_of(world, 0).quorum_failures == {}
    for replica in (1, 2):
        assert (requests(world, replica), quorums(world, replica)) == ({}, {})


def test_what_arrives_together_is_counted_operation_by_operation() -> None:
    world = World(3)
    puts = [{"op": "put", "key": key, "value": b"v"} for key in KEYS]
    world.send_together(0, [*puts, {"op": "mget", "keys": KEYS}, {"op": "get", "key": b"k", "r": 4}])
    world.time.run(1)
    assert requests(world, 0) == {("put", "ok"): 8, ("get", "ok"): 8, ("get", "no_quorum"): 1}
    assert metrics_of(world, 0).quorum_failures == {"no_quorum": 1}


def test_a_demand_that_cannot_be_met_is_counted_as_no_quorum_once_an_operation() -> None:
    world = World(3)
    assert world.ask(0, "put", key=b"k", value=b"v", w=4)["error"]["code"] == "no_quorum"
    assert len(world.ask(0, "mput", keys=KEYS, values=KEYS, w=4)["errors"]) == 8
    assert len(world.ask(0, "mget", keys=KEYS[:5], r=4)["errors"]) == 5
    assert world.ask(0, "scan", r=4)["error"]["code"] == "no_quorum"
    assert requests(world, 0) == {("put", "no_quorum"): 9, ("get", "no_quorum"): 5, ("scan", "no_quorum"): 1}
    assert metrics_of(world, 0).quorum_failures == {"no_quorum": 15}
    assert quorums(world, 0) == {}


def test_a_demand_that_is_not_met_in_time_is_counted_as_timeout_with_the_time_it_took() -> None:
    world = World(3)
    world.network.silence(0, 1, 2)
    numbers = world.send_together(
        0,
        [
            {"op": "mput", "keys": KEYS, "values": KEYS, "w": 2, "deadline_ms": 1000},
            {"op": "get", "key": b"k", "r": 3, "deadline_ms": 1000},
            {"op": "scan", "r": 2, "deadline_ms": 1000},
        ],
    )
    world.time.run(2)
    assert all(number in world.replies for number in numbers)
    assert requests(world, 0) == {("put", "timeout"): 8, ("get", "timeout"): 1, ("scan", "timeout"): 1}
    assert metrics_of(world, 0).quorum_failures == {"timeout": 10}
    assert quorums(world, 0) == {}
    waited = metrics_of(world, 0).request_seconds["put", "ap", "timeout"]
    assert waited.total == pytest.approx(8 * 0.9, rel=0.05)
    assert waited.counts[SECONDS_BUCKETS.index(1.0)] == 8


def test_an_operation_that_is_refused_by_itself_is_counted_apart_from_its_batch() -> None:
    world = World(3, limits=Limits(siblings=3))
    for number in range(3):
        assert world.ask(0, "put", key=KEYS[0], value=b"%d" % number)["ok"]
    reply = world.ask(0, "mput", keys=KEYS[:3], values=KEYS[:3], ctxs=[None, b"nonsense", None])
    assert [(index, error["code"]) for index, error in sorted(reply["errors"])] == [
        (0, "too_many_siblings"),
        (1, "bad_request"),
    ]
    assert requests(world, 0) == {("put", "ok"): 4, ("put", "too_many_siblings"): 1, ("put", "bad_request"): 1}
    assert metrics_of(world, 0).quorum_failures == {}
    assert quorums(world, 0) == {"put": 4}


def test_a_forwarded_put_is_counted_where_it_came_in_and_where_it_was_coordinated() -> None:
    world = World(5)
    owners = world.topology.owners[partition_of(key_hash("default", KEYS[0]), world.topology.shift)]
    outsider, *_ = [node for node in range(5) if node not in owners]
    for _ in range(3):
        assert world.ask(outsider, "put", key=KEYS[0], value=b"v")["ok"]
    assert requests(world, outsider) == {("put", "ok"): 3}
    assert quorums(world, outsider) == {}
    coordinated = [requests(world, node).get(("put", "ok"), 0) for node in owners]
    assert (sum(coordinated), sum(quorums(world, node).get("put", 0) for node in owners)) == (3, 3)


def test_siblings_are_counted_where_a_write_is_coordinated() -> None:
    world = World(3)
    for _ in range(4):
        world.ask(0, "mput", keys=[b"a", b"b"], values=[b"v", b"v"])
    ctx = world.ask(0, "get", key=b"a")["ctx"]
    for _ in range(2):
        ctx = world.ask(0, "put", key=b"a", value=b"v", ctx=ctx)["ctx"]
    siblings = metrics_of(world, 0).siblings
    by_bound = dict(zip(siblings.bounds, siblings.counts, strict=False))
    assert {bound: count for bound, count in by_bound.items() if count} == {1: 4, 2: 2, 5: 4}
    assert siblings.total == 2 * (1 + 2 + 3 + 4) + 2
    assert sum(metrics_of(world, 1).siblings.counts) == 0


def test_shed_operations_are_counted_each_and_as_overloaded() -> None:
    world = World(3, limits=Limits(pending_ops=6))
    assert len(world.ask(0, "mput", keys=KEYS, values=KEYS)["errors"]) == 2
    world.network.silence(0, 1, 2)
    for key in KEYS[:6]:
        world.send(0, "put", key=key, value=b"v", w=2)
    world.time.run(0.01)
    assert world.ask(0, "get", key=b"k")["error"]["code"] == "overloaded"
    assert world.ask(0, "scan")["error"]["code"] == "overloaded"
    assert metrics_of(world, 0).shed_total == 4
    overloaded = {("put", "overloaded"): 2, ("get", "overloaded"): 1, ("scan", "overloaded"): 1}
    assert requests(world, 0) == {("put", "ok"): 6, **overloaded}
    assert metrics_of(world, 0).quorum_failures == {}
    assert world.nodes[0].pending() == 6


def test_a_histogram_puts_a_whole_batch_into_the_bucket_of_its_duration() -> None:
    histogram = Histogram()
    observed: Mapping[float, int] = {0.0: 1, 0.0005: 2, 0.00051: 4, 0.7: 8, 10.0: 16, 10.1: 32}
    for seconds, count in observed.items():
        histogram.observe(seconds, count)
    by_bound = dict(zip((*SECONDS_BUCKETS, "more"), histogram.counts, strict=True))
    assert {bound: count for bound, count in by_bound.items() if count} == {
        0.0005: 3,
        0.001: 4,
        1.0: 8,
        10.0: 16,
        "more": 32,
    }
    assert histogram.total == pytest.approx(0.0005 * 2 + 0.00051 * 4 + 0.7 * 8 + 10.0 * 16 + 10.1 * 32)
