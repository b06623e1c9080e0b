"""Which engine's data lie in a directory: another engine would not see them and give the node for empty."""

from __future__ import annotations

from kvbus.errors import ConfigError
from kvbus.ports.disk import Disk
from kvbus_storage.log.format import segment_number
from kvbus_storage.lsm.manifest_format import manifest_number

ROCKS_FOLDER = "rocks"
_ROCKS_ROOT = "CURRENT"


def refuse_rocks(disk: Disk) -> None:
    """Refuse a directory in which RocksDB keeps data.

    Raises:
        ConfigError: it does.
    """
    if _ROCKS_ROOT in disk.list(ROCKS_FOLDER):
        raise ConfigError('the data directory has a RocksDB database: it needs [storage] engine = "rocks"')


def refuse_log(disk: Disk) -> None:
    """Refuse a directory that holds a commit log or tables.

    Raises:
        ConfigError: it does.
    """
    names = disk.list()
    if any(manifest_number(name) is not None for name in names):
        raise ConfigError('the data directory has tables: they need [storage] engine = "lsm"')
    if any(segment_number(name) is not None for name in names):
        raise ConfigError('the data directory has a commit log: it needs [storage] engine = "lsm" or "memory"')
