"""Storage engines behind :class:`kvbus.ports.engine.Engine`; the formats are described in ``FORMATS.md``."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from kvbus.ports.disk import Disk
from kvbus.ports.engine import OpenEngine
from kvbus_storage.memory_engine import MemoryEngine, open_engine
from kvbus_storage.options import EngineOptions, SyncPolicy


def _open_with_settings(
    disk: Disk,
    *,
    sync: str,
    interval_ms: int,
    clock: Callable[[], float],
    on_sync: Callable[[float], None] | None = None,
) -> MemoryEngine:
    """Open the memory engine with the node's ``[durability]`` settings, which the options check."""
    options = EngineOptions(sync=cast("SyncPolicy", sync), interval_ms=interval_ms)
    return open_engine(disk, options, clock=clock, on_sync=on_sync)


ENGINE: OpenEngine = _open_with_settings

__all__ = ["ENGINE", "EngineOptions", "MemoryEngine", "open_engine"]
