"""Our engine, driven as a node drives it: results between commits, flushes and compactions looked for once a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep

from benchmarks.storage.store import wait_until_quiet
from benchmarks.storage.worker import PolledWorker
from benchmarks.storage.workload import MEMORY_BYTES, Workload
from kvbus.ports.engine import EngineSettings
from kvbus.runtime.os_disk import OsDisk
from kvbus_storage import LSM
from kvbus_storage.log.format import RECORD_HEAD_BYTES

_LOOK_SECONDS = 1.0
_LAST_KEY = b"\xff" * 32
_COLUMN_BYTES = 4
_ITEM_BYTES = 4


class EngineStore:
    """A :class:`~benchmarks.storage.store.Store` over the log-structured engine and a worker process."""

    def __init__(self, folder: Path, workload: Workload, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self._quiet_seconds = workload.quiet_seconds
        self.worker = PolledWorker()
        self._disk = OsDisk(folder)
        settings = EngineSettings(sync="batch" if workload.synced else "none", memory_bytes=memory_bytes)
        self.engine = LSM(self._disk, settings, worker=self.worker, clock=monotonic)
        self.get = self.engine.get
        self.multi_get = self.engine.multi_get
        self._log_bytes = 0
        self._look_at = monotonic() + _LOOK_SECONDS

    def put(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Write one batch, and do what a node does between two commits."""
        self.write(keys, values)
        self.tend()

    def write(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Write one batch, after a rest where the engine asks its writers for one."""
        engine = self.engine
        if engine.rest_seconds:
            sleep(engine.rest_seconds)
            self.worker.poll()
        engine.apply(keys, values)
        engine.commit()
        self._log_bytes += (
            RECORD_HEAD_BYTES
            + 2 * (_COLUMN_BYTES + _ITEM_BYTES * len(keys))
            + len(keys) * (len(keys[0]) + len(values[0]))
        )

    def tend(self) -> None:
        """Do what a node does between two commits."""
        self.worker.poll()
        if monotonic() >= self._look_at:
            self._look()

    def scan(self) -> int:
        """Go through everything in order."""
        return sum(1 for _ in self.engine.scan(b"", _LAST_KEY))

    def settle(self) -> None:
        """Flush, and wait until no compaction is due."""
        self.engine.flush()
        wait_until_quiet(self._works, self._quiet_seconds)

    def compact(self) -> None:
        """Compact everything into one level."""
        self.engine.flush()
        self.engine.compact()
        wait_until_quiet(self._works, self._quiet_seconds)

    def other_processes(self) -> list[int]:
        """Return the worker's process id."""
        return self.worker.process_ids()

    def own_written_bytes(self) -> int | None:
        """Return log records without the log's fill, flushed and compacted tables."""
        stats = self.engine.stats()
        return self._log_bytes + stats["flushed_bytes"] + stats["compacted_bytes"]

    def close(self) -> None:
        """Close the engine, then its worker."""
        self.engine.close()
        self.worker.close()
        self._disk.close()

    def _look(self) -> None:
        self._look_at = monotonic() + _LOOK_SECONDS
        self.engine.flush_due()
        self.engine.compact_due()

    def _works(self) -> bool:
        self.worker.poll()
        return self.worker.is_busy or self.engine.flush_due() or self.engine.compact_due()
