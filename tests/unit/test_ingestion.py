"""Tables from elsewhere are taken in as a whole, into ranges that are empty, or not at all."""

from __future__ import annotations

import pytest

from kvbus.errors import ConfigError, CorruptionError
from kvbus.sim.disk import MemoryDisk
from kvbus_storage import EngineOptions, LsmEngine, open_lsm
from kvbus_storage.table.output import OutputPlan, write_tables
from tests.workers import HandWorker

LOWEST, HIGHEST = b"", b"\xff" * 40


def deliver(disk: MemoryDisk, name: str, records: dict[bytes, bytes]) -> None:
    """Put a table file of ``records`` on the disk, as another engine would have written it."""
    plan = OutputPlan(
        first_number=7, lsn=99, guards=(), table_bytes=1 << 20, block_bytes=256, compression="lz4"
    )  # fmt: skip
    other = MemoryDisk()
    (meta,) = write_tables(other, [(sorted(records), [records[key] for key in sorted(records)])], plan)
    disk.create(name).append(other.read(f"table-{meta.number:08d}"))


def records_of(letter: str, count: int = 200) -> dict[bytes, bytes]:
    return {b"%s%03d" % (letter.encode(), number): b"%d" % number * 9 for number in range(count)}


def ingested(engine: LsmEngine, worker: HandWorker, *names: str) -> Exception | None:
    told: list[Exception | None] = []
    engine.ingest(names, told.append)
    while worker.work():
        pass
    (outcome,) = told
    return outcome


@pytest.fixture
def worker() -> HandWorker:
    return HandWorker()


def test_delivered_tables_are_read_and_survive_a_restart(worker: HandWorker) -> None:
    disk = MemoryDisk()
    engine = open_lsm(disk, EngineOptions(), worker)
    engine.apply([b"b"], [b"own"])
    engine.commit()
    deliver(disk, "incoming-2", records_of("c"))
    deliver(disk, "incoming-1", records_of("a"))
    assert ingested(engine, worker, "incoming-2", "incoming-1") is None
    expected = {**records_of("a"), b"b": b"own", **records_of("c")}
    assert dict(engine.scan(LOWEST, HIGHEST)) == expected
    assert not [name for name in disk.list() if name.startswith("incoming")]
    engine.apply([b"a000"], [b"newer"])
    engine.flush()
    while worker.work():
        pass
    assert open_lsm(disk.kill(), EngineOptions(), worker).get(b"a000") == b"newer"


def test_a_range_that_is_not_empty_refuses_them(worker: HandWorker) -> None:
    disk = MemoryDisk()
    engine = open_lsm(disk, EngineOptions(), worker)
    engine.apply([b"a1"], [b"own"])
    deliver(disk, "incoming", records_of("a"))
    refusal = ingested(engine, worker, "incoming")
    assert isinstance(refusal, ConfigError)
    assert "drop the range first" in str(refusal)
    assert dict(engine.scan(LOWEST, HIGHEST)) == {b"a1": b"own"}
    engine.drop_range(b"a", b"b")
    assert ingested(engine, worker, "incoming") is None
    assert dict(engine.scan(LOWEST, HIGHEST)) == records_of("a")


def test_a_key_that_is_written_while_they_come_wins(worker: HandWorker) -> None:
    disk = MemoryDisk()
    engine = open_lsm(disk, EngineOptions(), worker)
    deliver(disk, "incoming", records_of("a"))
    told: list[Exception | None] = []
    engine.ingest(["incoming"], told.append)
    engine.apply([b"a007"], [b"newer"])
    engine.flush()
    while worker.work():
        engine.flush_due()
    assert told == [None]
    assert (engine.get(b"a007"), engine.get(b"a008")) == (b"newer", b"8" * 9)
    assert open_lsm(disk.kill(), EngineOptions(), worker).get(b"a007") == b"newer"


def test_overlapping_or_damaged_files_change_nothing(worker: HandWorker) -> None:
    disk = MemoryDisk()
    engine = open_lsm(disk, EngineOptions(), worker)
    deliver(disk, "one", records_of("a"))
    deliver(disk, "two", records_of("a", 100))
    assert isinstance(ingested(engine, worker, "one", "two"), CorruptionError)
    disk.files["two"].data[40] ^= 1
    assert isinstance(ingested(engine, worker, "two"), CorruptionError)
    assert list(engine.scan(LOWEST, HIGHEST)) == []
    assert [name for name in disk.list() if "table" in name] == []
    with pytest.raises(FileNotFoundError):
        engine.ingest(["three"], lambda outcome: None)


@pytest.mark.parametrize("is_flushed", [False, True])
def test_a_key_that_was_removed_before_does_not_hide_what_comes(worker: HandWorker, is_flushed: bool) -> None:
    disk = MemoryDisk()
    engine = open_lsm(disk, EngineOptions(), worker)
    engine.apply([b"a007"], [b"old"])
    engine.purge([b"a007"])
    if is_flushed:
        engine.flush()
        while worker.work():
            pass
    deliver(disk, "incoming", records_of("a"))
    assert ingested(engine, worker, "incoming") is None
    assert engine.get(b"a007") == b"7" * 9
    engine.apply([b"z"], [b"1"])
    engine.flush()
    while worker.work():
        pass
    assert open_lsm(disk.kill(), EngineOptions(), worker).get(b"a007") == b"7" * 9


def test_a_key_that_is_removed_while_they_wait_does_not_hide_what_comes(worker: HandWorker) -> None:
    disk = MemoryDisk()
    engine = open_lsm(disk, EngineOptions(), worker)
    deliver(disk, "incoming", records_of("a"))
    engine.apply([b"z"], [b"1"])
    engine.flush()
    engine.apply([b"a007"], [b"old"])
    told: list[Exception | None] = []
    engine.ingest(["incoming"], told.append)
    engine.purge([b"a007"])
    engine.commit()
    while worker.work() or engine.compact_due() or worker.work():
        pass
    assert told == [None]
    assert engine.get(b"a007") == b"7" * 9


def test_a_range_that_is_dropped_while_they_come_stays_dropped(worker: HandWorker) -> None:
    disk = MemoryDisk()
    engine = open_lsm(disk, EngineOptions(), worker)
    deliver(disk, "incoming", records_of("a"))
    told: list[Exception | None] = []
    engine.ingest(["incoming"], told.append)
    engine.drop_range(b"a050", b"b")
    for _ in range(2):
        while worker.work():
            pass
        assert told == [None]
        assert (
            len(list(engine.scan(LOWEST, HIGHEST)))
            == len(list(open_lsm(disk.kill(), EngineOptions(), worker).scan(b"", b"z")))
            == 50
        )
        engine.purge([b"z"])
        engine.flush()


def test_a_power_cut_that_loses_numbers_does_not_save_them_from_a_later_drop(worker: HandWorker) -> None:
    disk, options = MemoryDisk(), EngineOptions(sync="none")
    engine = open_lsm(disk, options, worker)
    for number in range(10):
        engine.apply([b"own%d" % number], [b"x"])
        engine.commit()
    deliver(disk, "incoming", records_of("a"))
    assert ingested(engine, worker, "incoming") is None
    for image in disk.images():
        engine = open_lsm(image, options, worker)
        engine.drop_range(b"a", b"b")
        assert list(engine.scan(b"a", b"b")) == []


def test_damage_in_their_range_is_told(worker: HandWorker) -> None:
    disk = MemoryDisk()
    engine = open_lsm(disk, EngineOptions(compression="none"), worker)
    engine.apply([b"a1"], [b"x" * 50])
    engine.flush()
    while worker.work():
        pass
    (name,) = [name for name in disk.list() if name.startswith("table")]
    disk.files[name].data[30] ^= 0xFF
    engine.apply([b"z"], [b"1"])
    engine.flush()
    deliver(disk, "incoming", records_of("a"))
    assert isinstance(ingested(engine, worker, "incoming"), CorruptionError)
