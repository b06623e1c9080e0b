"""The log-structured engine: a commit log and memtables in front of levels of tables.

Reads look for a key in the active memtable, the frozen ones, among the records that stay at hand, and in the tables. A
memtable that is full is frozen together with its log segment, and a worker writes the table out of the segment; then
its records go over to those at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic

from kvbus.core.types import Lsn
from kvbus.ports.disk import Disk
from kvbus.ports.engine import ReadPath
from kvbus.ports.worker import Worker
from kvbus_storage.log.format import Kind
from kvbus_storage.log.journal import Journal
from kvbus_storage.log.payload import encode_batch, encode_keys
from kvbus_storage.log.recovery import LogTail
from kvbus_storage.lsm.catalog import Catalog
from kvbus_storage.lsm.drops import Drop
from kvbus_storage.lsm.generations import Generations
from kvbus_storage.lsm.ingestion import Ingestion, key_range
from kvbus_storage.lsm.levels import Probes
from kvbus_storage.lsm.maintenance import Maintenance
from kvbus_storage.lsm.recent import RecentRecords
from kvbus_storage.lsm.view import View, scan_all
from kvbus_storage.memtable import Undo
from kvbus_storage.options import EngineOptions
from kvbus_storage.raft_log import RecoveredRaft, SegmentRaftLog, do_nothing
from kvbus_storage.removed import REMOVED
from kvbus_storage.table.cache import BlockCache

_LEAST_CACHE_BYTES = 1 << 20
_HANDED_ON_AT_LEAST, _HANDED_ON_BYTES, _HANDED_ON_AT_MOST, _HANDED_ON_IDLY = 16, 128, 1024, 512
_MAKES_UP_FOR = 4
"""A small record takes several times the bytes in memory that it takes in the log: Python's heads around it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What a recovery found. ``segments`` hold what is in the active memtable; no flush covers ``drops``."""

    tail: LogTail
    segments: tuple[tuple[int, int], ...]
    generations: Generations
    raft: RecoveredRaft
    drops: list[Drop]
    catalog: Catalog
    cache: BlockCache


class LsmEngine:
    """An :class:`~kvbus.ports.engine.Engine` over memtables, a commit log and tables; made by :func:`open_lsm`."""

    __slots__ = (
        "_cache",
        "_catalog",
        "_disk",
        "_generations",
        "_journal",
        "_maintenance",
        "_on_full",
        "_options",
        "_probes",
        "_raft",
        "_recent",
        "_segments",
    )

    def __init__(
        self,
        disk: Disk,
        options: EngineOptions,
        worker: Worker,
        recovered: Recovered,
        *,
        clock: Callable[[], float] = monotonic,
        on_sync: Callable[[float], None] | None = None,
    ) -> None:
        self._disk = disk
        self._options = options
        self._generations = recovered.generations
        self._catalog = recovered.catalog
        self._cache = recovered.cache
        self._probes = Probes()
        self._recent = RecentRecords(self._generations.leaving, options.recent_bytes * 5 // 4)
        self._journal = Journal(disk, options, recovered.tail, clock=clock, on_sync=on_sync)
        self._raft = SegmentRaftLog(self._journal, recovered.raft, store=self._store)
        self._maintenance = Maintenance(
            disk, options, worker, self._journal, self._generations, self._catalog, self._raft, clock=clock
        )
        self._maintenance.drops += recovered.drops
        # Segments that hold what is in the active memtable, but for the open one.
        self._segments = recovered.segments
        frozen = self._generations.frozen
        flushed_lsn = frozen[0].lsn if frozen else self._catalog.flushed_lsn
        self._journal.resume(Lsn(flushed_lsn), sum(end for _, end in self._segments))
        self._on_full: Callable[[], object] = self._maintenance.flush_next
        self._maintenance.catch_up()
        self._share_memory()

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
        record = self._generations.get(key)
        if record is None:
            record = self._recent.get(key)
            if record is None:
                record = self._catalog.levels.find(key, self._probes)
                if record is not None and record is not REMOVED:
                    self._make_up_for(self._recent.keep_one(key, record))
        return None if record is REMOVED else record

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the records at ``keys``, in order, None where there is none."""
        if not self._journal.running:
            self._journal.refuse()
        generations = self._generations
        found = generations.find(keys)
        if None in found:
            gaps = [index for index, record in enumerate(found) if record is None]
            if len(gaps) == len(keys):
                return self._find_below(keys)
            below = self._find_below([keys[index] for index in gaps])
            for index, record in zip(gaps, below, strict=True):
                found[index] = record
        return [None if record is REMOVED else record for record in found] if generations.has_removals else found

    def explain(self, key: bytes) -> ReadPath:
        """Return the way of a read of ``key``, as it would be now (see the port)."""
        if self._generations.get(key) is not None:
            return ReadPath(memtable="hit", blooms=[], sstables=[])
        return self._catalog.levels.explain(key)

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
        undo = self._store(keys, records)
        return journal.add(Kind.RECORD, encode_batch(keys, records) if encoded is None else encoded, undo)

    def purge(self, keys: Sequence[bytes]) -> Lsn:
        """Remove ``keys`` and queue that for the log (see the port)."""
        self._journal.check_writable()
        undo = self._generations.active.remove(keys)
        self._recent.forget(keys)
        return self._journal.add(Kind.PURGE, encode_keys(keys), undo)

    def commit(self) -> Lsn:
        """Write and, as the durability setting says, sync all queued batches; return the new ``durable_lsn``."""
        before = self._journal.segment_bytes
        durable = self._journal.commit()
        self._tidy_memory(max(self._journal.segment_bytes - before, 0))
        if self._journal.is_ripe or self._generations.active.memory_bytes >= self._options.memtable_bytes:
            self._freeze()
            self._on_full()
        return durable

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield ``(key, record)`` with ``start <= key < end`` in key order, as of the call."""
        if not self._journal.running:
            self._journal.refuse()
        generations = self._generations
        if not generations.frozen and not self._catalog.levels.runs:
            return generations.active.scan(start, end)
        return scan_all(generations.memtables(), self._catalog.levels, start, end)

    def snapshot(self) -> View:
        """Return what there is now, to be read later; what is in memory is copied."""
        if not self._journal.running:
            self._journal.refuse()
        return View(self._journal.applied_lsn, self._generations.lend(), self._catalog.levels, self._probes)

    def drop_range(self, start: bytes, end: bytes) -> Lsn:
        """Remove all keys from ``start`` up to ``end``, at once and durably (see the port)."""
        self._journal.check_writable()
        self.commit()
        lsn = self._journal.add(Kind.DROP_RANGE, encode_keys((start, end)), do_nothing)
        self.commit()
        # The manifest will say it, too, and must not know more than the log.
        self._journal.sync()
        self._maintenance.drop(Drop(lsn, start, end))
        self._recent.clear()
        return lsn

    def ingest(self, files: Sequence[str], done: Callable[[Exception | None], object]) -> None:
        """Take finished tables into ranges of keys that are empty (see the port)."""
        self._journal.check_writable()
        ranges = sorted(key_range(self._disk, name) for name in files)

        def is_free() -> bool:
            return not any(next(self.scan(first, last + b"\0"), None) for first, last in ranges)

        in_order = sorted(files, key=lambda name: key_range(self._disk, name))
        self._maintenance.ingest(Ingestion(files=in_order, is_free=is_free, done=done))
        if self._maintenance.must_flush_first:
            self.flush()

    def when_full(self, act: Callable[[], object]) -> None:
        """Have ``act`` called when a memtable or its segment is full: it is to call :meth:`flush_due` soon."""
        self._on_full = act

    @property
    def rest_seconds(self) -> float:
        """How long to wait with further writes after a commit: 0 unless the worker has fallen behind."""
        return self._maintenance.pace.rest_seconds

    def flush_due(self) -> bool:
        """Commit, freeze the memtable when its segment is old, and let the worker flush what waits."""
        self.commit()
        if self._journal.is_old(has_closed=bool(self._segments)):
            self._freeze()
        return self._maintenance.flush_next()

    def flush(self) -> None:
        """Commit, and let all that is in memory be flushed as soon as the worker can."""
        self.commit()
        self._freeze()
        self._maintenance.flush_next()

    def compact_due(self) -> bool:
        """Let the worker do the most urgent compaction, if one is due and it is idle; say whether there is one."""
        if not self._journal.running:
            self._journal.refuse()
        if self._maintenance.must_flush_first and self._journal.applied_lsn == self._journal.last_lsn:
            self.flush()
        self._share_memory()
        return self._maintenance.tidy_next()

    def compact(self) -> None:
        """Have everything compacted into one level, a bounded part at a time."""
        self._maintenance.wants_all = True
        self.compact_due()

    def stats(self) -> dict[str, int]:
        """Return gauges and counters; times in microseconds, ``read_only`` 0 or 1, ``keys`` an upper bound."""
        generations, levels, maintenance = self._generations, self._catalog.levels, self._maintenance
        in_tables = sum(table.meta.entries for table in levels.tables())
        waiting = generations.frozen
        found = {
            "keys": len(generations.active) + sum(len(each.memtable) for each in waiting) + in_tables,
            "memtable_bytes": generations.data_bytes,
            "memory_bytes": generations.memory_bytes
            + self._recent.memory_bytes
            + self._cache.used_bytes
            + self._tables_memory(),
            "frozen_memtables": len(waiting),
            "tables": sum(len(run.tables) for run in levels.runs),
            "table_bytes": sum(run.size_bytes for run in levels.runs),
            "level0_depth": maintenance.depth,
            **{f"level{level}_bytes": size for level, size in levels.sizes().items()},
            "flushes": maintenance.flushes,
            "flushed_bytes": maintenance.flushed_bytes,
            "compactions": maintenance.compactions,
            "compacted_bytes": maintenance.compacted_bytes,
            "flush_us": round(maintenance.flush_seconds * 1e6),
            "compaction_us": round(maintenance.compaction_seconds * 1e6),
            "compacting_all": int(maintenance.wants_all),
            "maintenance_failures": maintenance.failures,
            "damaged_tables": maintenance.damaged,
            "cache_bytes": self._cache.used_bytes,
            "cache_hits": self._probes.maybes - self._cache.misses,
            "cache_misses": self._cache.misses,
            "bloom_probes": self._probes.filters,
            "bloom_maybes": self._probes.maybes,
            "bloom_false_positives": self._probes.false_positives,
        }
        return found | self._journal.stats()

    def close(self) -> None:
        """Commit, seal the log, release the files and take no more calls; a second close does nothing."""
        try:
            self._journal.close()
        finally:
            self._catalog.close()

    def _freeze(self) -> None:
        """Seal the log's segment and give the writes a new memtable; nothing may be queued."""
        if self._journal.has_records:
            self._segments = (*self._segments, self._journal.turn())
        elif self._segments and not self._journal.segment_bytes:
            # The segments that a start found are closed; one must follow them before they may go.
            self._journal.turn()
        if self._segments:
            self._generations.freeze(self._segments, self._journal.last_lsn, self._raft.applied())
            self._segments = ()
            self._maintenance.weigh()
            self._share_memory()

    def _store(self, keys: Sequence[bytes], records: Sequence[bytes]) -> Undo:
        active = self._generations.active
        known = len(active)
        # What the caller knows may lie below the active memtable, which must know what it held itself.
        undo = active.put(keys, records)
        if len(active) > known:
            self._recent.forget(keys)
        return undo

    def _tidy_memory(self, added_bytes: int) -> None:
        """Let records go over from the memtable that was flushed to those at hand, and free what counts no more.

        A commit of ``added_bytes`` does a share of it that is little beside its own work.
        """
        generations = self._generations
        if generations.flushed is not None:
            share = _HANDED_ON_AT_LEAST + added_bytes // _HANDED_ON_BYTES
            self._recent.keep(generations.hand_on(min(share, _HANDED_ON_AT_MOST) if added_bytes else _HANDED_ON_IDLY))
        else:
            self._recent.make_room()
        if generations.leaving:
            generations.let_go()
            generations.make_up_for(_MAKES_UP_FOR * added_bytes)

    def _find_below(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the records at ``keys``, of which no memtable knows, in order, and have them at hand from now on."""
        at_hand = list(map(self._recent.get, keys))
        levels, probes = self._catalog.levels, self._probes
        if None not in at_hand or not levels.runs:
            return at_hand
        found = dict[bytes, bytes]()
        for index, key in enumerate(keys):
            if at_hand[index] is None:
                record = levels.find(key, probes)
                if record is not None and record is not REMOVED:
                    at_hand[index] = found[key] = record
        if found:
            self._make_up_for(self._recent.keep(found))
        return at_hand

    def _make_up_for(self, kept_bytes: int) -> None:
        if self._generations.leaving:
            self._generations.make_up_for(2 * kept_bytes)

    def _share_memory(self) -> None:
        """Share the memory out, by what filters, indexes and memtables that wait leave of it."""
        options = self._options
        left = options.tables_bytes - self._tables_memory()
        self._cache.resize(max(left, _LEAST_CACHE_BYTES))
        waiting = self._generations.waiting_bytes
        room_bytes = options.recent_bytes + min(left, 0) + min(options.memtable_bytes - waiting, 0)
        self._recent.room_bytes = max(room_bytes, 0)

    def _tables_memory(self) -> int:
        return sum(table.memory_bytes for table in self._catalog.levels.tables())
