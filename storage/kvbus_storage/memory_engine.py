"""The engine of version 0: all data in memory, a commit log on disk.

Rules: memory never shows what the log refused (a failed append is taken back); the log holds every batch up to
``applied_lsn`` once ``commit`` has returned; an error other than a full disk stops the engine for good.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic

from kvbus.core.columns import pack_column
from kvbus.core.types import Lsn
from kvbus.errors import ReadOnly, ShuttingDown
from kvbus.ports.disk import Disk
from kvbus_storage.commit_log import FILL_STEP_BYTES, CommitLog
from kvbus_storage.disk_full import is_disk_full
from kvbus_storage.log_recovery import LogTail, recover_log
from kvbus_storage.log_rewrite import rewrite_log
from kvbus_storage.memtable import Memtable, Undo
from kvbus_storage.options import EngineOptions

logger = logging.getLogger(__name__)

_FULL_MESSAGE = "the disk is full: free space and restart the node; reads go on"


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
        ConfigError: a newer kvbus wrote the log.
        OSError: the disk failed.
    """
    table = Memtable()
    tail = recover_log(disk, table.put)
    if tail.log_bytes > max(options.rewrite_ratio * table.data_bytes, options.segment_bytes) and len(table):
        tail = rewrite_log(disk, tail, table.items(), segment_bytes=options.segment_bytes)
    logger.info(
        "recovered %d keys up to LSN %d from %d bytes in %d segments",
        len(table),
        tail.last_lsn,
        tail.log_bytes,
        tail.segment_count,
    )
    return MemoryEngine(disk, options, table, tail, clock=clock, on_sync=on_sync)


class MemoryEngine:
    """An :class:`~kvbus.ports.engine.Engine` over a memtable and a commit log; made by :func:`open_engine`."""

    __slots__ = (
        "_applied",
        "_clock",
        "_closed",
        "_commits",
        "_failed_batches",
        "_failure",
        "_last_sync_s",
        "_log",
        "_on_sync",
        "_opened_at",
        "_options",
        "_payloads",
        "_read_only",
        "_recovered",
        "_running",
        "_synced_at",
        "_syncs",
        "_table",
        "_undos",
    )

    def __init__(
        self,
        disk: Disk,
        options: EngineOptions,
        table: Memtable,
        tail: LogTail,
        *,
        clock: Callable[[], float],
        on_sync: Callable[[float], None] | None,
    ) -> None:
        # Only a log that is synced at every commit gains from zeros ahead of its tail.
        fill_step_bytes = FILL_STEP_BYTES if options.sync == "batch" else 0
        self._options = options
        self._table = table
        self._log = CommitLog(disk, tail, fill_step_bytes=fill_step_bytes)
        self._clock = clock
        self._on_sync = on_sync
        self._recovered = self._applied = tail.last_lsn
        # Queued for the log: _payloads[i] and _undos[i] belong to LSN log.last_lsn + 1 + i.
        self._payloads: list[bytes] = []
        self._undos: list[Undo] = []
        self._running = True
        self._closed = False
        self._failure: OSError | None = None
        self._read_only = False
        self._synced_at = self._opened_at = clock()
        self._last_sync_s = 0.0
        self._syncs = self._commits = self._failed_batches = 0

    @property
    def applied_lsn(self) -> Lsn:
        """The number of the newest batch that reads can see."""
        return self._applied

    @property
    def durable_lsn(self) -> Lsn:
        """The number of the newest batch that survives a crash, as far as the durability setting promises."""
        return self._log.synced_lsn if self._options.sync == "batch" else self._log.last_lsn

    def get(self, key: bytes) -> bytes | None:
        """Return the record at ``key``, or None."""
        if not self._running:
            self._refuse()
        return self._table.get(key)

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the records at ``keys``, in order, None where there is none."""
        if not self._running:
            self._refuse()
        return self._table.multi_get(keys)

    def apply(
        self,
        keys: Sequence[bytes],
        records: Sequence[bytes],
        encoded: bytes | None = None,
        previous: Sequence[bytes | None] | None = None,
    ) -> Lsn:
        """Store ``records[i]`` at ``keys[i]`` and queue the batch for the log (see the port)."""
        if not self._running:
            self._refuse()
        if self._read_only:
            raise ReadOnly(_FULL_MESSAGE)
        self._undos.append(self._table.put(keys, records, previous))
        self._payloads.append(pack_column(keys) + pack_column(records) if encoded is None else encoded)
        self._applied = Lsn(self._applied + 1)
        return self._applied

    def commit(self) -> Lsn:
        """Write and, as the durability setting says, sync all queued batches; return the new ``durable_lsn``."""
        if not self._running:
            self._refuse()
        if self._payloads:
            self._append_queued()
        if self._log.last_lsn > self._log.synced_lsn and self._sync_is_due():
            self._sync()
        return self.durable_lsn

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield ``(key, record)`` with ``start <= key < end`` in key order, as of the call."""
        if not self._running:
            self._refuse()
        return self._table.scan(start, end)

    def roll(self) -> bool:
        """Commit, and seal the current log segment when it is old or full enough; say whether it did."""
        self.commit()
        if not self._log.is_open:
            return False
        age_s = self._clock() - self._opened_at
        if self._log.segment_bytes < self._options.segment_bytes and age_s < self._options.segment_age_s:
            return False
        self._seal()
        return True

    def stats(self) -> dict[str, int]:
        """Return gauges and counters; times in microseconds, ``read_only`` 0 or 1."""
        tail = self._log.tail
        return {
            "keys": len(self._table),
            "memtable_bytes": self._table.data_bytes,
            "log_bytes": tail.log_bytes,
            "log_segments": tail.segment_count,
            "applied_lsn": self._applied,
            "durable_lsn": self.durable_lsn,
            "synced_lsn": self._log.synced_lsn,
            "queued_batches": len(self._payloads),
            "commits": self._commits,
            "syncs": self._syncs,
            "synced_batches": self._log.synced_lsn - self._recovered,
            "last_sync_us": round(self._last_sync_s * 1e6),
            "failed_batches": self._failed_batches,
            "read_only": int(self._read_only),
        }

    def close(self) -> None:
        """Commit, seal the log, release the files and take no more calls; a second close does nothing."""
        if self._closed:
            return
        try:
            if self._running:
                self.commit()
        finally:
            try:
                if self._failure is None:
                    self._seal()
            finally:
                self._running = False
                self._closed = True
                self._log.release()

    def _append_queued(self) -> None:
        had_segment = self._log.is_open
        try:
            self._log.append(self._payloads)
        except OSError as error:
            if not is_disk_full(error):
                self._stop(error)
                raise
            self._take_back_queued(error)
            raise ReadOnly(_FULL_MESSAGE) from error
        if not had_segment:
            self._opened_at = self._clock()
        self._commits += 1
        self._payloads.clear()
        self._undos.clear()

    def _take_back_queued(self, error: OSError) -> None:
        with self._stopping_on_error():
            self._log.cut_back()
        for undo in reversed(self._undos):
            self._table.take_back(undo)
        self._failed_batches += len(self._undos)
        self._payloads.clear()
        self._undos.clear()
        self._applied = self._log.last_lsn
        self._read_only = True
        logger.error("the engine is read-only from LSN %d on: %s", self._applied, error)

    def _sync_is_due(self) -> bool:
        if self._options.sync == "interval":
            return (self._clock() - self._synced_at) * 1000 >= self._options.interval_ms
        return self._options.sync == "batch"

    def _sync(self) -> None:
        begun = self._clock()
        with self._stopping_on_error():
            self._log.sync()
        self._synced_at = self._clock()
        self._last_sync_s = self._synced_at - begun
        self._syncs += 1
        if self._on_sync is not None:
            self._on_sync(self._last_sync_s)

    def _seal(self) -> None:
        try:
            self._log.seal()
        except OSError as error:
            if not is_disk_full(error):
                self._stop(error)
                raise
            # There is no room for the mark; the next segment's header will say where this one ends.
            with self._stopping_on_error():
                self._log.cut_back()
            self._log.release()

    @contextmanager
    def _stopping_on_error(self) -> Generator[None, None, None]:
        try:
            yield
        except OSError as error:
            self._stop(error)
            raise

    def _stop(self, error: OSError) -> None:
        self._running = False
        self._failure = error
        logger.critical("the disk failed, the process must exit: %s", error)

    def _refuse(self) -> None:
        if self._failure is not None:
            message = f"the engine stopped at an earlier error ({self._failure.strerror}): restart the process"
            raise OSError(self._failure.errno, message)
        raise ShuttingDown("the engine is closed: open it again")
