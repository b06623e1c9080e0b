"""One RocksDB database: the engine's data, and beside them what the node notes for itself.

The column family ``default`` has the engine keys and their records, ``node`` the number of the newest batch and the
logs of Raft groups. One write changes both or neither.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import cast

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
)

from kvbus.errors import KvbusError
from kvbus_storage.options import EngineOptions
from kvbus_storage.rocks.failures import translated, translating, translating_writes

logger = logging.getLogger(__name__)

_NODE = "node"
_BLOOM_BITS = 10
_WRITE_BUFFERS = 3
_LOG_FILES = 3
_LOG_FILE_BYTES = 1 << 20
_RATE_PERIOD_US = 100_000
_RATE_FAIRNESS = 10

Changes = Mapping[bytes, bytes | None]
"""What is to stand at each key; None: nothing."""


class Database:
    """RocksDB in ``folder``, made where there is none. Only its own calls raise; nothing is kept that they wrote.

    Raises:
        CorruptionError: what is there is damaged.
        OSError: with ENOSPC, the disk is full; with EIO, anything else.
    """

    def __init__(self, folder: Path, options: EngineOptions) -> None:
        self.folder = str(folder)
        with translating(self.folder):
            chosen = _options(options)
            self._data = Rdict(self.folder, chosen, column_families={"default": chosen, _NODE: chosen})
            self._node = self._data.get_column_family(_NODE)
            self._node_handle = self._data.get_column_family_handle(_NODE)
        self._compaction: Thread | None = None

    def get(self, key: bytes) -> bytes | None:
        """Return the record at ``key``, or None."""
        try:
            return cast("bytes | None", self._data.get(key))
        except Exception as error:
            raise translated(error, self.folder) from error

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the records at ``keys``, in order, None where there is none."""
        try:
            return cast("list[bytes | None]", self._data.get(list(keys)))
        except Exception as error:
            raise translated(error, self.folder) from error

    def rows(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield ``(key, record)`` with ``start <= key < end`` in key order, as of the call."""
        with translating(self.folder):
            reading = ReadOptions()
            reading.set_iterate_upper_bound(end)
            return DatabaseView(self._data.iter(reading), self.folder).rows(start, end)

    def view(self) -> DatabaseView:
        """Return the data as they are now."""
        with translating(self.folder):
            return DatabaseView(self._data.iter(), self.folder)

    def note(self, key: bytes) -> bytes | None:
        """Return the node's note at ``key``, or None."""
        with translating(self.folder):
            return cast("bytes | None", self._node.get(key))

    def notes(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield all notes of the node in key order."""
        with translating(self.folder):
            return DatabaseView(self._node.iter(), self.folder).rows(b"", None)

    def write(self, data: Changes, notes: Changes, dropped: tuple[bytes, bytes] | None = None) -> None:
        """Write to the log, and let reads see, all of it or nothing: ``dropped`` keys first, then the others."""
        with translating_writes(self.folder):
            batch = WriteBatch(raw_mode=True)
            if dropped is not None:
                batch.delete_range(*dropped)
            for key, record in data.items():
                if record is None:
                    batch.delete(key)
                else:
                    batch.put(key, record)
            for key, note in notes.items():
                if note is None:
                    batch.delete(key, self._node_handle)
                else:
                    batch.put(key, note, self._node_handle)
            self._data.write(batch)

    def sync(self) -> None:
        """Make all that was written durable."""
        with translating_writes(self.folder):
            self._data.flush_wal(sync=True)

    def flush(self) -> None:
        """Let a thread of RocksDB's move what is in memory to tables."""
        with translating_writes(self.folder):
            self._data.flush(wait=False)

    def compact(self) -> None:
        """Begin to compact all tables, in a thread; nothing where it is under way."""
        if self._compaction is None or not self._compaction.is_alive():
            self._compaction = Thread(target=self._compact, name="rocks-compaction")
            self._compaction.start()

    def count(self, name: str) -> int:
        """Return RocksDB's property ``rocksdb.NAME`` of data and notes together."""
        both = (self._data.property_int_value(f"rocksdb.{name}"), self._node.property_int_value(f"rocksdb.{name}"))
        return sum(value or 0 for value in both)

    def count_data(self, name: str) -> int:
        """Return RocksDB's property ``rocksdb.NAME`` of the data, or of what data and notes share."""
        return self._data.property_int_value(f"rocksdb.{name}") or 0

    def tables(self) -> list[tuple[int, int]]:
        """Return level and bytes of each table."""
        with translating(self.folder):
            return [(int(file["level"]), int(file["size"])) for file in self._data.live_files()]

    def close(self) -> None:
        """End RocksDB's work and let another process have the files, once no scan or view is under way."""
        # What is in memory stays in the log: to flush it first could take long, and there may be no room for it.
        self._data.cancel_all_background(True)
        if self._compaction is not None:
            self._compaction.join()
        with suppress(Exception):
            # It flushes, and the order to end stops that; the rest of it is done all the same.
            self._data.close()
        del self._node, self._node_handle

    def _compact(self) -> None:
        try:
            with translating(self.folder):
                self._data.compact_range(None, None)
        except (OSError, KvbusError) as error:
            # A close ends it, and what else it may meet the next read or write meets as well.
            logger.warning("compaction ended early: %s", error)


class DatabaseView:
    """The data as they were when ``place`` was made: RocksDB's iterators see nothing of later writes.

    Everything is read through this one iterator, because those that the binding makes of a snapshot see later writes.
    """

    def __init__(self, place: RdictIter, folder: str) -> None:
        self._place = place
        self._folder = folder
        # Whoever moved the iterator last; anybody else has to seek again.
        self._reader: object = None

    def get(self, key: bytes) -> bytes | None:
        """Return the record at ``key``, or None."""
        found = next(self.rows(key, key + b"\x00"), None)
        return None if found is None else found[1]

    def rows(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Yield ``(key, record)`` with ``start <= key < end``, without a bound where it is None, in key order."""
        place, reader = self._place, object()
        while True:
            if self._reader is not reader:
                place.seek(start)
                self._reader = reader
            if not place.valid():
                break
            key = cast("bytes", place.key())
            if end is not None and key >= end:
                return
            record = cast("bytes", place.value())
            place.next()
            start = key + b"\x00"
            yield key, record
        # The binding's own iteration over items takes a damaged block for the end; only the status tells.
        with translating(self._folder):
            place.status()


def _options(options: EngineOptions) -> Options:
    tables = BlockBasedOptions()
    tables.set_block_cache(Cache(options.tables_bytes))
    tables.set_block_size(options.block_bytes)
    tables.set_bloom_filter(_BLOOM_BITS, False)
    tables.set_cache_index_and_filter_blocks(True)
    chosen = Options(raw_mode=True)
    chosen.create_if_missing(True)
    chosen.create_missing_column_families(True)
    chosen.set_block_based_table_factory(tables)
    chosen.set_compression_type(getattr(DBCompressionType, options.compression)())
    chosen.set_write_buffer_size(options.memtable_bytes)
    chosen.set_max_write_buffer_number(_WRITE_BUFFERS)
    chosen.set_db_write_buffer_size(_WRITE_BUFFERS * options.memtable_bytes)
    # A segment of the log stays until both column families have flushed what is in it, and notes are few.
    chosen.set_max_total_wal_size(_WRITE_BUFFERS * options.memtable_bytes)
    chosen.set_target_file_size_base(options.table_bytes)
    chosen.set_max_bytes_for_level_base(options.level1_bytes)
    chosen.set_max_bytes_for_level_multiplier(float(options.level_ratio))
    chosen.set_level_zero_file_num_compaction_trigger(options.level0_runs)
    chosen.set_ratelimiter(options.compaction_bytes_s, _RATE_PERIOD_US, _RATE_FAIRNESS)
    chosen.set_wal_recovery_mode(
        # Where every acknowledged batch was synced, only the last record may be torn. Elsewhere a power cut may leave
        # anything behind the last sync, and the log counts up to there.
        DBRecoveryMode.tolerate_corrupted_tail_records() if options.sync == "batch" else DBRecoveryMode.point_in_time()
    )
    chosen.set_keep_log_file_num(_LOG_FILES)
    chosen.set_max_log_file_size(_LOG_FILE_BYTES)
    chosen.set_stats_dump_period_sec(0)
    chosen.set_stats_persist_period_sec(0)
    return chosen
