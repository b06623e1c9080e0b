"""Counters and histograms that a pure machine can keep; the runtime exports them.

A histogram takes a whole batch at once, so that the hot path pays once a batch and not once an operation.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

SECONDS_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIBLING_BUCKETS = (1, 2, 5, 10, 25, 50, 100)


class Histogram:
    """Counts of durations in seconds, or of what ``bounds`` says; ``counts`` has one more item, for the rest."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS_BUCKETS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Add ``count`` observations of the same value."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.total += value * count


class Metrics:
    """What one node counts: histograms and counters, by name and label values."""

    def __init__(self) -> None:
        self.request_seconds: dict[tuple[str, str, str], Histogram] = {}
        self.quorum_seconds: dict[tuple[str, str], Histogram] = {}
        self.quorum_failures: dict[str, int] = {}
        self.fsync_seconds = Histogram()
        self.siblings = Histogram(SIBLING_BUCKETS)
        self.shed_total = 0
        self.peer_protocol_errors_total = 0
        self.bad_requests_total = 0
        self.damaged_reads_total = 0
        self.repaired_records_total = 0

    def requests(self, op: str, mode: str, outcome: str) -> Histogram:
        """Return the histogram ``request_seconds{op,mode,outcome}``, made at its first use."""
        key = (op, mode, outcome)
        found = self.request_seconds.get(key)
        if found is None:
            found = self.request_seconds[key] = Histogram()
        return found

    def quorums(self, op: str, mode: str) -> Histogram:
        """Return the histogram ``quorum_seconds{op,mode}``, made at its first use."""
        found = self.quorum_seconds.get((op, mode))
        if found is None:
            found = self.quorum_seconds[(op, mode)] = Histogram()
        return found

    def quorum_failed(self, reason: str, count: int) -> None:
        """Count operations that missed their demand, by reason."""
        self.quorum_failures[reason] = self.quorum_failures.get(reason, 0) + count
