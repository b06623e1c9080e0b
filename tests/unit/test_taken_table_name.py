"""A table's name that is taken, by a worker that outlived its process, costs a try and not the node."""

from __future__ import annotations

from pathlib import Path

from kvbus.runtime.os_disk import OsDisk
from kvbus_storage import EngineOptions, open_lsm
from tests.workers import HandWorker


def test_a_flush_that_finds_its_tables_name_taken_is_tried_again(tmp_path: Path) -> None:
    worker = HandWorker()
    disk = OsDisk(tmp_path)
    engine = open_lsm(disk, EngineOptions(), worker)
    engine.apply([b"k"], [b"v"])
    engine.flush()
    # What an earlier process's worker writes after this one has removed all leftovers.
    (tmp_path / "table-00000001").write_bytes(b"half a table")
    assert worker.work()
    assert engine.flush_due()
    assert worker.work()
    stats = engine.stats()
    assert (stats["flushes"], stats["maintenance_failures"]) == (1, 1)
    assert engine.get(b"k") == b"v"
    engine.close()
    disk.close()
