"""The node's HTTP port: metrics that a scraper can read and that count what was sent, health, readiness."""

from __future__ import annotations

import json
from typing import cast

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

import kvbus
from tests.live.local_cluster import LocalCluster

FAMILIES = {
    "kvbus_request_seconds": "histogram",
    "kvbus_quorum_seconds": "histogram",
    "kvbus_quorum_failures": "counter",
    "kvbus_wal_fsync_seconds": "histogram",
    "kvbus_siblings": "histogram",
    "kvbus_member_state": "gauge",
    "kvbus_shed": "counter",
    "kvbus_bad_requests": "counter",
    "kvbus_repaired_records": "counter",
    "kvbus_damaged_reads": "counter",
    "kvbus_peer_protocol_errors": "counter",
    "kvbus_links_lost": "counter",
    "kvbus_topology_epoch": "gauge",
    "kvbus_pending_operations": "gauge",
    "kvbus_memtable_bytes": "gauge",
    "kvbus_keys": "gauge",
    "kvbus_log_bytes": "gauge",
    "kvbus_read_only": "gauge",
    "kvbus_frozen_memtables": "gauge",
    "kvbus_level0_depth": "gauge",
    "kvbus_damaged_tables": "gauge",
    "kvbus_cache_bytes": "gauge",
    "kvbus_cache_hits": "counter",
    "kvbus_cache_misses": "counter",
    "kvbus_bloom_probes": "counter",
    "kvbus_bloom_false_positive": "counter",
    "kvbus_flushed_bytes": "counter",
    "kvbus_compacted_bytes": "counter",
    "kvbus_maintenance_failures": "counter",
    "kvbus_sstable_bytes": "gauge",
    "kvbus_flush_seconds": "summary",
    "kvbus_compaction_seconds": "summary",
    "kvbus_build_info": "gauge",
    "kvbus_dropped_replies": "counter",
    "kvbus_dropped_peer_messages": "counter",
    "kvbus_peer_refusals": "counter",
    "kvbus_loop_lag_seconds": "gauge",
    "kvbus_job_errors": "counter",
    "kvbus_jobs_missed": "counter",
    "kvbus_fault_rules": "gauge",
    "kvbus_fault_lost_frames": "counter",
}


def _families(cluster: LocalCluster, name: str) -> dict[str, Metric]:
    status, kind, body = cluster.http(name, "/metrics")
    assert status == 200
    assert kind.startswith("text/plain")
    families = list(text_string_to_metric_families(body))
    assert len({family.name for family in families}) == len(families), "a family stands twice"
    return {family.name: family for family in families}


def _sample(families: dict[str, Metric], name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    )


def _syncs(cluster: LocalCluster, name: str) -> int:
    """Return how often the node's engine says that it has synced its log."""
    with cluster.connect(name) as wire:
        return cast("dict[str, int]", wire.ask(op="stats")["stats"])["engine_syncs"]


def test_every_family_is_there_with_its_type_and_a_description(cluster: LocalCluster) -> None:
    families = _families(cluster, "n1")
    assert {name: family.type for name, family in families.items()} == FAMILIES
    assert all(family.documentation for family in families.values())
    assert _sample(families, "kvbus_build_info", version=kvbus.__version__, node="n1") == 1


def test_the_counts_are_what_was_sent(cluster: LocalCluster) -> None:
    before, syncs_before = _families(cluster, "n2"), _syncs(cluster, "n2")
    keys = [b"count-%d" % number for number in range(100)]
    with cluster.connect("n2") as wire:
        for key in keys[:30]:
            assert wire.code(op="put", key=key, value=b"v") == "ok"
        assert wire.code(op="mput", keys=keys[30:], values=[b"v"] * 70) == "ok"
        for key in keys[:20]:
            assert wire.code(op="get", key=key) == "ok"
        assert wire.code(op="mget", keys=keys) == "ok"
        for key in keys[:10]:
            assert wire.code(op="delete", key=key) == "ok"
        assert wire.code(op="scan") == "ok"
        for _ in range(7):
            assert wire.code(op="put", key=b"x", value=b"v", w=9) == "no_quorum"
        for _ in range(5):
            assert wire.code(op="get", key=1) == "bad_request"
        wire.send_frames([b"\xff"])
        wire.receive()
        assert wire.code(op="cas", key=b"x") == "unsupported"
    after, syncs_after = _families(cluster, "n2"), _syncs(cluster, "n2")

    def grown(name: str, **labels: str) -> float:
        return _sample(after, name, **labels) - _sample(before, name, **labels)

    counted = {
        (op, outcome): grown("kvbus_request_seconds_count", op=op, mode="ap", outcome=outcome)
        for op, outcome in (("put", "ok"), ("get", "ok"), ("delete", "ok"), ("scan", "ok"), ("put", "no_quorum"))
    }
    assert counted == {
        ("put", "ok"): 100,
        ("get", "ok"): 120,
        ("delete", "ok"): 10,
        ("scan", "ok"): 1,
        ("put", "no_quorum"): 7,
    }
    assert grown("kvbus_quorum_seconds_count", op="put", mode="ap") == 100
    assert grown("kvbus_quorum_seconds_count", op="get", mode="ap") == 120
    assert grown("kvbus_quorum_failures_total", reason="no_quorum") == 7
    assert grown("kvbus_bad_requests_total") == 7
    assert grown("kvbus_keys") == 100
    assert grown("kvbus_wal_fsync_seconds_count") == syncs_after - syncs_before >= 30
    assert 0 < grown("kvbus_request_seconds_sum", op="put", mode="ap", outcome="ok") < 60


def test_buckets_are_cumulative_and_end_with_all(cluster: LocalCluster) -> None:
    for family in _families(cluster, "n2").values():
        if family.type != "histogram":
            continue
        series: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
        counts: dict[tuple[tuple[str, str], ...], float] = {}
        for sample in family.samples:
            labels = tuple(sorted((key, value) for key, value in sample.labels.items() if key != "le"))
            if sample.name.endswith("_bucket"):
                series.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
            elif sample.name.endswith("_count"):
                counts[labels] = sample.value
        assert series.keys() == counts.keys()
        for labels, buckets in series.items():
            assert buckets == sorted(buckets)
            assert [value for _, value in buckets] == sorted(value for _, value in buckets)
            assert buckets[-1] == (float("inf"), counts[labels])


def test_no_time_of_creation_is_told(cluster: LocalCluster) -> None:
    _, _, body = cluster.http("n1", "/metrics")
    assert "_created" not in body


def test_a_member_that_dies_changes_its_state(cluster: LocalCluster) -> None:
    def states() -> dict[str, str]:
        samples = _families(cluster, "n1")["kvbus_member_state"].samples
        return {sample.labels["member"]: sample.labels["state"] for sample in samples if sample.value == 1}

    assert states() == {"n1": "up", "n2": "up", "n3": "up"}
    lost_before = cluster.metric("n1", "kvbus_links_lost_total")
    cluster.kill("n3")
    with cluster.connect("n1") as wire:
        while states()["n3"] != "down":
            assert wire.code(op="ping") == "ok"
    assert cluster.http("n1", "/readyz")[0] == 200
    assert cluster.metric("n1", "kvbus_links_lost_total") - lost_before == 1
    cluster.start("n3")
    assert states() == {"n1": "up", "n2": "up", "n3": "up"}


def test_health_and_readiness_are_told_as_json(cluster: LocalCluster) -> None:
    status, kind, body = cluster.http("n1", "/healthz")
    assert (status, kind, json.loads(body)) == (200, "application/json", {"status": "ok"})
    status, kind, body = cluster.http("n1", "/readyz")
    assert (status, kind) == (200, "application/json")
    assert json.loads(body) == {"ready": True, "members": {"n1": "up", "n2": "up", "n3": "up"}}


def test_other_paths_and_methods_are_refused(cluster: LocalCluster) -> None:
    for path in ("/", "/nothing", "/metrics/nothing", "/metrics/../etc/passwd", "/%00"):
        assert cluster.http("n1", path)[0] == 404, path
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert cluster.http("n1", "/metrics", method=method)[0] == 405
    assert cluster.http("n1", "/metrics", method="HEAD")[0] == 200
    assert cluster.http("n1", "/readyz", method="HEAD")[0] == 200
