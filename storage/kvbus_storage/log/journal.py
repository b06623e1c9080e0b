"""The write side that engines share: what is queued, what is in the log, what is durable, and what a full disk does.

Rules: memory never shows what the log refused (a failed append is taken back); the log holds everything up to
``applied_lsn`` once ``commit`` has returned; an error other than a full disk stops the journal for good.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

from kvbus.core.types import Lsn
from kvbus.ports.disk import BLANK_NAME, Disk
from kvbus_storage.log.commit_log import FILL_STEP_BYTES, CommitLog
from kvbus_storage.log.format import HEADER_BYTES, VOTES, Kind, segment_name
from kvbus_storage.log.recovery import LogTail
from kvbus_storage.options import EngineOptions
from kvbus_storage.room import is_lack_of_room, mend_of
from kvbus_storage.standing import Standing

logger = logging.getLogger(__name__)

_CROWDED = (
    "too much waits to be flushed: the process beside the node is held up or ends again and again, see the node's log; "
    "writes go on by themselves when it has caught up"
)
_PROBE_NAME = "space.tmp"
_PROBE_BYTES = 1 << 20
_PROBE_SECONDS = 1.0


class Journal(Standing):
    """The commit log of one engine, with a queue before it."""

    __slots__ = (
        "_carried_bytes",
        "_clock",
        "_closed",
        "_commits",
        "_disk",
        "_failed_batches",
        "_first_lsn",
        "_is_crowded",
        "_is_full",
        "_kinds",
        "_last_sync_s",
        "_log",
        "_makes_spares",
        "_on_sync",
        "_opened_at",
        "_options",
        "_payloads",
        "_probe_at",
        "_recovered",
        "_synced_at",
        "_syncs",
        "_undos",
        "applied_lsn",
    )

    def __init__(
        self,
        disk: Disk,
        options: EngineOptions,
        tail: LogTail,
        *,
        clock: Callable[[], float],
        on_sync: Callable[[float], None] | None,
    ) -> None:
        super().__init__()
        # Only a log that is synced at every commit gains from zeros ahead of its tail.
        fill_step_bytes = FILL_STEP_BYTES if options.sync == "batch" else 0
        self._makes_spares = options.sync == "batch"
        self._disk = disk
        self._options = options
        self._log = CommitLog(disk, tail, fill_step_bytes=fill_step_bytes)
        self._clock = clock
        self._on_sync = on_sync
        self._recovered = self.applied_lsn = tail.last_lsn
        # Queued for the log: _kinds[i], _payloads[i] and _undos[i] belong to LSN log.last_lsn + 1 + i.
        self._kinds: list[Kind] = []
        self._payloads: list[bytes] = []
        self._undos: list[Callable[[], None]] = []
        self._closed = False
        self._is_crowded = self._is_full = False
        self._carried_bytes = 0
        # Batches up to this one do not make the open segment full.
        self._first_lsn: int = tail.last_lsn
        self._synced_at = self._opened_at = clock()
        self._probe_at = 0.0
        self._last_sync_s = 0.0
        self._syncs = self._commits = self._failed_batches = 0

    @property
    def durable_lsn(self) -> Lsn:
        """The newest batch that survives a crash, as far as the durability setting promises."""
        return self._log.synced_lsn if self._options.sync == "batch" else self._log.last_lsn

    @property
    def synced_lsn(self) -> Lsn:
        """The newest batch that a power cut leaves, whatever the durability setting promises."""
        return self._log.synced_lsn

    @property
    def last_lsn(self) -> Lsn:
        """The newest batch in the log."""
        return self._log.last_lsn

    @property
    def segment(self) -> int:
        """The newest segment's number."""
        return self._log.segment

    @property
    def segment_bytes(self) -> int:
        """Bytes in the open segment; 0 when none is open."""
        return self._log.segment_bytes

    @property
    def has_records(self) -> bool:
        """Whether anything was written to the open segment."""
        return self._log.segment_bytes > HEADER_BYTES

    def resume(self, lsn: Lsn, size_bytes: int) -> None:
        """Count ``size_bytes`` of closed segments, with batches behind ``lsn``, as if they were in the open one."""
        self._first_lsn, self._carried_bytes = lsn, -size_bytes

    @property
    def is_ripe(self) -> bool:
        """Whether the open segment is full; what was only carried over from older ones does not count."""
        options = self._options
        return (
            self._log.segment_bytes - self._carried_bytes >= options.segment_bytes
            or self._log.last_lsn - self._first_lsn >= options.segment_batches
        )

    @property
    def wanted_spare(self) -> int | None:
        """The number of the next segment, where a blank file for it would save time, as zeros are written anyway."""
        wants = self._makes_spares and not self._log.has_spare and not self._is_full
        return self._log.segment + 1 if wants else None

    def take_spare(self, segment: int) -> None:
        """Use the blank file that is there for ``segment``, unless that has begun, in this file or in another one."""
        if self._is_full:
            self._give_up_spare()
        else:
            self._log.has_spare = segment > self._log.segment

    def want_no_spares(self) -> None:
        """Make a new file for each segment: the disk gives no blank ones."""
        self._makes_spares = False

    def is_old(self, *, has_closed: bool = False) -> bool:
        """Say whether the open segment, or closed ones that a start has found, are old enough to be flushed."""
        return (self._log.is_open or has_closed) and self._clock() - self._opened_at >= self._options.segment_age_s

    def add(self, kind: Kind, payload: bytes, undo: Callable[[], None]) -> Lsn:
        """Queue one record; the caller has called :meth:`check_writable` before it changed its memory.

        ``undo`` takes that change back, and is called if the disk has no room for the record.
        """
        self._kinds.append(kind)
        self._payloads.append(payload)
        self._undos.append(undo)
        self.applied_lsn = Lsn(self.applied_lsn + 1)
        return self.applied_lsn

    def commit(self) -> Lsn:
        """Write and, as the durability setting says, sync all that is queued; return the new ``durable_lsn``.

        What a Raft group may never forget is synced whatever the setting says.

        Raises:
            ReadOnly: the disk is full; what was queued has been taken back.
            OSError: a write or a sync failed; fatal.
        """
        if not self.running:
            self.refuse()
        votes = False
        if self._payloads:
            votes = self._options.sync != "batch" and not VOTES.isdisjoint(self._kinds)
            self._append_queued()
        elif self._is_full and self._clock() >= self._probe_at:
            self._look_for_space()
        if votes or self._options.sync_is_due(self._clock, self._synced_at):
            self.sync()
        return self.durable_lsn

    def carry(self) -> None:
        """Commit and sync what older segments hold and was queued anew; it does not make the open segment full.

        Raises:
            ReadOnly, OSError: as :meth:`commit`.
        """
        before, before_lsn = self._log.segment_bytes, self._log.last_lsn
        self.commit()
        self.sync()
        self._carried_bytes += self._log.segment_bytes - before
        self._first_lsn += self._log.last_lsn - before_lsn

    def turn(self) -> tuple[int, int]:
        """Close the open segment, open the next one, and return the closed one's number and end; nothing may be queued.

        It gets no mark: the next segment's header says where it ends, and a flush will soon remove it, with the zeros
        ahead of its tail. On a full disk the next segment waits until somebody needs it.

        Raises:
            OSError: a write or a sync failed; fatal.
        """
        with self.stopping_on_error():
            self._log.sync()
        self._log.release(keeps_fill=True)
        self._carried_bytes, self._first_lsn = 0, self._log.last_lsn
        closed = self._log.segment, self._log.tail.end
        self._open_next()
        self._opened_at = self._clock()
        return closed

    def ensure_segment(self) -> bool:
        """Open the next segment if none is open and there may be room for it; say whether one is open.

        Raises:
            OSError: a write or a sync failed; fatal.
        """
        return self._log.is_open or (not self._is_full and self._open_next())

    def _open_next(self) -> bool:
        try:
            self._log.open_next()
        except OSError as error:
            if not is_lack_of_room(error):
                self.stop(error)
                raise
            self.fill_up(error)
            return False
        return True

    def seal(self) -> None:
        """Close the open segment, synced, if there is one. Nothing may be queued.

        Raises:
            OSError: a write or a sync failed; fatal.
        """
        if not self._log.is_open:
            return
        with self.stopping_on_error():
            self._log.sync()
        try:
            self._log.mark_end()
        except OSError as error:
            if not is_lack_of_room(error):
                self.stop(error)
                raise
            # There is no room for the mark; the next segment's header will say where this one ends.
            with self.stopping_on_error():
                self._log.cut_back()
        with self.stopping_on_error():
            self._log.sync()
        self._log.release()

    def forget(self, base: int) -> None:
        """Count no more than the segments from ``base`` on."""
        self._log.forget(base)

    def sync(self) -> None:
        """Sync what is written now, whatever the durability setting says.

        Raises:
            OSError: the sync failed; fatal.
        """
        if self._log.last_lsn > self._log.synced_lsn:
            self._sync()

    def close(self) -> None:
        """Commit, seal the log, release the files and take no more calls; a second close does nothing."""
        if self._closed:
            return
        try:
            if self.running:
                self.commit()
        finally:
            try:
                if self._failure is None:
                    self.seal()
            finally:
                self.running = False
                self._closed = True
                self._log.release()
                self._give_up_spare()

    def stats(self) -> dict[str, int]:
        """Return gauges and counters; times in microseconds, ``read_only`` 0 or 1."""
        tail = self._log.tail
        return {
            "log_bytes": tail.log_bytes,
            "log_segments": tail.segment_count,
            "applied_lsn": self.applied_lsn,
            "durable_lsn": self.durable_lsn,
            "synced_lsn": self._log.synced_lsn,
            "queued_batches": len(self._payloads),
            "commits": self._commits,
            "syncs": self._syncs,
            "synced_batches": self._log.synced_lsn - self._recovered,
            "last_sync_us": round(self._last_sync_s * 1e6),
            "failed_batches": self._failed_batches,
            "read_only": int(self.read_only),
        }

    def crowd(self, is_crowded: bool) -> None:
        """Take no writes while so much waits to be flushed that memory has no room for more."""
        if is_crowded and not self._is_crowded:
            self.take_no_writes(_CROWDED)
            logger.error("the engine is read-only from LSN %d on: %s", self.applied_lsn, _CROWDED)
        self._is_crowded = is_crowded
        self.read_only = self._is_full or is_crowded

    def fill_up(self, error: OSError) -> None:
        """Take no writes until there is room again."""
        self._is_full = True
        self._give_up_spare()
        self.take_no_writes(mend_of(error))
        self._probe_at = self._clock() + _PROBE_SECONDS
        logger.error("the engine is read-only from LSN %d on: %s", self.applied_lsn, error)

    def _give_up_spare(self) -> None:
        """Remove what there may be of the next segment, which nobody uses yet, as far as that is possible."""
        self._log.has_spare = False
        for name in (segment_name(self._log.segment + 1), BLANK_NAME):
            with suppress(OSError):
                self._disk.remove(name)

    def _append_queued(self) -> None:
        had_segment = self._log.is_open
        try:
            self._log.append(self._kinds, self._payloads)
        except OSError as error:
            if not is_lack_of_room(error):
                self.stop(error)
                raise
            self._refuse_queued(error)
            raise self.refusal() from error
        if not had_segment:
            self._opened_at = self._clock()
        self._commits += 1
        self._clear_queue()

    def _refuse_queued(self, error: OSError) -> None:
        with self.stopping_on_error():
            self._log.cut_back()
        for undo in reversed(self._undos):
            undo()
        self._failed_batches += len(self._payloads)
        self._clear_queue()
        self.applied_lsn = self._log.last_lsn
        self.fill_up(error)

    def _clear_queue(self) -> None:
        self._kinds.clear()
        self._payloads.clear()
        self._undos.clear()

    def _look_for_space(self) -> None:
        """Write a little to see whether the disk has room again; what was refused stays refused."""
        self._probe_at = self._clock() + _PROBE_SECONDS
        try:
            file = self._disk.create(_PROBE_NAME)
        except FileExistsError:
            self._disk.remove(_PROBE_NAME)
            return
        except OSError as error:
            if is_lack_of_room(error):
                return
            self.stop(error)
            raise
        try:
            file.append(bytes(_PROBE_BYTES))
            self._is_full, self.read_only = False, self._is_crowded
            logger.warning("the disk has room again")
        except OSError as error:
            if not is_lack_of_room(error):
                self.stop(error)
                raise
        finally:
            file.close()
            with suppress(OSError):
                self._disk.remove(_PROBE_NAME)

    def _sync(self) -> None:
        begun = self._clock()
        with self.stopping_on_error():
            self._log.sync()
        self._synced_at = self._clock()
        self._last_sync_s = self._synced_at - begun
        self._syncs += 1
        if self._on_sync is not None:
            self._on_sync(self._last_sync_s)
