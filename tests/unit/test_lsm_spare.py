"""The log's next segment out of one that is flushed: blank before it is used again, and never missed."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from errno import EMFILE, ENOSPC, ENOTSUP, EPERM
from pathlib import Path
from random import Random

import pytest

from kvbus.errors import ReadOnly, WorkerDied
from kvbus.ports.disk import BLANK_NAME
from kvbus.runtime.os_disk import OsDisk
from kvbus.sim.disk import MemoryDisk
from kvbus_storage import EngineOptions, LsmEngine, open_lsm
from tests.unit.lsm_workload import Clock, LateWorker, check_tidy, drain, opened, settle, state_of, used_bytes

OPTIONS = EngineOptions(memory_bytes=1 << 20, compression="none")
SPARE = "log-00000003"


def flushed(options: EngineOptions = OPTIONS) -> tuple[MemoryDisk, LsmEngine, LateWorker]:
    """Return an engine that has flushed its first segment and writes the second one."""
    disk = MemoryDisk()
    engine, worker = opened(disk, options)
    put(engine, b"a")
    engine.flush()
    drain(worker)
    return disk, engine, worker


def put(engine: LsmEngine, key: bytes) -> None:
    engine.apply([key], [key * 50])
    engine.commit()


def test_a_flushed_segment_is_blanked_and_becomes_the_next_one() -> None:
    disk, engine, worker = flushed()
    spare = disk.files[SPARE]
    assert not bytes(spare.data).strip(b"\0")
    put(engine, b"b")
    syncs = disk.syncs
    engine.flush()
    assert disk.files[SPARE] is spare
    # The segment before it was synced by its commit, and the new name long ago.
    assert disk.syncs == syncs + 1
    drain(worker)
    assert "log-00000004" in disk.files
    assert state_of(engine) == {b"a": b"a" * 50, b"b": b"b" * 50}
    check_tidy(disk, engine)


def test_a_crash_at_any_step_shows_all_and_leaves_no_blank_file_behind() -> None:
    """What stood in the segment before must not come back, whatever of it the power cut has left."""
    disk = MemoryDisk()
    engine, worker = opened(disk, OPTIONS)
    random, images = Random(7), 0
    acknowledged: dict[bytes, bytes] = {}
    pending: dict[bytes, bytes] = {}

    def crash() -> None:
        nonlocal images
        image = disk.crash(random)
        found = opened(image, OPTIONS)[0]
        assert acknowledged.items() <= state_of(found).items() <= (acknowledged | pending).items()
        check_tidy(image, found)
        images += 1

    disk.on_step = crash
    for number in range(40):
        pending = {b"%d" % number: b"%d" % number * 400}
        engine.apply(list(pending), list(pending.values()))
        engine.commit()
        acknowledged |= pending
        if number % 2:
            engine.flush()
            drain(worker)
    assert images > 300


def test_a_worker_that_dies_over_it_leaves_none_and_the_log_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = MemoryDisk()
    engine, worker = opened(disk, OPTIONS)

    def die(path: str, target: str, *, size_bytes: int) -> None:
        disk.read(path)
        disk.files["blank.tmp"] = disk.files.pop(path)
        raise WorkerDied(f"in the middle of {path}, before it was {target}")

    with monkeypatch.context() as patched:
        patched.setattr(disk, "blank", die)
        put(engine, b"a")
        engine.flush()
        settle(engine, worker)
    for key in (b"b", b"c"):
        put(engine, key)
        engine.flush()
        settle(engine, worker)
    assert list(state_of(engine)) == [b"a", b"b", b"c"]
    check_tidy(disk, engine)


def test_what_was_interrupted_does_not_blank_the_segment_that_is_written() -> None:
    """The worker dies with both names in place, and the log takes the new one into use before the second try."""
    disk = MemoryDisk()
    engine, worker = opened(disk, OPTIONS)
    dies = True

    def die() -> None:
        nonlocal dies
        if dies and SPARE in disk.files:
            dies = False
            raise WorkerDied("between two names")

    put(engine, b"a")
    engine.flush()
    worker.work()
    disk.on_step = die
    worker.do()
    assert not dies
    disk.on_step = lambda: None
    for key in (b"b", b"c", b"d"):
        put(engine, key)
        engine.flush()
    settle(engine, worker)
    put(engine, b"e")
    assert list(state_of(opened(disk.kill(), OPTIONS)[0])) == [b"a", b"b", b"c", b"d", b"e"]
    check_tidy(disk, engine)


def test_the_log_does_not_wait_for_it() -> None:
    disk = MemoryDisk()
    engine, worker = opened(disk, OPTIONS)
    put(engine, b"a")
    engine.flush()
    worker.work()
    put(engine, b"b")
    # The third segment begins before the worker gets to blank the first one for it.
    engine.flush()
    segment = disk.files[SPARE]
    put(engine, b"c")
    settle(engine, worker)
    assert disk.files[SPARE] is segment
    assert list(state_of(opened(disk.kill(), OPTIONS)[0])) == [b"a", b"b", b"c"]
    check_tidy(disk, engine)


def test_a_start_and_a_close_remove_it() -> None:
    disk, engine, _ = flushed()
    image = disk.kill()
    assert SPARE in image.files
    again, _ = opened(image, OPTIONS)
    assert SPARE not in image.files
    assert state_of(again) == {b"a": b"a" * 50}
    engine.close()
    assert SPARE not in disk.files


def test_a_full_disk_gets_its_room() -> None:
    clock, disk = Clock(), MemoryDisk()
    engine, worker = opened(disk, OPTIONS, clock)
    engine.apply([b"a"], [b"a" * 3_000_000])
    engine.flush()
    drain(worker)
    assert SPARE in disk.files
    disk.capacity_bytes = used_bytes(disk)
    engine.apply([b"b"], [b"b" * 100])
    with pytest.raises(ReadOnly):
        engine.commit()
    assert SPARE not in disk.files
    clock.now_s += 2
    engine.commit()
    put(engine, b"b")
    assert list(state_of(engine)) == [b"a", b"b"]


def test_a_log_that_is_not_synced_at_each_commit_needs_none() -> None:
    disk, engine, worker = flushed(replace(OPTIONS, sync="none"))
    settle(engine, worker)
    assert SPARE not in disk.files


def test_old_records_behind_new_ones_are_no_part_of_the_log() -> None:
    """As if no zero had reached the disk: each record's check covers its segment's number."""
    disk = MemoryDisk()
    engine, worker = opened(disk, OPTIONS)
    for key in (b"a", b"b", b"c", b"d"):
        put(engine, key)
    old = bytes(disk.files["log-00000001"].data)
    engine.flush()
    drain(worker)
    put(engine, b"e")
    engine.flush()
    put(engine, b"f")
    segment = disk.files[SPARE]
    segment.data += old[len(segment.data) :]
    assert len(segment.data) == len(old)
    assert list(state_of(opened(disk.kill(), OPTIONS)[0])) == [b"a", b"b", b"c", b"d", b"e", b"f"]


def test_two_interruptions_do_not_blank_the_segment_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a real file system: a rename between two names of one file does nothing."""
    disk, worker = OsDisk(tmp_path), LateWorker()
    engine = open_lsm(disk, OPTIONS, worker)
    put(engine, b"a")
    engine.flush()
    worker.work()
    dies_over(monkeypatch, Path, "unlink", BLANK_NAME, worker.do)
    for key in (b"b", b"c"):
        put(engine, key)
        engine.flush()
    worker.tell()
    engine.flush_due()
    worker.work()
    worker.work()
    dies_over(monkeypatch, OsDisk, "remove", SPARE, worker.do)
    put(engine, b"d")
    engine.flush()
    put(engine, b"e")
    worker.tell()
    engine.compact_due()
    settle(engine, worker)
    disk.close()
    again = open_lsm(OsDisk(tmp_path), OPTIONS, LateWorker())
    assert list(state_of(again)) == [b"a", b"b", b"c", b"d", b"e"]


def dies_over(monkeypatch: pytest.MonkeyPatch, owner: type, method: str, name: str, act: Callable[[], object]) -> None:
    """Act, while a call of a method for the file ``name`` kills the worker."""
    original = getattr(owner, method)

    def dying(self: object, *arguments: object, **options: object) -> object:
        if name in (getattr(self, "name", ""), *arguments):
            raise WorkerDied(f"over {name}")
        return original(self, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(owner, method, dying)
        act()


@pytest.mark.parametrize("number", [EPERM, ENOTSUP, ENOSPC, EMFILE])
def test_where_no_file_gets_a_second_name_the_engine_works_without(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "link", refuse)
    disk, worker = OsDisk(tmp_path), LateWorker()
    engine = open_lsm(disk, OPTIONS, worker)
    for key in (b"a", b"b", b"c"):
        put(engine, key)
        engine.flush()
        settle(engine, worker)
    assert list(state_of(engine)) == [b"a", b"b", b"c"]
    assert [name for name in disk.list() if name.startswith(("log", "blank"))] == ["log-00000004"]
    disk.close()


def test_a_disk_that_fails_over_it_ends_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = MemoryDisk()
    engine, worker = opened(disk, OPTIONS)
    put(engine, b"a")
    engine.flush()
    worker.work()
    disk.fail_write = True
    with pytest.raises(OSError, match="Input/output error"):
        worker.work()


@pytest.mark.parametrize("moment", ["before", "at its end"])
def test_a_disk_that_is_full_while_it_is_made_gets_its_room(moment: str) -> None:
    disk = MemoryDisk()
    engine, worker = opened(disk, OPTIONS)
    engine.apply([b"a"], [b"a" * 3_000_000])
    engine.flush()
    worker.work()
    if moment == "at its end":
        worker.do()
    disk.capacity_bytes = used_bytes(disk)
    engine.apply([b"b"], [b"b" * 100])
    with pytest.raises(ReadOnly):
        engine.commit()
    drain(worker)
    assert used_bytes(disk) < disk.capacity_bytes - 2_900_000


def test_a_start_removes_one_that_was_being_made() -> None:
    disk = MemoryDisk()
    disk.create(BLANK_NAME).append(bytes(1000))
    opened(disk, OPTIONS)
    assert BLANK_NAME not in disk.files


def test_one_large_commit_does_not_make_all_segments_large() -> None:
    disk = MemoryDisk()
    engine, worker = opened(disk, OPTIONS)
    engine.apply([b"a"], [b"a" * 3_000_000])
    engine.flush()
    drain(worker)
    for key in (b"b", b"c", b"d"):
        put(engine, key)
        engine.flush()
        drain(worker)
    assert used_bytes(disk) < 3_020_000


def test_a_file_that_holds_something_does_not_become_a_segment() -> None:
    disk = MemoryDisk()
    engine, _ = opened(disk, OPTIONS)
    disk.create("log-00000001").append(b"what is this")
    engine.apply([b"a"], [b"a"])
    with pytest.raises(FileExistsError, match="no blank file"):
        engine.commit()
    assert bytes(disk.files["log-00000001"].data) == b"what is this"


@pytest.mark.parametrize("is_gentle", [False, True])
def test_a_name_that_an_interrupted_try_has_given_is_made_durable_before_it_counts(is_gentle: bool) -> None:
    disk = MemoryDisk()
    engine, worker = opened(disk, OPTIONS)

    def die() -> None:
        if SPARE in disk.files:
            raise WorkerDied("before the folder was synced")

    put(engine, b"a")
    engine.flush()
    worker.work()
    disk.on_step = die
    worker.do()
    disk.on_step = lambda: None
    worker.tell()
    engine._maintenance.pace.is_gentle = is_gentle
    engine.compact_due()
    worker.work()
    put(engine, b"b")
    engine.flush()
    put(engine, b"c")
    for seed in range(20):
        assert list(state_of(opened(disk.crash(Random(seed)), OPTIONS)[0])) == [b"a", b"b", b"c"]


def test_segments_of_about_the_same_size_grow_no_file(tmp_path: Path) -> None:
    """The zeros ahead of a segment's tail are blanked, too: the next one may be a little larger."""
    worker = LateWorker()
    with closing(OsDisk(tmp_path)) as disk:
        engine = open_lsm(disk, replace(OPTIONS, memory_bytes=64 << 20), worker)
        grown: list[int] = []
        for number in range(5):
            path = tmp_path / f"log-{number + 1:08d}"
            before = path.stat().st_size if number else 0
            engine.apply([b"%05d" % number], [bytes(600_000 + 1000 * number)])
            engine.commit()
            grown.append(path.stat().st_size - before)
            engine.flush()
            drain(worker)
        engine.close()
    # The third one is the first that takes a file over.
    assert grown[0] > 600_000
    assert grown[2:] == [0, 0, 0]
