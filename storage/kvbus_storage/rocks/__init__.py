"""The engine over RocksDB, for those who have installed the extra ``rocks``."""

from __future__ import annotations

from kvbus.errors import ConfigError

try:
    from kvbus_storage.rocks.opening import ROCKS
except ModuleNotFoundError as error:
    if error.name != "rocksdict":
        raise
    raise ConfigError('the engine "rocks" needs RocksDB; install it: pip install "kvbus[rocks]"') from error

__all__ = ["ROCKS"]
