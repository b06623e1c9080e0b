"""The engine over RocksDB: its data in a RocksDB database, and over them what was applied since the last commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from operator import itemgetter

from kvbus.core.types import Lsn
from kvbus.errors import ConfigError
from kvbus.ports.disk import Disk
from kvbus.ports.engine import ReadPath
from kvbus_storage.options import EngineOptions
from kvbus_storage.raft_log import SegmentRaftLog
from kvbus_storage.rocks.database import Changes, Database, DatabaseView
from kvbus_storage.rocks.journal import RocksJournal
from kvbus_storage.tenant import ROCKS_FOLDER


class RocksEngine:
    """An :class:`~kvbus.ports.engine.Engine` over a RocksDB database; made by :func:`open_rocks`.

    RocksDB's own threads flush and compact. They hold a write up where they cannot keep pace.
    """

    __slots__ = ("_database", "_disk", "_is_closed", "_journal", "_raft")

    def __init__(
        self,
        database: Database,
        disk: Disk,
        options: EngineOptions,
        *,
        clock: Callable[[], float],
        on_sync: Callable[[float], None] | None,
    ) -> None:
        self._database = database
        self._disk = disk
        self._journal = RocksJournal(database, options, clock=clock, on_sync=on_sync)
        self._raft = SegmentRaftLog(self._journal, self._journal.raft.recovered, store=self._journal.store)
        self._is_closed = False

    @property
    def raft_log(self) -> SegmentRaftLog:
        """The logs of Raft groups, in the same database."""
        return self._raft

    @property
    def read_only(self) -> bool:
        """Whether the disk was full at the last look."""
        return self._journal.read_only

    @property
    def applied_lsn(self) -> Lsn:
        """The number of the newest batch that reads can see."""
        return self._journal.applied_lsn

    @property
    def durable_lsn(self) -> Lsn:
        """The number of the newest batch that survives a crash, as far as the durability setting promises."""
        return self._journal.durable_lsn

    def get(self, key: bytes) -> bytes | None:
        """Return the record at ``key``, or None."""
        if not self._journal.running:
            self._journal.refuse()
        changes = self._journal.changes
        if key in changes:
            return changes[key]
        try:
            return self._database.get(key)
        except OSError as error:
            self._journal.stop(error)
            raise

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the records at ``keys``, in order, None where there is none."""
        if not self._journal.running:
            self._journal.refuse()
        changes = self._journal.changes
        try:
            if not changes:
                return self._database.get_many(keys)
            stored = iter(self._database.get_many([key for key in keys if key not in changes]))
        except OSError as error:
            self._journal.stop(error)
            raise
        return [changes[key] if key in changes else next(stored) for key in keys]

    def explain(self, key: bytes) -> ReadPath:
        """Return ``hit`` where ``key`` is queued; RocksDB does not tell where it looks, so its part is left out."""
        if not self._journal.running:
            self._journal.refuse()
        return ReadPath(memtable="hit" if key in self._journal.changes else "miss", blooms=[], sstables=[])

    def apply(
        self,
        keys: Sequence[bytes],
        records: Sequence[bytes],
        encoded: bytes | None = None,
        previous: Sequence[bytes | None] | None = None,
    ) -> Lsn:
        """Store ``records[i]`` at ``keys[i]`` and queue the batch (see the port)."""
        self._journal.check_writable()
        if len(keys) != len(records):
            raise ValueError(f"{len(keys)} keys, {len(records)} records")
        self._journal.store(keys, records)
        return self._journal.count()

    def purge(self, keys: Sequence[bytes]) -> Lsn:
        """Remove ``keys`` and queue that (see the port)."""
        self._journal.check_writable()
        self._journal.store(keys, [None] * len(keys))
        return self._journal.count()

    def commit(self) -> Lsn:
        """Write and, as the durability setting says, sync all queued batches; return the new ``durable_lsn``."""
        return self._journal.commit()

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield ``(key, record)`` with ``start <= key < end`` in key order, as of the call."""
        if not self._journal.running:
            self._journal.refuse()
        return _laid_over(self._journal.changes, self._database.rows(start, end), start, end)

    def snapshot(self) -> RocksSnapshot:
        """Return what there is now, to be read later; what is queued is copied."""
        if not self._journal.running:
            self._journal.refuse()
        return RocksSnapshot(self._journal.applied_lsn, dict(self._journal.changes), self._database.view())

    def drop_range(self, start: bytes, end: bytes) -> Lsn:
        """Remove all keys from ``start`` up to ``end``, at once and durably (see the port)."""
        return self._journal.drop(start, end)

    def ingest(self, files: Sequence[str], done: Callable[[Exception | None], object]) -> None:
        """Say that tables are for another engine."""
        done(ConfigError('the rocks engine takes no tables: they need [storage] engine = "lsm"'))

    def when_full(self, act: Callable[[], object]) -> None:
        """Take note of nothing: RocksDB flushes by itself."""

    @property
    def rest_seconds(self) -> float:
        """How long to wait with further writes: not at all, RocksDB itself holds up a commit that comes too soon."""
        return 0.0

    def flush_due(self) -> bool:
        """Commit, and let RocksDB flush what has been in its memory for long; say whether it does."""
        self._journal.commit()
        return self._journal.is_old() and self._journal.flush()

    def flush(self) -> None:
        """Commit, and let RocksDB flush all that is in its memory."""
        self._journal.commit()
        self._journal.flush()

    def compact_due(self) -> bool:
        """Do nothing: RocksDB compacts by itself."""
        return False

    def compact(self) -> None:
        """Have everything compacted, in a thread of its own."""
        if not self._journal.running:
            self._journal.refuse()
        self._database.compact()

    def stats(self) -> dict[str, int]:
        """Return gauges and counters; times in microseconds, ``read_only`` 0 or 1, ``keys`` RocksDB's estimate."""
        database = self._database
        if self._is_closed:
            return self._journal.stats()
        log_bytes = [size for name, size in self._files() if name.endswith(".log")]
        tables = database.tables()
        memtable_bytes = database.count("cur-size-all-mem-tables")
        cache_bytes = database.count_data("block-cache-usage")
        found = {
            "keys": database.count_data("estimate-num-keys"),
            "memtable_bytes": memtable_bytes,
            "memory_bytes": memtable_bytes + cache_bytes + database.count("estimate-table-readers-mem"),
            "log_bytes": sum(log_bytes),
            "log_segments": len(log_bytes),
            "tables": len(tables),
            "table_bytes": sum(size for _, size in tables),
            "level0_depth": database.count_data("num-files-at-level0"),
            **{
                f"level{number}_bytes": sum(size for level, size in tables if level == number)
                for number in range(max((level for level, _ in tables), default=-1) + 1)
            },
            "maintenance_failures": database.count_data("background-errors"),
            "cache_bytes": cache_bytes,
            "running_flushes": database.count("num-running-flushes"),
            "running_compactions": database.count("num-running-compactions"),
        }
        return found | self._journal.stats()

    def close(self) -> None:
        """Commit, sync, release the files and take no more calls; a second close does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._journal.close()

    def _files(self) -> Iterator[tuple[str, int]]:
        for name in self._disk.list(ROCKS_FOLDER):
            try:
                file = self._disk.open(f"{ROCKS_FOLDER}/{name}")
            except FileNotFoundError:
                continue
            yield name, file.size
            file.close()


class RocksSnapshot:
    """A :class:`~kvbus.ports.engine.Snapshot`: a view of the database under what was queued."""

    def __init__(self, lsn: Lsn, changes: Changes, view: DatabaseView) -> None:
        self.lsn = lsn
        self._changes = changes
        self._view: DatabaseView | None = view

    def get(self, key: bytes) -> bytes | None:
        """Return the record at ``key``, or None."""
        if key in self._changes:
            return self._changes[key]
        return None if self._view is None else self._view.get(key)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield ``(key, record)`` with ``start <= key < end`` in key order."""
        rows = iter(()) if self._view is None else self._view.rows(start, end)
        return _laid_over(self._changes, rows, start, end)

    def close(self) -> None:
        """Let go of what it holds on to."""
        self._changes, self._view = dict[bytes, bytes | None](), None


def _laid_over(
    changes: Changes, rows: Iterator[tuple[bytes, bytes]], start: bytes, end: bytes
) -> Iterator[tuple[bytes, bytes]]:
    """Lay the changes of now over ``rows``, which lie between the same keys."""
    changed = sorted(pair for pair in changes.items() if start <= pair[0] < end)
    return _merged(changed, rows) if changed else rows


def _merged(
    changed: Iterable[tuple[bytes, bytes | None]], rows: Iterator[tuple[bytes, bytes]]
) -> Iterator[tuple[bytes, bytes]]:
    last: bytes | None = None
    # Of two with the same key the merge gives the change first.
    for key, record in merge(changed, rows, key=itemgetter(0)):
        if key != last and record is not None:
            yield key, record
        last = key
