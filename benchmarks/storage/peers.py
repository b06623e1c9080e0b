"""Other embedded stores. Their libraries are optional and looked up by name, so that nothing else needs them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import cast

from benchmarks.storage.store import wait_until_quiet
from benchmarks.storage.workload import Workload

_BLOOM_BITS = 10
_MAP_BYTES = 8 << 30
# Longer rows of a table without row numbers spill over to pages of their own. Source: sqlite.org/withoutrowid.html.
_LONG_ROW_BYTES = 200
_sync_data = getattr(os, "fdatasync", os.fsync)


class _Peer:
    """What most peers have in common: nothing in the background, nobody else who writes, no count of their own."""

    def settle(self) -> None:
        """Do nothing."""

    def compact(self) -> None:
        """Do nothing."""

    def other_processes(self) -> list[int]:
        """Return none."""
        return []

    def own_written_bytes(self) -> int | None:
        """Return nothing."""
        return None


class AppendStore(_Peer):
    """The least that a put can cost: the bytes of keys and values at the end of one file."""

    def __init__(self, folder: Path, workload: Workload) -> None:
        self._file = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._synced = workload.synced

    def put(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Append one batch with one write."""
        os.write(self._file, b"".join((*keys, *values)))
        if self._synced:
            _sync_data(self._file)

    def get(self, key: bytes) -> bytes | None:
        """Find nothing."""
        return None

    def scan(self) -> int:
        """Find nothing."""
        return 0

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class LevelStore(_Peer):
    """LevelDB through plyvel."""

    def __init__(self, folder: Path, workload: Workload) -> None:
        plyvel = import_module("plyvel")
        self._db = plyvel.DB(str(folder / "db"), create_if_missing=True, bloom_filter_bits=_BLOOM_BITS)
        self._synced = workload.synced
        self._quiet_seconds = workload.quiet_seconds
        self.get = self._db.get
        self._stats = ""

    def put(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Write one write batch."""
        with self._db.write_batch(sync=self._synced) as batch:
            put = batch.put
            for key, value in zip(keys, values, strict=True):
                put(key, value)

    def scan(self) -> int:
        """Go through everything in order."""
        with self._db.iterator() as items:
            return sum(1 for _ in items)

    def settle(self) -> None:
        """Wait until its statistics of compactions stand still; it has no other sign."""
        wait_until_quiet(self._changed, self._quiet_seconds)

    def compact(self) -> None:
        """Compact the whole range."""
        self._db.compact_range()
        self.settle()

    def close(self) -> None:
        """Close the store."""
        self._db.close()

    def _changed(self) -> bool:
        before, self._stats = self._stats, self._db.get_property(b"leveldb.stats")
        return before != self._stats


class RocksStore(_Peer):
    """RocksDB through rocksdict, with raw keys and values."""

    _WORK = (
        "rocksdb.mem-table-flush-pending",
        "rocksdb.num-running-flushes",
        "rocksdb.compaction-pending",
        "rocksdb.num-running-compactions",
    )

    def __init__(self, folder: Path, workload: Workload) -> None:
        rocks = import_module("rocksdict")
        blocks = rocks.BlockBasedOptions()
        blocks.set_bloom_filter(_BLOOM_BITS, False)
        options = rocks.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(blocks)
        options.set_compression_type(rocks.DBCompressionType.lz4())
        self._db = rocks.Rdict(str(folder / "db"), options)
        how = rocks.WriteOptions()
        how.sync = workload.synced
        self._db.set_write_options(how)
        self._how = how
        self._batch = rocks.WriteBatch
        self._quiet_seconds = workload.quiet_seconds
        self.get = self._db.get

    def put(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Write one write batch."""
        batch = self._batch(raw_mode=True)
        put = batch.put
        for key, value in zip(keys, values, strict=True):
            put(key, value)
        self._db.write(batch, self._how)

    def scan(self) -> int:
        """Go through everything in order."""
        return sum(1 for _ in self._db.items())

    def settle(self) -> None:
        """Flush, and wait until no compaction runs or is due."""
        self._db.flush()
        wait_until_quiet(self._works, self._quiet_seconds)

    def compact(self) -> None:
        """Compact the whole range."""
        self._db.compact_range(None, None)
        self.settle()

    def close(self) -> None:
        """Close the store."""
        self._db.close()

    def _works(self) -> bool:
        return any(self._db.property_int_value(name) for name in self._WORK)


class LmdbStore(_Peer):
    """LMDB: a B-tree in a mapped file, one write transaction a batch."""

    def __init__(self, folder: Path, workload: Workload) -> None:
        lmdb = import_module("lmdb")
        self._db = lmdb.open(
            str(folder / "db"), map_size=_MAP_BYTES, sync=workload.synced, metasync=workload.synced, readahead=False
        )

    def put(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Write one transaction."""
        with self._db.begin(write=True) as change:
            change.cursor().putmulti(zip(keys, values, strict=True))

    def get(self, key: bytes) -> bytes | None:
        """Read in a transaction of its own, which is what sees the newest value."""
        with self._db.begin() as view:
            return cast("bytes | None", view.get(key))

    def scan(self) -> int:
        """Go through everything in order."""
        with self._db.begin() as view:
            return sum(1 for _ in view.cursor())

    def close(self) -> None:
        """Close the store."""
        self._db.close()


class SqliteStore(_Peer):
    """SQLite: its log in WAL mode, one transaction a batch, a table without row numbers where rows are short."""

    def __init__(self, folder: Path, workload: Workload) -> None:
        self._db = sqlite3.connect(folder / "db", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA synchronous = {'FULL' if workload.synced else 'OFF'}")
        layout = "WITHOUT ROWID" if workload.value_bytes < _LONG_ROW_BYTES else ""
        self._db.execute(f"CREATE TABLE data (key BLOB PRIMARY KEY, value BLOB NOT NULL) {layout}")

    def put(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Write one transaction."""
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR REPLACE INTO data VALUES (?, ?)", zip(keys, values, strict=True))
        self._db.execute("COMMIT")

    def get(self, key: bytes) -> bytes | None:
        """Read one row."""
        row = self._db.execute("SELECT value FROM data WHERE key = ?", (key,)).fetchone()
        return None if row is None else cast("bytes", row[0])

    def scan(self) -> int:
        """Go through everything in order."""
        return sum(1 for _ in self._db.execute("SELECT key, value FROM data ORDER BY key"))

    def compact(self) -> None:
        """Move the log into the table, and write the table anew."""
        self._db.execute("VACUUM")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the store."""
        self._db.close()
