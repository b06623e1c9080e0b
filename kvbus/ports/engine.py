"""The storage engine as a node sees it: synchronous, and only the group commit waits for the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypedDict

from kvbus.core.types import Lsn
from kvbus.ports.disk import Disk
from kvbus.ports.raft_log import RaftLog
from kvbus.ports.worker import Worker


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSettings:
    """What a node's configuration says of its engine; an engine ignores what it has no use for.

    ``sync`` and ``interval_ms`` are ``[durability]``'s. ``memory_bytes`` bounds the data in memory, ``compression`` is
    that of tables, ``flush_age_s`` the age in seconds at which data in memory go to tables, ``compaction_bytes_s`` what
    compactions may read a second.
    """

    sync: Literal["batch", "interval", "none"] = "batch"
    interval_ms: int = 1000
    memory_bytes: int = 256 << 20
    compression: Literal["lz4", "zstd", "none"] = "lz4"
    flush_age_s: float = 3600.0
    compaction_bytes_s: int = 64 << 20


class ReadPath(TypedDict):
    """What a read of one key looks into. ``memtable`` is ``hit`` or ``miss``.

    ``blooms`` has the tables whose range of keys reaches over the key, with their filters' answers ``no`` or ``maybe``,
    ``sstables`` those of them that are read, in this order: level, data block, whether it is in the block cache, and
    whether the key was found there.
    """

    memtable: str
    blooms: list[tuple[str, str]]
    sstables: list[ReadTable]


class ReadTable(TypedDict):
    """One table on the way of a read."""

    table: str
    level: int
    block: int
    cached: bool
    found: bool


class Snapshot(Protocol):
    """What an engine held when it was asked for it; writes, drops and compactions change nothing of it."""

    @property
    def lsn(self) -> Lsn:
        """The newest batch in it."""
        ...

    def get(self, key: bytes) -> bytes | None:
        """Return the record at ``key``, or None."""
        ...

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield ``(key, record)`` with ``start <= key < end`` in key order."""
        ...

    def close(self) -> None:
        """Let go of the files; no more reads."""
        ...


class Engine(Protocol):
    """An ordered map from engine keys to records, with a log.

    Engine keys are ``space u32 | partition u16 | key`` (big-endian, so that a partition's data sorts together);
    records are opaque bytes, final when they arrive: replay is last-entry-wins and the engine knows no merge.
    Reads see every applied batch at once; a batch survives a crash once ``durable_lsn`` has reached its number. Which
    crash the durability setting says: with ``batch`` a power cut too, with ``interval`` and ``none`` the process's own.
    A number that was not durable may be given again after a crash.

    **Failures.** A full disk makes the engine read-only (:class:`~kvbus.errors.ReadOnly`); reads go on. Any other
    ``OSError`` that leaves an engine is fatal: each further call raises again, and the process must exit at once.
    """

    @property
    def raft_log(self) -> RaftLog:
        """The logs of Raft groups, which share the engine's log and its numbers."""
        ...

    @property
    def read_only(self) -> bool:
        """Whether the disk was full at the last look; writes are refused until it has room again."""
        ...

    @property
    def applied_lsn(self) -> Lsn:
        """The number of the newest batch that reads can see; a failed commit sets it back to what is logged."""
        ...

    @property
    def durable_lsn(self) -> Lsn:
        """The number of the newest batch that survives a crash, as far as the durability setting promises."""
        ...

    def get(self, key: bytes) -> bytes | None:
        """Return the record at ``key``, or None."""
        ...

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the records at ``keys``, in order, None where there is none."""
        ...

    def explain(self, key: bytes) -> ReadPath:
        """Return the way of a read of ``key`` through memtables and tables as it would be now; caches stay the same.

        A read of a record that was read or written of late may not go that way at all.

        Raises:
            CorruptionError: it meets damage.
        """
        ...

    def apply(
        self,
        keys: Sequence[bytes],
        records: Sequence[bytes],
        encoded: bytes | None = None,
        previous: Sequence[bytes | None] | None = None,
    ) -> Lsn:
        """Store ``records[i]`` at ``keys[i]`` and queue the batch for the log.

        What the caller has already saves work: ``encoded`` is ``pack_column(keys) + pack_column(records)``,
        ``previous`` what ``multi_get(keys)`` gives now. A key may come twice; its last record wins.

        Raises:
            ReadOnly: the disk is full; nothing was stored.
            ValueError: there are more keys than records or the other way round; nothing was stored.
        """
        ...

    def commit(self) -> Lsn:
        """Write and, as the durability setting says, sync all queued batches; return the new ``durable_lsn``.

        Without queued batches it only does a sync that has become due, so call it when idle, too.

        Raises:
            ReadOnly: the disk is full. Every batch above ``applied_lsn`` failed: memory and log are as if none of them
                had been applied, and nothing of them comes back after a restart.
            OSError: a write or a sync failed; fatal, and the fate of the queued batches is unknown.
        """
        ...

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield ``(key, record)`` with ``start <= key < end`` in key order, as of the call.

        The call itself takes time and memory in proportion to the range (two pointers an entry): ask for a partition.
        """
        ...

    def snapshot(self) -> Snapshot:
        """Return what reads see now, to be read later; what is in memory is copied, files stay until its close.

        It keeps reading whatever becomes of the engine, short of its close.
        """
        ...

    def purge(self, keys: Sequence[bytes]) -> Lsn:
        """Remove ``keys`` as if they had never been, and queue that for the log; no record marks their places.

        Raises:
            ReadOnly: the disk is full; nothing was removed.
        """
        ...

    def drop_range(self, start: bytes, end: bytes) -> Lsn:
        """Remove all keys with ``start <= key < end``, and commit. It takes time in proportion to what is in memory.

        Raises:
            ReadOnly, OSError: as :meth:`commit`; nothing was removed.
        """
        ...

    def ingest(self, files: Sequence[str], done: Callable[[Exception | None], object]) -> None:
        """Take what table files hold into the data, if nothing stands in their ranges of keys.

        ``files`` lie in the data directory, under names that are none of the engine's, and do not overlap. The worker
        checks every block and writes the tables anew. Afterwards the files are removed and ``done`` is given None; or
        it is given what was in the way, and they stay: ConfigError where there are keys in a range.

        Raises:
            CorruptionError: a file's index is damaged.
            FileNotFoundError: there is no such file.
            ReadOnly: the disk is full.
        """
        ...

    def when_full(self, act: Callable[[], object]) -> None:
        """Have ``act`` called, in the middle of a commit, when so much is in memory that :meth:`flush_due` must
        come."""
        ...

    @property
    def rest_seconds(self) -> float:
        """How long to wait with further writes after a commit: 0 unless the worker has fallen behind."""
        ...

    def flush_due(self) -> bool:
        """Commit, and begin to move data from memory to the disk where there is much or it is old; say whether it did.

        The work is done by the worker, beside the node.

        Raises:
            ReadOnly, OSError: as :meth:`commit`.
        """
        ...

    def flush(self) -> None:
        """Commit, and begin to move all data from memory to the disk.

        Raises:
            ReadOnly, OSError: as :meth:`commit`.
        """
        ...

    def compact_due(self) -> bool:
        """Begin the most urgent bounded piece of compaction, if one is due; say whether it did."""
        ...

    def compact(self) -> None:
        """Begin to compact everything, a bounded piece at a time; :meth:`compact_due` goes on with it."""
        ...

    def stats(self) -> dict[str, int]:
        """Return gauges and counters: keys, memtable_bytes, log_bytes, log_segments, commits, synced_batches …

        An engine that keeps more than memory holds counts as ``keys`` what is stored, a key once for each of its
        states.
        """
        ...

    def close(self) -> None:
        """Commit, seal the log, release the files and take no more calls; a second close does nothing."""
        ...


class OpenEngine(Protocol):
    """What an engine's package exports under the name ``ENGINE``: recover what the disk holds and open for use."""

    def __call__(
        self,
        disk: Disk,
        settings: EngineSettings,
        *,
        worker: Worker,
        clock: Callable[[], float],
        on_sync: Callable[[float], None] | None = None,
    ) -> Engine:
        """Open the engine.

        ``worker`` does what would hold up the caller; ``clock`` gives monotonic seconds; ``on_sync`` is told how long
        each sync of the log took.

        Raises:
            CorruptionError: stored data are damaged; nothing was changed.
            ConfigError: a setting is wrong, or a newer version wrote the data.
        """
        ...
