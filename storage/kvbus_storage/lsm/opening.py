"""Opening the log-structured engine: manifest, tables, log, then what an interrupted process left."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Mapping
from time import monotonic

from kvbus.core.types import Lsn
from kvbus.errors import CorruptionError
from kvbus.ports.disk import BLANK_NAME, Disk
from kvbus.ports.worker import Worker
from kvbus_storage.format_error import FormatError
from kvbus_storage.log.format import Kind, LogRecord, segment_name
from kvbus_storage.log.payload import decode_applied, decode_batch, decode_keys, decode_range
from kvbus_storage.log.recovery import read_base, recover_log
from kvbus_storage.lsm.catalog import open_catalog, remove_files
from kvbus_storage.lsm.drops import Drop, hidden_by
from kvbus_storage.lsm.engine import LsmEngine, Recovered
from kvbus_storage.lsm.generations import Generations
from kvbus_storage.memtable import Memtable
from kvbus_storage.options import EngineOptions
from kvbus_storage.raft_log import RecoveredRaft
from kvbus_storage.removed import REMOVED
from kvbus_storage.table.cache import BlockCache

logger = logging.getLogger(__name__)


def open_lsm(
    disk: Disk,
    options: EngineOptions,
    worker: Worker,
    *,
    clock: Callable[[], float] = monotonic,
    on_sync: Callable[[float], None] | None = None,
) -> LsmEngine:
    """Recover what ``disk`` holds and return an engine over it; ``worker`` does its flushes and compactions.

    ``clock`` gives monotonic seconds; ``on_sync`` is told the seconds that each sync of the log took.

    Raises:
        CorruptionError: manifest, log or a table is damaged; they stay as they are.
        ConfigError: a newer kvbus wrote one of them.
        OSError: the disk failed.
    """
    cache = BlockCache(options.tables_bytes)
    catalog = open_catalog(disk, cache, lambda: read_base(disk))
    replay = _Replay(RecoveredRaft(catalog.applied), options.memtable_bytes)
    tail = recover_log(disk, catalog.base, replay.take)
    catalog.hide(hidden_by(replay.drops, [table.meta for table in catalog.levels.tables()]))
    try:
        replay.raft.check()
    except FormatError as error:
        raise CorruptionError(str(error), segment_name(tail.segment), tail.end) from error
    remove_files(disk, [BLANK_NAME])
    catalog.begin()
    recovered = Recovered(
        tail=tail,
        segments=replay.share_out(tail.segment_sizes),
        generations=replay.generations,
        raft=replay.raft,
        drops=replay.drops,
        catalog=catalog,
        cache=cache,
    )
    engine = LsmEngine(disk, options, worker, recovered, clock=clock, on_sync=on_sync)
    logger.info(
        "recovered %d tables and LSNs %d to %d from %d bytes in %d segments",
        sum(1 for _ in catalog.levels.tables()),
        catalog.flushed_lsn + 1,
        tail.last_lsn,
        tail.log_bytes,
        tail.segment_count,
    )
    return engine


class _Replay:
    """Fills memtables from the log; a new one is begun with the segment after which one is full."""

    def __init__(self, raft: RecoveredRaft, memtable_bytes: int) -> None:
        self.generations = Generations()
        self.raft = raft
        # What the active memtable will hold: one that takes batches counts bytes and can take them back.
        self._records: dict[bytes, bytes] = {}
        self._memtable_bytes = memtable_bytes
        self._segment = 0
        self._lsn = Lsn(0)
        # The first segment of each memtable but the first.
        self._cuts: list[int] = []
        self.drops: list[Drop] = []

    def take(self, record: LogRecord, segment: int) -> None:
        """Do what a log record says.

        Raises:
            FormatError: its payload is not what its kind says.
        """
        if segment != self._segment:
            self._begin(segment)
        if record.kind == Kind.RECORD:
            self._records.update(zip(*decode_batch(record.payload), strict=True))
        elif record.kind == Kind.APPLIED:
            self._records.update(zip(*decode_applied(record.payload).batch, strict=True))
        elif record.kind == Kind.PURGE:
            self._records.update(dict.fromkeys(decode_keys(record.payload), REMOVED))
        elif record.kind == Kind.DROP_RANGE:
            self._drop(Drop(record.lsn, *decode_range(record.payload)))
        self.raft.take(record, segment)
        self._lsn = Lsn(record.lsn)

    def _begin(self, segment: int) -> None:
        self._segment = segment
        memtable = Memtable(self._records)
        if memtable.memory_bytes >= self._memtable_bytes:
            self.generations.active = memtable
            self.generations.freeze((), self._lsn, self.raft.applied())
            self._cuts.append(segment)
            self._records = {}

    def _drop(self, drop: Drop) -> None:
        self._records = {key: each for key, each in self._records.items() if not drop.start <= key < drop.end}
        self.generations.drop(drop.start, drop.end)
        self.drops.append(drop)

    def share_out(self, sizes: Mapping[int, int]) -> tuple[tuple[int, int], ...]:
        """Finish the memtables, tell each frozen one which segments are its own; return those of the active one."""
        self.generations.active = Memtable(self._records)
        shares: list[list[tuple[int, int]]] = [[] for _ in range(len(self._cuts) + 1)]
        for segment, end in sorted(sizes.items()):
            shares[bisect_right(self._cuts, segment)].append((segment, end))
        for generation, share in zip(reversed(self.generations.frozen), shares, strict=False):
            generation.segments = tuple(share)
        return tuple(shares[-1])
