"""What one trial measures, and how it travels from the process that ran it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from pydantic import TypeAdapter

from benchmarks.storage.store import StoreName

Phase = Literal["put", "get hit", "get miss", "multi_get 64", "scan", "put, worker idle", "put, worker busy"]
PHASES: tuple[Phase, ...] = get_args(Phase)


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure's place: a store, what it did, and with what."""

    store: StoreName
    phase: Phase
    value_bytes: int
    synced: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """Keys a second; of puts also how long a batch took: percentiles and the worst one. ``errors`` counts wrong
    answers."""

    keys_per_second: float
    p50_us: float = 0.0
    p99_us: float = 0.0
    worst_us: float = 0.0
    errors: int = 0

    @classmethod
    def of(cls, latencies_us: Sequence[float], keys: int, seconds: float) -> Figures:
        """Sum up the latencies of batches, at least one, that wrote ``keys`` keys within ``seconds``."""
        ordered = sorted(latencies_us)
        count = len(ordered)
        return cls(keys / seconds, ordered[count // 2], ordered[count * 99 // 100], ordered[-1])


@dataclass(frozen=True, slots=True)
class Amplification:
    """Bytes for each byte of keys and values, and the seconds until the store had settled after its puts.

    ``written`` is what the kernel counted in calls that write, before a compaction of everything was asked for;
    ``own_written`` the store's own count of the same, ``stored`` what its files take after that compaction. None: not
    told.
    """

    written: float | None
    own_written: float | None
    stored: float
    settle_seconds: float


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What one process found out about one store: figures by phase, and for the stall trial how much of the time the
    worker was busy."""

    phases: dict[Phase, Figures] = field(default_factory=dict[Phase, Figures])
    amplification: Amplification | None = None
    busy_percent: float | None = None


RESULT = TypeAdapter(TrialResult)
"""Reads and writes a :class:`TrialResult` as JSON."""
