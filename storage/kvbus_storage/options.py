"""What may be chosen about an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from kvbus.errors import ConfigError
from kvbus.ports.engine import EngineSettings
from kvbus_storage.table.compression import Compression

SyncPolicy = Literal["batch", "interval", "none"]

_MIB = 1 << 20
_LEAST_WAITING_BYTES = 64 * _MIB
_POLICIES = ("batch", "interval", "none")
_COMPRESSIONS = ("lz4", "zstd", "none")
_LOWEST = {
    "interval_ms": 1,
    "segment_bytes": 4096,
    "segment_batches": 1,
    "rewrite_ratio": 2,
    "memory_bytes": _MIB,
    "block_bytes": 64,
    "table_bytes": 1024,
    "level0_runs": 1,
    "level1_bytes": 1024,
    "level_ratio": 2,
    "guard_bytes": 1024,
    "compaction_bytes_s": 1024,
}


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Settings of one engine, checked when it is made.

    Raises:
        ConfigError: a value is out of its range.
    """

    sync: SyncPolicy = "batch"
    """When the log is synced. Default ``batch``: at every commit, so that an acknowledged batch survives a power cut.
    ``interval``: at most every ``interval_ms``; a power cut loses what came since. ``none``: only when a segment is
    sealed. Batches that were written survive the end of the process with all three."""

    interval_ms: int = 1000
    """Milliseconds between syncs with ``sync = "interval"``, at least 1. Default 1000. More: fewer syncs, more loss."""

    segment_bytes: int = 256 * _MIB
    """Bytes at which a log segment is full, at least 4096. Default 256 MiB. More: fewer flushes where the same keys are
    written again and again, and a start that has more to replay."""

    segment_batches: int = 400_000
    """Log-structured engine: batches at which a log segment is full, at least 1. Default 400,000, which a start replays
    in some 2 s. More: fewer flushes where the same few keys are written again and again, one at a time."""

    segment_age_s: float = 3600.0
    """Seconds after which a log segment is closed although it is not full, above 0. Default 3600."""

    rewrite_ratio: int = 4
    """Memory engine: a start rewrites the log when it is more than this many times the live data (and more than one
    full segment), at least 2. Default 4. Less: shorter logs, more starts that rewrite."""

    memory_bytes: int = 256 * _MIB
    """Memory for data, at least 1 MiB. Default 256 MiB. A memtable is flushed when it takes an eighth of it; another
    eighth is for those that wait for that or were flushed last, a quarter for single records that were read or written
    of late, and half for blocks, filters and indexes of tables."""

    compression: Compression = "lz4"
    """How blocks are stored. Default ``lz4``; ``zstd``: smaller and slower; ``none``. What it does not shrink by an
    eighth is stored plain."""

    block_bytes: int = 4096
    """Keys and records in a block, at least 64. Default 4096. More: better compression, more to read for one key."""

    table_bytes: int = 8 * _MIB
    """Keys and records in a table, at least 1024. Default 8 MiB. Less: smaller compactions, more open files."""

    level0_runs: int = 4
    """Runs over each other in level 0 that call for a compaction, at least 1. Default 4. More: fewer rewrites, slower
    reads of keys that are not in memory."""

    level1_bytes: int = 64 * _MIB
    """Bytes at which level 1 is full, at least 1024. Default 64 MiB; each further level may have ``level_ratio`` times
    as many."""

    level_ratio: int = 10
    """How much larger each level is than the one above it, at least 2. Default 10."""

    guard_bytes: int = 16 * _MIB
    """Bytes of level 1 between two keys at which tables are cut, at least 1024. Default 16 MiB. One compaction from
    level 0 takes what lies between two such keys: less means shorter compactions and smaller tables."""

    compaction_bytes_s: int = 64 * _MIB
    """Bytes that compactions may read a second, on average, at least 1024. Default 64 MiB. Level 0 at three times
    ``level0_runs`` is compacted without this limit. Less: steadier response times, more runs to look into."""

    @classmethod
    def of(cls, settings: EngineSettings) -> EngineOptions:
        """Return the options that a node's settings call for.

        Raises:
            ConfigError: a setting is out of its range.
        """
        return cls(
            sync=settings.sync,
            interval_ms=settings.interval_ms,
            memory_bytes=settings.memory_bytes,
            compression=settings.compression,
            segment_age_s=settings.flush_age_s,
            compaction_bytes_s=settings.compaction_bytes_s,
        )

    def __post_init__(self) -> None:
        if self.sync not in _POLICIES:
            raise ConfigError(f"sync = {self.sync!r}: choose one of {', '.join(_POLICIES)}")
        if self.compression not in _COMPRESSIONS:
            raise ConfigError(f"compression = {self.compression!r}: choose one of {', '.join(_COMPRESSIONS)}")
        for name, bound in _LOWEST.items():
            if getattr(self, name) < bound:
                raise ConfigError(f"{name} = {getattr(self, name)}: choose {bound} or more")
        if not self.segment_age_s > 0:
            raise ConfigError(f"segment_age_s = {self.segment_age_s}: choose more than 0")

    def sync_is_due(self, clock: Callable[[], float], synced_at: float) -> bool:
        """Say whether a commit has to sync, when the last sync was at ``synced_at``; seconds of ``clock``."""
        if self.sync == "interval":
            return (clock() - synced_at) * 1000 >= self.interval_ms
        return self.sync == "batch"

    @property
    def memtable_bytes(self) -> int:
        """Memory at which a memtable is full."""
        return self.memory_bytes // 8

    @property
    def recent_bytes(self) -> int:
        """Memory for single records that were read or written of late."""
        return self.memory_bytes // 4

    @property
    def waiting_bytes(self) -> int:
        """Memory that memtables which wait to be flushed may take before writes are refused.

        A worker takes a moment to start, whatever the budget.
        """
        return max(self.memory_bytes, _LEAST_WAITING_BYTES)

    @property
    def tables_bytes(self) -> int:
        """Memory for blocks, filters and indexes."""
        return self.memory_bytes // 2
