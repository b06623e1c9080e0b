"""The engine suite over every engine and disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvbus.ports.engine import Engine
from kvbus.runtime.os_disk import OsDisk
from kvbus.sim.disk import MemoryDisk
from kvbus_storage import open_engine
from kvbus_storage.options import EngineOptions
from tests.conformance.engine_suite import EngineSuite


class TestMemoryEngineOnMemoryDisk(EngineSuite):
    @pytest.fixture(autouse=True)
    def disk(self) -> None:
        self._disk = MemoryDisk()

    def open(self) -> Engine:
        return open_engine(self._disk, EngineOptions())

    def abandon(self, engine: Engine) -> None:
        self._disk = self._disk.kill()


class TestMemoryEngineOnOsDisk(EngineSuite):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self._disk = OsDisk(tmp_path / "data")

    def open(self) -> Engine:
        return open_engine(self._disk, EngineOptions())

    def abandon(self, engine: Engine) -> None:
        """Leave the files as they are, the zeros ahead of the tail included."""
