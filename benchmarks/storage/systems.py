"""The stores that are compared, and the settings under which they are."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.storage.engine import EngineStore
from benchmarks.storage.peers import AppendStore, LevelStore, LmdbStore, RocksStore, SqliteStore
from benchmarks.storage.store import StoreName, System
from benchmarks.storage.workload import MEMORY_BYTES

_ALL = (
    System(
        name="lsm",
        label="kvbus lsm",
        module="kvbus_storage",
        settings=f"memory_bytes {MEMORY_BYTES >> 20} MiB (half for blocks), bloom 10 bits, lz4, one worker process",
        open=EngineStore,
    ),
    System(
        name="append",
        label="raw append",
        module="os",
        settings="one file, the bytes of keys and values, fdatasync where synced",
        open=AppendStore,
        reads=False,
    ),
    System(
        name="leveldb",
        label="LevelDB",
        module="plyvel",
        settings="bloom 10 bits; defaults: 4 MiB write buffer, 8 MiB block cache, snappy",
        open=LevelStore,
    ),
    System(
        name="rocksdb",
        label="RocksDB",
        module="rocksdict",
        settings="bloom 10 bits, lz4; defaults: 64 MiB write buffer, 32 MiB block cache, 2 background jobs",
        open=RocksStore,
    ),
    System(
        name="lmdb",
        label="LMDB",
        module="lmdb",
        settings="8 GiB map, no read-ahead, a read transaction a get; not synced: sync and metasync off",
        open=LmdbStore,
    ),
    System(
        name="sqlite",
        label="SQLite",
        module="sqlite3",
        settings="WAL, synchronous FULL or OFF, WITHOUT ROWID at 100 B; default 2 MiB page cache",
        open=SqliteStore,
    ),
)
SYSTEMS: Mapping[StoreName, System] = {system.name: system for system in _ALL}
