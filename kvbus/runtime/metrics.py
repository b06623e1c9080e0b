"""Prometheus' view of a node: read at scrape time from what the machines count, so that an operation costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import count as count_up

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from kvbus.core.metrics import Histogram
from kvbus.core.node import Node

Gauges = Callable[[], Mapping[str, float]]


class NodeCollector(Collector):
    """Turns one node's counts into metric families, prefix ``kvbus_``, base units."""

    def __init__(self, node: Node, world: Gauges, clock: Callable[[], float]) -> None:
        self._node = node
        self._world = world
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """Yield every family; called once a scrape."""
        metrics, node = self._node.metrics, self._node
        requests = HistogramMetricFamily(
            "kvbus_request_seconds", "Time from a request's arrival to its reply.", labels=["op", "mode", "outcome"]
        )
        for labels, histogram in metrics.request_seconds.items():
            _add(requests, labels, histogram)
        yield requests
        quorums = HistogramMetricFamily(
            "kvbus_quorum_seconds", "Time until the quorum was reached.", labels=["op", "mode"]
        )
        for pair, histogram in metrics.quorum_seconds.items():
            _add(quorums, pair, histogram)
        yield quorums
        failures = CounterMetricFamily(
            "kvbus_quorum_failures", "Operations that missed their quorum.", labels=["reason"]
        )
        for reason, count in metrics.quorum_failures.items():
            failures.add_metric([reason], count)
        yield failures
        fsync = HistogramMetricFamily("kvbus_wal_fsync_seconds", "Time of one sync of the commit log.", labels=[])
        _add(fsync, (), metrics.fsync_seconds)
        yield fsync
        siblings = HistogramMetricFamily(
            "kvbus_siblings",
            "Siblings that a coordinated write left at its key; over 25 somebody forgets ctx.",
            labels=[],
        )
        _add(siblings, (), metrics.siblings)
        yield siblings
        members = GaugeMetricFamily(
            "kvbus_member_state",
            "1 for the state each member is in, by this node's evidence.",
            labels=["member", "state"],
        )
        for index, state in node.links.states(self._clock()).items():
            for each in ("up", "silent", "down"):
                members.add_metric([node.topology.members[index].name, each], float(each == state))
        yield members
        yield from self._simple()

    def _simple(self) -> Iterable[Metric]:
        node, metrics = self._node, self._node.metrics
        engine = node.engine.stats()
        yield CounterMetricFamily(
            "kvbus_shed",
            "Operations refused as overload; a request that was not opened is one.",
            value=metrics.shed_total,
        )
        yield CounterMetricFamily(
            "kvbus_bad_requests", "Requests refused before any node code ran.", value=metrics.bad_requests_total
        )
        yield CounterMetricFamily(
            "kvbus_damaged_reads",
            "Reads and scans of this node's copy that met damage; other replicas answered, if there were any.",
            value=metrics.damaged_reads_total,
        )
        yield CounterMetricFamily(
            "kvbus_repaired_records",
            "Records read from all other replicas because this node's copy was damaged, and stored here again.",
            value=metrics.repaired_records_total,
        )
        yield CounterMetricFamily(
            "kvbus_peer_protocol_errors",
            "Peer frames that break the protocol.",
            value=metrics.peer_protocol_errors_total,
        )
        yield CounterMetricFamily("kvbus_links_lost", "Links to peers that went down.", value=node.links.lost_total)
        yield GaugeMetricFamily("kvbus_topology_epoch", "The topology's epoch.", value=node.topology.epoch)
        yield GaugeMetricFamily("kvbus_pending_operations", "Operations in flight.", value=node.pending())
        yield GaugeMetricFamily("kvbus_memtable_bytes", "Keys and records in memory.", value=engine["memtable_bytes"])
        yield GaugeMetricFamily("kvbus_keys", "Keys in the engine, tombstones included.", value=engine["keys"])
        yield GaugeMetricFamily("kvbus_log_bytes", "Bytes of the commit log.", value=engine["log_bytes"])
        yield from _storage(engine)
        info = GaugeMetricFamily("kvbus_build_info", "1, with the software's version.", labels=["version", "node"])
        info.add_metric([node.identity.version, node.identity.name], 1)
        yield info
        for name, value in self._world().items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield family(f"kvbus_{name.removesuffix('_total')}", "Of the runtime.", value=value)


_STORAGE_GAUGES = {
    "read_only": "1 while writes are refused: the disk is full, files have run out, or flushes are far behind.",
    "frozen_memtables": "Memtables that wait for their flush.",
    "level0_depth": "Runs over each other in level 0: each is one more place to look for a key.",
    "damaged_tables": "Tables that cannot be read, and those that compaction leaves alone because of them.",
    "cache_bytes": "Bytes of cached blocks.",
}
_STORAGE_COUNTERS = {
    "cache_hits": "Blocks found in the block cache.",
    "cache_misses": "Blocks read from the disk.",
    "bloom_probes": "Bloom filters asked.",
    "bloom_false_positives": "Filters that said maybe of a key that was not there.",
    "flushed_bytes": "Bytes of tables that flushes wrote.",
    "compacted_bytes": "Bytes of tables that compactions wrote.",
    "maintenance_failures": "Flushes and compactions that failed and were tried again.",
}


def _storage(engine: Mapping[str, int]) -> Iterable[Metric]:
    """Yield what an engine with tables counts; nothing where it counts nothing."""
    for name, help_text in _STORAGE_GAUGES.items():
        if name in engine:
            yield GaugeMetricFamily(f"kvbus_{name}", help_text, value=engine[name])
    for name, help_text in _STORAGE_COUNTERS.items():
        if name in engine:
            yield CounterMetricFamily(f"kvbus_{name.replace('positives', 'positive')}", help_text, value=engine[name])
    levels = GaugeMetricFamily("kvbus_sstable_bytes", "Bytes of tables.", labels=["level"])
    for level in count_up():
        if f"level{level}_bytes" not in engine:
            break
        levels.add_metric([str(level)], engine[f"level{level}_bytes"])
    if levels.samples:
        yield levels
    for job, total in (("flush", "flushes"), ("compaction", "compactions")):
        if total in engine:
            seconds = SummaryMetricFamily(f"kvbus_{job}_seconds", f"Time from a {job}'s begin to its result.")
            seconds.add_metric([], count_value=engine[total], sum_value=engine[f"{job}_us"] / 1e6)
            yield seconds


def registry_for(collector: NodeCollector) -> CollectorRegistry:
    """Return a registry of this node's own."""
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], histogram: Histogram) -> None:
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), total))
    family.add_metric(list(labels), buckets=buckets, sum_value=histogram.total)
