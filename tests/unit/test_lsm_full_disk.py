"""Flush and compaction on a full disk: nothing is lost, nothing is fatal, and all goes on when there is space again."""

from __future__ import annotations

from dataclasses import replace
from errno import EMFILE, ENFILE
from random import Random

import pytest

from kvbus.errors import ReadOnly
from kvbus.ports.raft_log import HardState
from kvbus.sim.disk import MemoryDisk
from kvbus_storage import EngineOptions, LsmEngine
from tests.unit.lsm_workload import Clock, LateWorker, State, check_tidy, drain, opened, settle, state_of, used_bytes

ROOMS = range(0, 900, 45)
OPTIONS = EngineOptions(memory_bytes=1 << 20, level0_runs=2, compression="none")


def filled(*, flushes: int) -> tuple[MemoryDisk, Clock, LsmEngine, LateWorker, State]:
    """Return an engine with as many tables above each other, and what it holds."""
    disk, clock = MemoryDisk(), Clock()
    engine, worker = opened(disk, OPTIONS, clock)
    state: State = {}
    for number in range(flushes):
        batch = {b"k%d" % key: b"%d" % number * 20 for key in range(number, number + 3)}
        state |= batch
        engine.apply(list(batch), list(batch.values()))
        engine.flush()
        drain(worker)
    return disk, clock, engine, worker, state


def fill(disk: MemoryDisk, room: int) -> None:
    disk.capacity_bytes = used_bytes(disk) + room


def make_room(disk: MemoryDisk, clock: Clock, engine: LsmEngine) -> None:
    disk.capacity_bytes = None
    clock.now_s += 2
    engine.commit()
    assert not engine.stats()["read_only"]


@pytest.mark.parametrize("room", ROOMS)
def test_flush_on_a_full_disk_is_tried_again_when_there_is_space(room: int) -> None:
    disk, clock, engine, worker, _ = filled(flushes=0)
    engine.apply([b"a"], [b"1" * 200])
    engine.flush()
    fill(disk, room)
    for _ in range(3):
        worker.work()
        assert state_of(opened(disk.crash(Random(room)), OPTIONS)[0]) == {b"a": b"1" * 200}
    make_room(disk, clock, engine)
    engine.apply([b"b"], [b"2"])
    engine.commit()
    settle(engine, worker)
    assert engine.stats()["tables"] == 1
    assert engine.stats()["frozen_memtables"] == 0
    assert state_of(engine) == {b"a": b"1" * 200, b"b": b"2"}
    check_tidy(disk, engine)


def test_install_that_fails_rests_until_somebody_looks_again() -> None:
    for room in range(0, 600, 10):
        disk, _, engine, worker, _ = filled(flushes=0)
        engine.apply([b"a"], [b"1"])
        engine.flush()
        fill(disk, room)
        worker.work()
        assert not engine.stats()["maintenance_failures"] or not worker.jobs


@pytest.mark.parametrize("room", ROOMS)
def test_compaction_on_a_full_disk_is_tried_again_when_there_is_space(room: int) -> None:
    disk, clock, engine, worker, state = filled(flushes=2)
    fill(disk, room)
    for _ in range(3):
        clock.now_s += 1
        engine.compact()
        worker.work()
        assert state_of(engine) == state
        assert state_of(opened(disk.crash(Random(room)), OPTIONS)[0]) == state
    make_room(disk, clock, engine)
    engine.compact()
    settle(engine, worker)
    assert engine.stats()["tables"] == 1
    assert state_of(engine) == state
    check_tidy(disk, engine)


def test_move_on_a_full_disk_is_tried_again_when_there_is_space() -> None:
    disk, clock, engine, worker, state = filled(flushes=1)
    fill(disk, 0)
    engine.compact()
    assert engine.stats()["maintenance_failures"] == 1
    make_room(disk, clock, engine)
    engine.compact()
    settle(engine, worker)
    assert state_of(engine) == state


@pytest.mark.parametrize("room", ROOMS)
def test_drop_on_a_full_disk_happens_or_does_not(room: int) -> None:
    disk, clock, engine, worker, state = filled(flushes=2)
    fill(disk, room)
    try:
        engine.drop_range(b"k1", b"k9")
        state = {key: record for key, record in state.items() if not b"k1" <= key < b"k9"}
    except ReadOnly:
        pass
    assert state_of(engine) == state
    for seed in range(5):
        assert state_of(opened(disk.crash(Random(seed)), OPTIONS)[0]) == state
    make_room(disk, clock, engine)
    engine.compact()
    settle(engine, worker)
    assert state_of(engine) == state


@pytest.mark.parametrize("room", ROOMS)
def test_drop_beside_a_running_flush_on_a_full_disk_keeps_the_rest(room: int) -> None:
    disk, clock, engine, worker, state = filled(flushes=1)
    engine.apply([b"z"], [b"1"])
    engine.flush()
    worker.do()
    fill(disk, room)
    try:
        engine.drop_range(b"k", b"l")
        state = {}
    except ReadOnly:
        pass
    state = {**state, b"z": b"1"}
    make_room(disk, clock, engine)
    settle(engine, worker)
    assert state_of(engine) == state
    assert state_of(opened(disk.kill(), OPTIONS)[0]) == state


@pytest.mark.parametrize("room", ROOMS)
def test_start_on_a_full_disk_reads_everything_and_writes_when_there_is_space(room: int) -> None:
    disk, _, engine, _, state = filled(flushes=2)
    engine.apply([b"last"], [b"1"])
    engine.commit()
    disk, clock = disk.kill(), Clock()
    fill(disk, room)
    for _ in range(3):
        engine, worker = opened(disk, OPTIONS, clock)
        assert state_of(engine) == {**state, b"last": b"1"}
    make_room(disk, clock, engine)
    engine.apply([b"last"], [b"2"])
    engine.flush()
    settle(engine, worker)
    assert state_of(opened(disk.kill(), OPTIONS)[0]) == {**state, b"last": b"2"}
    check_tidy(disk, engine)


def test_first_start_on_a_full_disk_is_followed_by_others() -> None:
    disk = MemoryDisk()
    disk.capacity_bytes = 30
    for _ in range(2):
        engine, _ = opened(disk)
        assert state_of(engine) == {}


def test_start_with_two_memtables_in_the_log_on_a_full_disk_still_reads() -> None:
    disk = MemoryDisk()
    engine, _ = opened(disk)
    for number in range(0, 3000, 50):
        engine.apply([b"%05d" % key for key in range(number, number + 50)], [b"v"] * 50)
        engine.commit()
    assert engine.stats()["frozen_memtables"] > 1
    disk = disk.kill()
    fill(disk, 0)
    again, _ = opened(disk)
    assert state_of(again) == state_of(engine)


def test_failing_disk_stops_the_engine_in_the_middle_of_maintenance() -> None:
    for jobs_before in (0, 2):
        for fault in ("fail_write", "fail_sync"):
            disk, clock, engine, worker, _ = filled(flushes=2)
            clock.now_s += 60
            engine.purge([b"k1"])
            engine.flush()
            # The flush, then its segment is removed, then all is compacted.
            engine.compact()
            for _ in range(jobs_before):
                worker.work()
            assert worker.jobs
            setattr(disk, fault, True)
            with pytest.raises(OSError, match="Input/output"):
                worker.work()
            with pytest.raises(OSError, match="restart the process"):
                engine.get(b"k")


def test_start_on_a_full_disk_reads_where_groups_have_to_be_carried_over() -> None:
    options = replace(OPTIONS, segment_bytes=4096)
    disk = MemoryDisk()
    engine, _ = opened(disk, options)
    engine.raft_log.append(7, 1, [1] * 20, [bytes(3000)] * 20)
    for number in range(60):
        engine.apply([b"k%03d" % number], [bytes(8000)])
        engine.commit()
    for room in range(0, 400_000, 20_000):
        image = disk.kill()
        fill(image, room)
        again, _ = opened(image, options)
        assert (again.get(b"k000"), again.raft_log.last_index(7)) == (bytes(8000), 20)


def test_flush_that_has_no_room_for_what_groups_carry_over_is_not_repeated_at_each_look() -> None:
    disk, clock = MemoryDisk(), Clock()
    engine, worker = opened(disk, OPTIONS, clock)
    engine.raft_log.append(7, 1, [1] * 50, [bytes(4000)] * 50)
    engine.apply([b"a"], [bytes(100_000)])
    engine.flush()
    fill(disk, 150_000)
    jobs = 0
    for _ in range(20):
        engine.flush_due()
        jobs += worker.work()
    assert jobs <= 2
    make_room(disk, clock, engine)
    settle(engine, worker)
    assert engine.stats()["flushes"] == 1


@pytest.mark.parametrize("number", [EMFILE, ENFILE])
def test_job_that_may_open_no_more_files_is_tried_again(number: int) -> None:
    disk, clock = MemoryDisk(), Clock()
    engine, worker = opened(disk, OPTIONS, clock)
    engine.apply([b"a"], [b"1"])
    engine.flush()
    worker.fail(OSError(number, "Too many open files"))
    assert engine.get(b"a") == b"1"
    clock.now_s += 2
    settle(engine, worker)
    assert engine.stats()["flushes"] == 1


def test_writes_are_refused_while_what_waits_takes_all_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvbus_storage.options._LEAST_WAITING_BYTES", 0)
    disk = MemoryDisk()
    engine, worker = opened(disk, OPTIONS)
    rests: list[float] = []

    def write_on() -> None:
        for number in range(200):
            engine.apply([b"%05d" % number], [bytes(10_000)])
            engine.commit()
            rests.append(engine.rest_seconds)

    with pytest.raises(ReadOnly, match="too much waits to be flushed"):
        write_on()
    assert rests == sorted(rests)
    assert max(rests) == 0.1
    assert engine.stats()["memory_bytes"] < 1.25 * OPTIONS.memory_bytes
    count = engine.stats()["keys"]
    settle(engine, worker)
    engine.apply([b"more"], [b"1"])
    engine.commit()
    assert len(state_of(engine)) == count + 1


def test_a_crowded_engine_with_groups_goes_on_when_the_worker_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvbus_storage.options._LEAST_WAITING_BYTES", 0)
    engine, worker = opened(MemoryDisk(), OPTIONS)
    engine.raft_log.save_hard_state(7, HardState(3, 2))
    for number in range(200):
        if engine.read_only:
            break
        engine.apply([b"%05d" % number], [bytes(10_000)])
        engine.commit()
    assert engine.read_only
    settle(engine, worker)
    engine.apply([b"more"], [b"1"])
    engine.commit()
    assert engine.raft_log.hard_state(7) == (3, 2)


@pytest.mark.parametrize("room", range(0, 600, 15))
def test_no_table_is_written_while_there_is_no_manifest(room: int) -> None:
    disk, clock = MemoryDisk(), Clock()
    disk.capacity_bytes = 30
    engine, worker = opened(disk, OPTIONS, clock)
    disk.capacity_bytes = 1000
    engine.apply([b"a"], [b"1"])
    engine.commit()
    written: State = {b"a": b"1"}
    fill(disk, room)
    engine.flush()
    for _ in range(3):
        worker.do()
        assert state_of(opened(disk.crash(Random(room)), OPTIONS)[0]) == written
        worker.tell()
        clock.now_s += 2
        engine.flush_due()
    make_room(disk, clock, engine)
    settle(engine, worker)
    assert state_of(engine) == written
    check_tidy(disk, engine)
