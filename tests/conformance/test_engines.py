"""The engine suite over every engine and disk."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import cast

import pytest

from kvbus.errors import ShuttingDown
from kvbus.ports.disk import Disk
from kvbus.ports.engine import Engine
from kvbus.runtime.os_disk import OsDisk, OsFolder
from kvbus.sim.disk import MemoryDisk
from kvbus_storage import open_engine, open_lsm
from kvbus_storage.options import EngineOptions
from kvbus_storage.rocks.opening import open_rocks
from tests.conformance.engine_bench import OLD_S
from tests.conformance.engine_suite import EngineSuite
from tests.rocks_images import copy_at_rest
from tests.workers import HandWorker

SMALL = EngineOptions(
    memory_bytes=1 << 20,
    segment_age_s=OLD_S,
    block_bytes=64,
    table_bytes=2048,
    level0_runs=2,
    level1_bytes=4096,
    level_ratio=2,
    guard_bytes=1024,
    compaction_bytes_s=1 << 40,
)
PATIENCE_S = 30.0


class ExactStats(EngineSuite):
    """For engines that keep count of each byte in memory."""

    def test_stats_count_keys_and_bytes(self) -> None:
        engine = self.open()
        engine.apply([b"aa", b"b"], [b"123", b"4"])
        engine.apply([b"aa", b"aa", b"c"], [b"1", b"12", b""])
        engine.commit()
        stats = engine.stats()
        assert (stats["keys"], stats["memtable_bytes"]) == (3, len(b"aa12b4c"))
        engine.close()


class TestMemoryEngineOnMemoryDisk(ExactStats):
    @pytest.fixture(autouse=True)
    def disk(self) -> None:
        self._disk = MemoryDisk()

    def open(self) -> Engine:
        return open_engine(self._disk, SMALL, clock=self.clock)

    def abandon(self, engine: Engine) -> None:
        self._disk = self._disk.kill()


class TestMemoryEngineOnOsDisk(ExactStats):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self._disk = OsDisk(tmp_path / "data")

    def open(self) -> Engine:
        return open_engine(self._disk, SMALL, clock=self.clock)

    def abandon(self, engine: Engine) -> None:
        """Leave the files as they are, the zeros ahead of the tail included."""


class LsmSuite(ExactStats):
    """The log-structured engine; its worker does its jobs when a test lets them settle."""

    tells_when_full = True
    _disk: Disk

    @pytest.fixture(autouse=True)
    def worker(self) -> None:
        self._worker = HandWorker()

    def open(self) -> Engine:
        return open_lsm(self._disk, SMALL, self._worker, clock=self.clock)

    def abandon(self, engine: Engine) -> None:
        # The worker ends with its node; what it had to do is done anew.
        self._worker = HandWorker()

    def settle(self, engine: Engine) -> None:
        while self._worker.work() or engine.compact_due():
            pass


class TestLsmEngineOnMemoryDisk(LsmSuite):
    @pytest.fixture(autouse=True)
    def disk(self) -> None:
        self._disk: MemoryDisk = MemoryDisk()

    def abandon(self, engine: Engine) -> None:
        super().abandon(engine)
        self._disk = self._disk.kill()


class TestLsmEngineOnOsDisk(LsmSuite):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self._disk = OsDisk(tmp_path / "data")


class TestLsmEngineThatIsNeverAtRest(TestLsmEngineOnMemoryDisk):
    """Before each call everything is flushed and compacted, unless something is queued."""

    tells_when_full = False

    def open(self) -> Engine:
        return cast("Engine", NeverAtRest(super().open(), self))


class NeverAtRest:
    """An engine that has moved all to tables whenever it is asked for its data."""

    def __init__(self, engine: Engine, suite: EngineSuite) -> None:
        self._engine = engine
        self._suite = suite

    def __getattr__(self, name: str) -> object:
        engine = self._engine
        if name in ("get", "multi_get", "scan", "snapshot", "apply", "purge", "drop_range"):
            with suppress(ShuttingDown):
                if engine.applied_lsn == engine.durable_lsn:
                    self._suite.move_to_disk(engine)
        return getattr(engine, name)


class TestRocksEngine(EngineSuite):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self._place = tmp_path / "data"
        self._place.mkdir()

    def open(self) -> Engine:
        return open_rocks(OsFolder(self._place), SMALL, clock=self.clock)

    def abandon(self, engine: Engine) -> None:
        """Go on with a copy of the files: RocksDB would not give them away before its own end."""
        image = self._place.with_name(f"{self._place.name}+")
        self.settle(engine)
        copy_at_rest(self._place, image)
        self._place = image

    def settle(self, engine: Engine) -> None:
        give_up = monotonic() + PATIENCE_S
        while any(count for name, count in engine.stats().items() if name.startswith("running_")):
            assert monotonic() < give_up
            sleep(0.001)
