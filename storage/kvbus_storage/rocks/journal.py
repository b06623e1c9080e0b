"""The write side: what is queued, what RocksDB's log has, what is durable, and what a full disk does.

Rules: what is applied waits in :attr:`RocksJournal.changes`, over the database, until a commit writes all of it in one
step together with the newest batch's number; so a commit that fails has nothing to take back there. An error other
than a full disk stops the journal for good.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from kvbus.core.types import Lsn
from kvbus.errors import CorruptionError
from kvbus_storage.format_error import FormatError
from kvbus_storage.log.format import VOTES, Kind
from kvbus_storage.options import EngineOptions
from kvbus_storage.raft_log import do_nothing
from kvbus_storage.rocks.database import Database
from kvbus_storage.rocks.raft_store import KEY_BYTES, RaftStore
from kvbus_storage.room import is_lack_of_room, mend_of
from kvbus_storage.standing import Standing

logger = logging.getLogger(__name__)

_LSN_KEY = b"lsn"
_PROBE_SECONDS = 1.0


class RocksJournal(Standing):
    """Batches on their way into a database.

    Raises:
        CorruptionError: the node's notes in the database are damaged.
    """

    segment = 0

    def __init__(
        self,
        database: Database,
        options: EngineOptions,
        *,
        clock: Callable[[], float],
        on_sync: Callable[[float], None] | None,
    ) -> None:
        super().__init__()
        self._database = database
        self._options = options
        self._clock = clock
        self._on_sync = on_sync
        try:
            self.raft = RaftStore(pair for pair in database.notes() if len(pair[0]) == KEY_BYTES)
        except FormatError as error:
            raise CorruptionError(str(error), database.folder, 0) from error
        last = Lsn(int.from_bytes(database.note(_LSN_KEY) or b"", "little"))
        self.applied_lsn = self._written = self._synced = self._recovered = last
        # What reads see above the database: records, None where there is none.
        self.changes: dict[bytes, bytes | None] = {}
        self._undos: list[Callable[[], None]] = []
        # Whether anything is not synced that is to be, whatever the durability setting.
        self._votes = False
        self._synced_at = clock()
        self._unflushed_since: float | None = None
        self._probe_at = 0.0
        self._last_sync_s = 0.0
        self._syncs = self._commits = self._failed_batches = 0

    @property
    def durable_lsn(self) -> Lsn:
        """The newest batch that survives a crash, as far as the durability setting promises."""
        return self._synced if self._options.sync == "batch" else self._written

    def is_old(self) -> bool:
        """Say whether something was written so long ago that it is to be flushed."""
        since = self._unflushed_since
        return since is not None and self._clock() - since >= self._options.segment_age_s

    def store(self, keys: Sequence[bytes], records: Iterable[bytes | None]) -> Callable[[], None]:
        """Let ``records[i]`` stand at ``keys[i]``; :meth:`count` or :meth:`add` makes a batch of it.

        A commit that fails drops all changes, so what is returned does nothing.
        """
        self.changes.update(zip(keys, records, strict=True))
        return do_nothing

    def count(self) -> Lsn:
        """Number the batch that was stored."""
        self.applied_lsn = Lsn(self.applied_lsn + 1)
        return self.applied_lsn

    def add(self, kind: Kind, payload: bytes, undo: Callable[[], None]) -> Lsn:
        """Queue what a log record says of a Raft group; ``undo`` takes it back in memory."""
        self.raft.touch(kind, payload)
        self._undos.append(undo)
        self._votes |= kind in VOTES
        return self.count()

    def commit(self) -> Lsn:
        """Write and, as the durability setting says, sync all that is queued; return the new ``durable_lsn``.

        Raises:
            ReadOnly: the disk is full; what was queued has been taken back.
            OSError: a write or a sync failed; fatal.
        """
        if not self.running:
            self.refuse()
        if self.applied_lsn > self._written:
            self._write(None)
        elif self.read_only and self._clock() >= self._probe_at:
            self._look_for_space()
        if self._written > self._synced and (self._votes or self._options.sync_is_due(self._clock, self._synced_at)):
            self._sync()
        return self.durable_lsn

    def drop(self, start: bytes, end: bytes) -> Lsn:
        """Commit, then remove all keys from ``start`` up to ``end`` and commit that.

        Raises:
            ReadOnly, OSError: as :meth:`commit`; nothing was removed.
        """
        self.check_writable()
        self.commit()
        lsn = self.count()
        self._write((start, end))
        self.commit()
        return lsn

    def flush(self) -> bool:
        """Let RocksDB flush what is in its memory; say whether it does."""
        try:
            self._database.flush()
        except OSError as error:
            self.survive(error)
            return False
        self._unflushed_since = None
        return True

    def survive(self, error: OSError) -> None:
        """Go on, read-only, after a full disk.

        Raises:
            OSError: it is something else; the journal has stopped.
        """
        if not is_lack_of_room(error):
            self.stop(error)
            raise error
        if not self.read_only:
            logger.error("the engine is read-only from LSN %d on: %s", self._written, error)
        self.take_no_writes(mend_of(error))
        self._probe_at = self._clock() + _PROBE_SECONDS

    def close(self) -> None:
        """Commit, sync, close the database and take no more calls."""
        try:
            if self.running:
                self.commit()
                self._sync()
        finally:
            self.running = False
            self._database.close()

    def stats(self) -> dict[str, int]:
        """Return gauges and counters; times in microseconds, ``read_only`` 0 or 1."""
        return {
            "applied_lsn": self.applied_lsn,
            "durable_lsn": self.durable_lsn,
            "synced_lsn": self._synced,
            "queued_batches": self.applied_lsn - self._written,
            "commits": self._commits,
            "syncs": self._syncs,
            "synced_batches": self._synced - self._recovered,
            "last_sync_us": round(self._last_sync_s * 1e6),
            "failed_batches": self._failed_batches,
            "read_only": int(self.read_only),
        }

    def _write(self, dropped: tuple[bytes, bytes] | None) -> None:
        notes = self.raft.changes()
        notes[_LSN_KEY] = self.applied_lsn.to_bytes(8, "little")
        try:
            self._database.write(self.changes, notes, dropped)
        except OSError as error:
            self.survive(error)
            self._take_back()
            raise self.refusal() from error
        self.raft.written()
        self.changes.clear()
        self._undos.clear()
        self._written = self.applied_lsn
        self._commits += 1
        if self._unflushed_since is None:
            self._unflushed_since = self._clock()

    def _take_back(self) -> None:
        for undo in reversed(self._undos):
            undo()
        self._undos.clear()
        self.raft.taken_back()
        self.changes.clear()
        self._failed_batches += self.applied_lsn - self._written
        self.applied_lsn = self._written

    def _look_for_space(self) -> None:
        """Write what is there already to see whether the disk has room again; what was refused stays refused."""
        try:
            self._database.write({}, {_LSN_KEY: self._written.to_bytes(8, "little")})
        except OSError as error:
            self.survive(error)
            return
        self.read_only = False
        logger.warning("the disk has space again: writes go on")

    def _sync(self) -> None:
        begun = self._clock()
        # Where a sync fails, nobody knows what of the log is durable; a full disk is no better then.
        with self.stopping_on_error():
            self._database.sync()
        self._synced = self._written
        self._votes = False
        self._synced_at = self._clock()
        self._last_sync_s = self._synced_at - begun
        self._syncs += 1
        if self._on_sync is not None:
            self._on_sync(self._last_sync_s)
