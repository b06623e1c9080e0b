"""Storage engines behind :class:`kvbus.ports.engine.Engine`; the formats are described in ``FORMATS.md``."""

from __future__ import annotations

from collections.abc import Callable

from kvbus.ports.disk import Disk
from kvbus.ports.engine import EngineSettings, OpenEngine
from kvbus.ports.engine_tools import EngineTools
from kvbus.ports.worker import Worker
from kvbus_storage.lsm.engine import LsmEngine
from kvbus_storage.lsm.opening import open_lsm
from kvbus_storage.memory_engine import MemoryEngine, open_engine
from kvbus_storage.options import EngineOptions
from kvbus_storage.tenant import refuse_rocks
from kvbus_storage.tools.files import FileTools


def _open_lsm(
    disk: Disk,
    settings: EngineSettings,
    *,
    worker: Worker,
    clock: Callable[[], float],
    on_sync: Callable[[float], None] | None = None,
) -> LsmEngine:
    refuse_rocks(disk)
    return open_lsm(disk, EngineOptions.of(settings), worker, clock=clock, on_sync=on_sync)


def _open_memory(
    disk: Disk,
    settings: EngineSettings,
    *,
    worker: Worker,
    clock: Callable[[], float],
    on_sync: Callable[[float], None] | None = None,
) -> MemoryEngine:
    refuse_rocks(disk)
    return open_engine(disk, EngineOptions.of(settings), clock=clock, on_sync=on_sync)


LSM: OpenEngine = _open_lsm
MEMORY: OpenEngine = _open_memory
TOOLS: EngineTools = FileTools()

__all__ = ["LSM", "MEMORY", "TOOLS", "EngineOptions", "LsmEngine", "MemoryEngine", "open_engine", "open_lsm"]
