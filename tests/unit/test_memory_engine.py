"""The memory engine: durability settings, full and failing disks, crashes, rolling and rewriting."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import cast

import pytest

from kvbus.errors import ConfigError, ReadOnly
from kvbus.ports.engine import EngineSettings
from kvbus.sim.disk import MemoryDisk
from kvbus_storage import MEMORY, MemoryEngine, open_engine
from kvbus_storage.memtable import Memtable
from kvbus_storage.options import EngineOptions, SyncPolicy
from tests.workers import NO_WORKER

LOWEST, HIGHEST = b"", b"\xff" * 40

State = dict[bytes, bytes]


def state_of(engine: MemoryEngine) -> State:
    return dict(engine.scan(LOWEST, HIGHEST))


def recovered(disk: MemoryDisk, options: EngineOptions | None = None) -> State:
    return state_of(open_engine(disk, options or EngineOptions()))


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_commit_is_one_write_and_one_sync() -> None:
    disk = MemoryDisk()
    engine = open_engine(disk, EngineOptions())
    engine.apply([b"k"], [b"0"])
    engine.commit()
    writes, syncs = disk.writes, disk.syncs
    for number in range(10):
        engine.apply([b"k"], [b"%d" % number])
    engine.commit()
    engine.commit()
    assert (disk.writes - writes, disk.syncs - syncs) == (1, 1)


def test_opening_writes_nothing() -> None:
    disk = MemoryDisk()
    open_engine(disk, EngineOptions()).close()
    assert disk.list() == []


def test_no_sync_promises_what_is_written() -> None:
    disk = MemoryDisk()
    engine = open_engine(disk, EngineOptions(sync="none"))
    engine.apply([b"k"], [b"1"])
    syncs = disk.syncs
    assert engine.commit() == 1
    assert (engine.stats()["synced_lsn"], disk.syncs) == (0, syncs + 1), "only the new segment's header is synced"
    assert recovered(disk.kill()) == {b"k": b"1"}


def test_interval_syncs_when_it_is_due_even_when_idle() -> None:
    clock = Clock()
    engine = open_engine(MemoryDisk(), EngineOptions(sync="interval", interval_ms=500), clock=clock)
    engine.apply([b"k"], [b"1"])
    assert engine.commit() == 1
    assert engine.stats()["synced_lsn"] == 0
    clock.now_s += 0.499
    engine.commit()
    assert engine.stats()["synced_lsn"] == 0
    clock.now_s += 0.002
    engine.commit()
    assert engine.stats()["synced_lsn"] == 1
    assert engine.stats()["syncs"] == 1


def test_each_sync_tells_its_duration() -> None:
    durations: list[float] = []
    ticks = iter(range(1000))
    engine = open_engine(MemoryDisk(), EngineOptions(), clock=lambda: float(next(ticks)), on_sync=durations.append)
    for _ in range(3):
        engine.apply([b"k"], [b"1"])
        engine.commit()
    assert durations == [1.0, 1.0, 1.0]
    assert engine.stats()["last_sync_us"] == 1_000_000


@pytest.mark.parametrize("fault", ["fail_sync", "fail_write"])
def test_disk_error_stops_the_engine_for_good(fault: str) -> None:
    disk = MemoryDisk()
    engine = open_engine(disk, EngineOptions())
    engine.apply([b"k"], [b"1"])
    engine.commit()
    engine.apply([b"k"], [b"2"])
    setattr(disk, fault, True)
    with pytest.raises(OSError, match="Input/output"):
        engine.commit()
    setattr(disk, fault, False)
    for call in (engine.commit, engine.flush_due, lambda: engine.get(b"k"), lambda: engine.apply([b"k"], [b"3"])):
        with pytest.raises(OSError, match="restart the process"):
            call()
    assert engine.durable_lsn == 1
    engine.close()
    assert recovered(disk)[b"k"] in (b"1", b"2")


def test_failed_append_is_taken_back_everywhere() -> None:
    disk = MemoryDisk()
    engine = open_engine(disk, EngineOptions())
    engine.apply([b"a", b"b"], [b"1", b"1"])
    engine.commit()
    before, size = state_of(engine), engine.stats()["memtable_bytes"]
    disk.capacity_bytes = sum(len(file.data) for file in disk.files.values()) + 100
    engine.apply([b"a"], [b"2"])
    engine.apply([b"a", b"c"], [b"3", bytes(200)])
    assert list(engine.scan(b"c", b"d")) == [(b"c", bytes(200))]
    with pytest.raises(ReadOnly, match="free space"):
        engine.commit()
    assert state_of(engine) == before
    assert (engine.applied_lsn, engine.durable_lsn) == (1, 1)
    stats = engine.stats()
    assert (stats["read_only"], stats["failed_batches"], stats["memtable_bytes"]) == (1, 2, size)
    with pytest.raises(ReadOnly):
        engine.apply([b"a"], [b"4"])
    assert engine.get(b"a") == b"1"
    assert engine.commit() == 1
    assert recovered(disk.kill()) == before
    engine.close()
    assert recovered(disk) == before


@pytest.mark.parametrize("room", range(0, 150, 7))
def test_disk_that_fills_at_any_byte_loses_nothing_durable(room: int) -> None:
    disk = MemoryDisk()
    disk.capacity_bytes = room
    engine = open_engine(disk, EngineOptions())
    stored: State = {}
    for number in range(4):
        try:
            engine.apply([b"k%d" % number], [b"r"])
            engine.commit()
        except ReadOnly:
            break
        stored[b"k%d" % number] = b"r"
    assert engine.stats()["read_only"] == 1
    assert state_of(engine) == stored
    for image in (disk.kill(), disk.crash(Random(room))):
        assert recovered(image) == stored
        assert recovered(image) == stored


def test_full_disk_that_cannot_be_cut_back_is_fatal() -> None:
    disk = MemoryDisk()
    engine = open_engine(disk, EngineOptions())
    engine.apply([b"k"], [b"1"])
    engine.commit()
    disk.capacity_bytes, disk.fail_sync = 0, True
    engine.apply([b"k"], [b"2"])
    with pytest.raises(OSError, match="Input/output"):
        engine.commit()
    with pytest.raises(OSError, match="restart the process"):
        engine.get(b"k")


def test_flush_due_seals_a_full_or_old_segment() -> None:
    disk, clock = MemoryDisk(), Clock()
    engine = open_engine(disk, EngineOptions(segment_bytes=4096, segment_age_s=60), clock=clock)
    assert not engine.flush_due()
    engine.apply([b"k"], [bytes(5000)])
    assert engine.flush_due()
    assert not engine.flush_due()
    engine.apply([b"k"], [b"1"])
    engine.commit()
    clock.now_s += 59
    assert not engine.flush_due()
    clock.now_s += 1
    assert engine.flush_due()
    engine.apply([b"k"], [b"2"])
    engine.close()
    assert disk.list() == [f"log-{number:08d}" for number in (1, 2, 3)]
    assert recovered(disk) == {b"k": b"2"}


def test_log_bytes_are_those_on_disk() -> None:
    disk = MemoryDisk()
    for _ in range(3):
        engine = open_engine(disk, EngineOptions())
        assert engine.stats()["log_bytes"] == sum(len(file.data) for file in disk.files.values())
        engine.apply([b"k"], [b"1"])
        engine.commit()
        engine.close()
        assert engine.stats()["log_bytes"] == sum(len(file.data) for file in disk.files.values())


SMALL = EngineOptions(segment_bytes=4096, rewrite_ratio=2)


def overwritten(disk: MemoryDisk) -> State:
    """Fill ``disk`` with a log that is far longer than its live data; return these."""
    engine = open_engine(disk, EngineOptions(segment_bytes=4096))
    for number in range(60):
        engine.apply([b"k%d" % (number % 6), b"fix"], [b"%d" % number * 150, b"f"])
        engine.flush_due()
    engine.close()
    return state_of(open_engine(disk, EngineOptions(segment_bytes=1 << 20)))


def test_start_rewrites_a_log_that_is_mostly_dead() -> None:
    disk = MemoryDisk()
    live = overwritten(disk)
    before = sum(len(file.data) for file in disk.files.values())
    engine = open_engine(disk, SMALL)
    assert state_of(engine) == live
    assert engine.stats()["log_bytes"] < before / 4
    assert "log-00000001" not in disk.list()
    engine.apply([b"new"], [b"1"])
    engine.close()
    assert recovered(disk, SMALL) == {**live, b"new": b"1"}
    assert engine.stats()["log_bytes"] + 24 == sum(len(file.data) for file in disk.files.values())


def test_crash_at_any_step_of_a_rewrite_changes_nothing() -> None:
    disk = MemoryDisk()
    live = overwritten(disk)
    images: list[MemoryDisk] = []
    random = Random(1)
    disk.on_step = lambda: images.extend(disk.crash(random) for _ in range(5))
    open_engine(disk, SMALL)
    assert len(images) > 50
    for image in images:
        again = image.kill()
        assert recovered(image, SMALL) == live
        assert recovered(image, SMALL) == live
        assert recovered(again, EngineOptions()) == live


@pytest.mark.parametrize("room", [*range(0, 2500, 90), 2**20])
def test_rewrite_on_a_full_disk_changes_nothing(room: int) -> None:
    disk = MemoryDisk()
    live = overwritten(disk)
    disk.capacity_bytes = sum(len(file.data) for file in disk.files.values()) + room
    random = Random(room)

    def check_image() -> None:
        assert recovered(disk.crash(random)) == live

    disk.on_step = check_image
    engine = open_engine(disk, SMALL)
    disk.on_step = lambda: None
    disk.capacity_bytes = None
    assert state_of(engine) == live
    engine.apply([b"new"], [b"1"])
    engine.close()
    assert recovered(disk, SMALL) == {**live, b"new": b"1"}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("sync", ["batch", "interval", "none"])
def test_every_crash_image_holds_a_prefix_with_all_that_was_promised(seed: int, sync: SyncPolicy) -> None:
    random = Random(seed)
    clock = Clock()
    options = EngineOptions(sync=sync, interval_ms=50, segment_bytes=4096, rewrite_ratio=2)
    disk = MemoryDisk()
    states: list[State] = [{}]
    synced = 0

    def check_images() -> None:
        for _ in range(2):
            image = disk.crash(random)
            engine = open_engine(image.kill(), EngineOptions())
            assert synced <= engine.applied_lsn < len(states)
            assert state_of(engine) == states[engine.applied_lsn] == recovered(image, options)

    disk.on_step = check_images
    engine = open_engine(disk, options, clock=clock)
    for _ in range(60):
        for _ in range(random.choice((1, 1, 3))):
            keys = [b"k%d" % random.randrange(12) for _ in range(random.randint(1, 3))]
            records = [random.randbytes(random.choice((1, 30, 700))) for _ in keys]
            states.append({**states[-1], **dict(zip(keys, records, strict=True))})
            engine.apply(keys, records)
        clock.now_s += random.choice((0.001, 0.03))
        engine.commit()
        synced = engine.stats()["synced_lsn"]
        if random.random() < 0.2:
            engine.flush_due()
        if random.random() < 0.1:
            disk = disk.crash(random)
            lsn = open_engine(disk.kill(), EngineOptions()).applied_lsn
            assert synced <= lsn
            engine = open_engine(disk, options, clock=clock)
            assert state_of(engine) == states[lsn]
            # A rewrite takes numbers of its own and changes nothing.
            states[lsn + 1 :] = [states[lsn]] * (engine.applied_lsn - lsn)
            synced = engine.stats()["synced_lsn"]
            disk.on_step = check_images
    engine.close()
    assert recovered(disk) == states[-1]


@pytest.mark.parametrize("seed", range(10))
def test_scan_agrees_with_sorting_whatever_came_between(seed: int) -> None:
    random = Random(seed)
    table, oracle = Memtable(), dict[bytes, bytes]()
    for _ in range(120):
        keys = [random.randbytes(random.randint(0, 2)) for _ in range(random.randint(1, 20))]
        records = [random.randbytes(3) for _ in keys]
        undo = table.put(keys, records)
        if random.random() < 0.2:
            if random.random() < 0.5:
                list(table.scan(LOWEST, HIGHEST))
            table.take_back(undo)
        else:
            oracle.update(zip(keys, records, strict=True))
        start, end = sorted((random.randbytes(1), random.randbytes(1)))
        expected = [(key, oracle[key]) for key in sorted(oracle) if start <= key < end]
        assert list(table.scan(start, end)) == expected
        assert table.data_bytes == sum(len(key) + len(record) for key, record in oracle.items())


@pytest.mark.parametrize(
    "make",
    [
        lambda: EngineOptions(sync=cast("SyncPolicy", "always")),
        lambda: EngineOptions(interval_ms=0),
        lambda: EngineOptions(segment_bytes=100),
        lambda: EngineOptions(segment_age_s=0.0),
        lambda: EngineOptions(rewrite_ratio=1),
    ],
)
def test_option_out_of_range_is_refused_with_the_mend(make: Callable[[], EngineOptions]) -> None:
    with pytest.raises(ConfigError, match="choose"):
        make()


def test_crash_while_a_failed_rewrite_is_removed_leaves_no_gap() -> None:
    disk, random, live = MemoryDisk(), Random(3), State()
    engine = open_engine(disk, EngineOptions())
    for fill in (b"1", b"2", b"3"):
        live = {b"k%d" % number: fill * 700_000 for number in range(6)}
        engine.apply(list(live), list(live.values()))
    engine.close()
    disk.capacity_bytes = sum(len(file.data) for file in disk.files.values()) + 3_500_000
    files: list[list[str]] = []

    def check_image() -> None:
        files.append(disk.list())
        assert recovered(disk.crash(random)) == live

    disk.on_step = check_image
    assert recovered(disk, SMALL) == live
    assert len(max(files)) > 2
    assert files[-1] == ["log-00000001"]


def test_plugin_opens_with_the_settings_of_a_node() -> None:
    disk, durations = MemoryDisk(), list[float]()
    engine = MEMORY(disk, EngineSettings(), worker=NO_WORKER, clock=float, on_sync=durations.append)
    engine.apply([b"k"], [b"1"])
    engine.commit()
    engine.close()
    assert len(durations) == 1
    assert MEMORY(disk, EngineSettings(sync="none"), worker=NO_WORKER, clock=float).get(b"k") == b"1"
    with pytest.raises(ConfigError, match="choose one of"):
        MEMORY(disk, EngineSettings(sync=cast("SyncPolicy", "often")), worker=NO_WORKER, clock=float)
