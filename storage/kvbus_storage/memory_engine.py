"""The engine that keeps all data in memory, with a commit log on disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from time import monotonic

from kvbus.core.types import Lsn
from kvbus.errors import ConfigError
from kvbus.ports.disk import Disk
from kvbus.ports.engine import ReadPath
from kvbus_storage.log.format import Kind, LogRecord
from kvbus_storage.log.journal import Journal
from kvbus_storage.log.payload import decode_applied, decode_batch, decode_keys, decode_range, encode_batch, encode_keys
from kvbus_storage.log.recovery import LogTail, read_base, recover_log
from kvbus_storage.log.rewrite import rewrite_log
from kvbus_storage.lsm.levels import Levels, Probes
from kvbus_storage.lsm.manifest_format import manifest_number
from kvbus_storage.lsm.view import View
from kvbus_storage.memtable import Memtable, Undo
from kvbus_storage.options import EngineOptions
from kvbus_storage.raft_log import RecoveredRaft, SegmentRaftLog, do_nothing

logger = logging.getLogger(__name__)


def open_engine(
    disk: Disk,
    options: EngineOptions,
    *,
    clock: Callable[[], float] = monotonic,
    on_sync: Callable[[float], None] | None = None,
) -> MemoryEngine:
    """Recover the log on ``disk`` and return an engine that holds its data.

    ``clock`` gives monotonic seconds; ``on_sync`` is told the seconds that each sync of the log took. Nothing is
    written before the first commit, but for the rewrite of a log that ``options.rewrite_ratio`` calls too long.

    Raises:
        CorruptionError: the log is damaged; it stays as it is.
        ConfigError: a newer kvbus wrote the log, or another engine keeps data here.
        OSError: the disk failed.
    """
    if any(manifest_number(name) is not None for name in disk.list()):
        raise ConfigError('the data directory has tables: they need [storage] engine = "lsm"')
    replay = _Replay()
    tail = recover_log(disk, read_base(disk), replay.take)
    table = replay.table
    if tail.log_bytes > max(options.rewrite_ratio * table.data_bytes, options.segment_bytes) and len(table):
        tail = rewrite_log(disk, tail, table.items(), replay.raft.records(), segment_bytes=options.segment_bytes)
    logger.info(
        "recovered %d keys up to LSN %d from %d bytes in %d segments",
        len(table),
        tail.last_lsn,
        tail.log_bytes,
        tail.segment_count,
    )
    return MemoryEngine(disk, options, table, replay.raft, tail, clock=clock, on_sync=on_sync)


class MemoryEngine:
    """An :class:`~kvbus.ports.engine.Engine` over a memtable and a commit log; made by :func:`open_engine`."""

    __slots__ = ("_journal", "_options", "_raft", "_table")

    def __init__(
        self,
        disk: Disk,
        options: EngineOptions,
        table: Memtable,
        raft: RecoveredRaft,
        tail: LogTail,
        *,
        clock: Callable[[], float],
        on_sync: Callable[[float], None] | None,
    ) -> None:
        self._options = options
        self._table = table
        self._journal = Journal(disk, options, tail, clock=clock, on_sync=on_sync)
        self._raft = SegmentRaftLog(self._journal, raft, store=self._store)

    @property
    def raft_log(self) -> SegmentRaftLog:
        """The logs of Raft groups, in the same commit log."""
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
        return self._table.get(key)

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the records at ``keys``, in order, None where there is none."""
        if not self._journal.running:
            self._journal.refuse()
        return self._table.multi_get(keys)

    def explain(self, key: bytes) -> ReadPath:
        """Return the way of a read of ``key``: the memtable."""
        return ReadPath(memtable="miss" if self.get(key) is None else "hit", blooms=[], sstables=[])

    def apply(
        self,
        keys: Sequence[bytes],
        records: Sequence[bytes],
        encoded: bytes | None = None,
        previous: Sequence[bytes | None] | None = None,
    ) -> Lsn:
        """Store ``records[i]`` at ``keys[i]`` and queue the batch for the log (see the port)."""
        journal = self._journal
        if not journal.running or journal.read_only:
            journal.check_writable()
        undo = self._table.put(keys, records, previous)
        return journal.add(Kind.RECORD, encode_batch(keys, records) if encoded is None else encoded, undo)

    def purge(self, keys: Sequence[bytes]) -> Lsn:
        """Remove ``keys`` and queue that for the log (see the port)."""
        self._journal.check_writable()
        undo = self._table.delete(keys)
        return self._journal.add(Kind.PURGE, encode_keys(keys), undo)

    def commit(self) -> Lsn:
        """Write and, as the durability setting says, sync all queued batches; return the new ``durable_lsn``."""
        return self._journal.commit()

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield ``(key, record)`` with ``start <= key < end`` in key order, as of the call."""
        if not self._journal.running:
            self._journal.refuse()
        return self._table.scan(start, end)

    def snapshot(self) -> View:
        """Return what there is now, to be read later; all of it is copied."""
        if not self._journal.running:
            self._journal.refuse()
        return View(self._journal.applied_lsn, [self._table.copy()], Levels(), Probes())

    def drop_range(self, start: bytes, end: bytes) -> Lsn:
        """Remove all keys from ``start`` up to ``end``, at once and durably (see the port)."""
        self._journal.check_writable()
        self.commit()
        lsn = self._journal.add(Kind.DROP_RANGE, encode_keys((start, end)), do_nothing)
        self.commit()
        self._table = self._table.without(start, end)
        return lsn

    @property
    def rest_seconds(self) -> float:
        """How long to wait with further writes: never."""
        return 0.0

    def flush_due(self) -> bool:
        """Commit, and seal the current log segment when it is old or full enough; say whether it did."""
        self.commit()
        if self._journal.segment_bytes < self._options.segment_bytes and not self._journal.is_old():
            return False
        self._journal.seal()
        return True

    def flush(self) -> None:
        """Commit; there are no tables."""
        self.commit()

    def compact_due(self) -> bool:
        """Do nothing: a start rewrites a log that is too long."""
        return False

    def compact(self) -> None:
        """Do nothing: a start rewrites a log that is too long."""

    def ingest(self, files: Sequence[str], done: Callable[[Exception | None], object]) -> None:
        """Say that tables are for another engine."""
        done(ConfigError('the memory engine takes no tables: they need [storage] engine = "lsm"'))

    def when_full(self, act: Callable[[], object]) -> None:
        """Take note of nothing: this engine is never full."""

    def stats(self) -> dict[str, int]:
        """Return gauges and counters; times in microseconds, ``read_only`` 0 or 1."""
        found = {
            "keys": len(self._table),
            "memtable_bytes": self._table.data_bytes,
            "memory_bytes": self._table.memory_bytes,
        }
        return found | self._journal.stats()

    def close(self) -> None:
        """Commit, seal the log, release the files and take no more calls; a second close does nothing."""
        self._journal.close()

    def _store(self, keys: Sequence[bytes], records: Sequence[bytes]) -> Undo:
        return self._table.put(keys, records)


class _Replay:
    """Fills a memtable from the log."""

    def __init__(self) -> None:
        self.table = Memtable()
        self.raft = RecoveredRaft({})

    def take(self, record: LogRecord, segment: int) -> None:
        """Do what a log record says.

        Raises:
            FormatError: its payload is not what its kind says.
        """
        if record.kind == Kind.RECORD:
            self.table.put(*decode_batch(record.payload))
        elif record.kind == Kind.APPLIED:
            self.table.put(*decode_applied(record.payload).batch)
        elif record.kind == Kind.PURGE:
            self.table.delete(decode_keys(record.payload))
        elif record.kind == Kind.DROP_RANGE:
            self.table = self.table.without(*decode_range(record.payload))
        self.raft.take(record, segment)
