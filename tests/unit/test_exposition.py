"""What a scrape tells is what the node has counted, each number under its own name and labels."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from kvbus.core.types import NodeIndex
from kvbus.runtime.metrics import NodeCollector, registry_for
from tests.sim.world import World

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(world: World) -> Samples:
    """Return all samples of node 0, by name and sorted labels; its clock stands at 0."""
    collector = NodeCollector(
        world.nodes[0], lambda: {"peer_refusals_total": 29, "loop_lag_seconds": 0.25}, lambda: 0.0
    )
    families = text_string_to_metric_families(generate_latest(registry_for(collector)).decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.fixture
def world() -> World:
    """Give a world whose node 0 has counted other numbers everywhere."""
    world = World(3)
    metrics, links = world.nodes[0].metrics, world.nodes[0].links
    metrics.shed_total, metrics.peer_protocol_errors_total, metrics.bad_requests_total = 7, 11, 13
    metrics.damaged_reads_total = 37
    links.set(NodeIndex(2), False)
    links.lost_total = 17
    metrics.requests("get", "ap", "ok").observe(0.002, 19)
    metrics.requests("put", "ap", "no_quorum").observe(0.3, 2)
    metrics.quorums("put", "ap").observe(0.0004, 23)
    metrics.quorum_failed("no_quorum", 3)
    metrics.quorum_failed("timeout", 5)
    metrics.quorum_failed("timeout", 1)
    for seconds in (0.0007, 0.0007, 20.0):
        metrics.fsync_seconds.observe(seconds)
    metrics.siblings.observe(1, 31)
    metrics.siblings.observe(26)
    return world


def test_counters_and_gauges_are_told_under_their_own_names(world: World) -> None:
    told = {name: value for (name, labels), value in scraped(world).items() if not labels}
    expected = {
        "kvbus_shed_total": 7,
        "kvbus_peer_protocol_errors_total": 11,
        "kvbus_bad_requests_total": 13,
        "kvbus_damaged_reads_total": 37,
        "kvbus_links_lost_total": 17,
        "kvbus_peer_refusals_total": 29,
        "kvbus_loop_lag_seconds": 0.25,
        "kvbus_topology_epoch": 1,
        "kvbus_pending_operations": 0,
        "kvbus_wal_fsync_seconds_count": 3,
        "kvbus_wal_fsync_seconds_sum": pytest.approx(20.0014),
    }
    assert {name: told[name] for name in expected} == expected


def test_histograms_and_failures_are_told_label_by_label(world: World) -> None:
    told = scraped(world)

    def sample(name: str, **labels: str) -> float | None:
        return told.get((name, tuple(sorted(labels.items()))))

    assert sample("kvbus_request_seconds_count", op="get", mode="ap", outcome="ok") == 19
    assert sample("kvbus_request_seconds_sum", op="get", mode="ap", outcome="ok") == pytest.approx(0.038)
    assert sample("kvbus_request_seconds_count", op="put", mode="ap", outcome="no_quorum") == 2
    assert sample("kvbus_request_seconds_count", op="put", mode="ap", outcome="ok") is None
    assert sample("kvbus_quorum_seconds_count", op="put", mode="ap") == 23
    assert sample("kvbus_quorum_failures_total", reason="no_quorum") == 3
    assert sample("kvbus_quorum_failures_total", reason="timeout") == 6


def test_buckets_hold_all_that_took_no_longer(world: World) -> None:
    told = scraped(world)
    fsyncs = {
        dict(labels)["le"]: value for (name, labels), value in told.items() if name == "kvbus_wal_fsync_seconds_bucket"
    }
    assert (fsyncs["0.0005"], fsyncs["0.001"], fsyncs["10.0"], fsyncs["+Inf"]) == (0, 2, 2, 3)
    siblings = {dict(labels)["le"]: value for (name, labels), value in told.items() if name == "kvbus_siblings_bucket"}
    assert (siblings["1.0"], siblings["25.0"], siblings["50.0"], siblings["+Inf"]) == (31, 31, 32, 32)


def test_each_member_is_in_one_state(world: World) -> None:
    states = {
        (dict(labels)["member"], dict(labels)["state"])
        for (name, labels), value in scraped(world).items()
        if name == "kvbus_member_state" and value == 1
    }
    assert states == {("n1", "up"), ("n2", "up"), ("n3", "down")}
