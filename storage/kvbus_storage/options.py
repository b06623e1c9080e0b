"""What may be chosen about an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kvbus.errors import ConfigError

SyncPolicy = Literal["batch", "interval", "none"]

_MIB = 1 << 20
_POLICIES = ("batch", "interval", "none")


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

    segment_bytes: int = 64 * _MIB
    """Bytes at which a log segment is full, at least 4096. Default 64 MiB. A start reads one segment at a time
    into memory; smaller ones mean more files."""

    segment_age_s: float = 3600.0
    """Seconds after which a log segment is closed although it is not full, above 0. Default 3600."""

    rewrite_ratio: int = 4
    """A start rewrites the log when it is more than this many times the live data (and more than one full segment), at
    least 2. Default 4. Less: shorter logs, more starts that rewrite."""

    def __post_init__(self) -> None:
        if self.sync not in _POLICIES:
            raise ConfigError(f"sync = {self.sync!r}: choose one of {', '.join(_POLICIES)}")
        lowest = {"interval_ms": 1, "segment_bytes": 4096, "rewrite_ratio": 2}
        for name, bound in lowest.items():
            if getattr(self, name) < bound:
                raise ConfigError(f"{name} = {getattr(self, name)}: choose {bound} or more")
        if not self.segment_age_s > 0:
            raise ConfigError(f"segment_age_s = {self.segment_age_s}: choose more than 0")
