"""Opening RocksDB in a folder of a node's data directory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from kvbus.errors import ConfigError
from kvbus.ports.disk import Disk, FolderDisk
from kvbus.ports.engine import EngineSettings, OpenEngine
from kvbus.ports.worker import Worker
from kvbus_storage.options import EngineOptions
from kvbus_storage.rocks.database import Database
from kvbus_storage.rocks.engine import RocksEngine
from kvbus_storage.tenant import ROCKS_FOLDER, refuse_log

logger = logging.getLogger(__name__)


def open_rocks(
    disk: Disk,
    options: EngineOptions,
    *,
    clock: Callable[[], float] = monotonic,
    on_sync: Callable[[float], None] | None = None,
) -> RocksEngine:
    """Open, or make, the database in the folder ``rocks`` on ``disk`` and return an engine over it.

    ``clock`` gives monotonic seconds; ``on_sync`` is told the seconds that each sync of RocksDB's log took.

    Raises:
        ConfigError: the disk is no folder of the operating system, or another engine keeps data here.
        CorruptionError: the database is damaged.
        OSError: the disk failed.
    """
    if not isinstance(disk, FolderDisk):
        raise ConfigError(
            'the engine "rocks" needs a folder of the operating system; set [storage] engine = "lsm" or "memory"'
        )
    refuse_log(disk)
    database = Database(Path(disk.root) / ROCKS_FOLDER, options)
    # RocksDB makes its own names durable, but not that of its folder.
    disk.sync_folder()
    engine = RocksEngine(database, disk, options, clock=clock, on_sync=on_sync)
    logger.info("opened at LSN %d with about %d keys", engine.applied_lsn, database.count_data("estimate-num-keys"))
    return engine


def _open(
    disk: Disk,
    settings: EngineSettings,
    *,
    worker: Worker,
    clock: Callable[[], float],
    on_sync: Callable[[float], None] | None = None,
) -> RocksEngine:
    return open_rocks(disk, EngineOptions.of(settings), clock=clock, on_sync=on_sync)


ROCKS: OpenEngine = _open
