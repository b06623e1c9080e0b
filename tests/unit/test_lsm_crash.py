"""Power cuts and kills at every step of the log-structured engine: nothing acknowledged is lost, nothing stays behind.

A step is a change of the disk: a worker's job has as many as the engine itself, so it is cut in its middle too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from kvbus.sim.disk import MemoryDisk
from kvbus_storage import EngineOptions, open_engine, open_lsm
from kvbus_storage.options import SyncPolicy
from tests.unit.lsm_workload import HIGHEST, KEYS, LOWEST, TINY, Witness, Workload, opened, settle, state_of, used_bytes
from tests.workers import NO_WORKER

Cut = Callable[[MemoryDisk, Random], MemoryDisk]


def power_cut(disk: MemoryDisk, random: Random) -> MemoryDisk:
    return disk.crash(random)


def kill(disk: MemoryDisk, random: Random) -> MemoryDisk:
    return disk.kill()


def images_of_a_start(disk: MemoryDisk, *, seeds: int) -> list[MemoryDisk]:
    """Return what power cuts after each step of a start on ``disk`` may leave."""
    images: list[MemoryDisk] = []

    def cut() -> None:
        images.extend(disk.crash(Random(len(images) + seed)) for seed in range(seeds))

    disk.on_step = cut
    opened(disk)
    return images


class Cuts:
    """Steps of a workload with cuts after each change of its disk."""

    def __init__(self, workload: Workload, *, images: int, cut: Cut = power_cut) -> None:
        self.workload = workload
        self.witness = Witness(workload)
        self.random = Random(len(workload.states))
        self.totals = dict.fromkeys(("flushes", "compactions", "failed_batches"), 0)
        self._images = images
        self._cut = cut
        workload.disk.on_step = self._check_images

    def run(self, steps: int, *, restarts: float = 0.0) -> None:
        """Take ``steps``, and with a probability of ``restarts`` each go on with what a cut left."""
        for _ in range(steps):
            self.workload.step()
            if self.random.random() < restarts:
                self._count()
                disk = self._cut(self.workload.disk, self.random)
                disk.on_step = self._check_images
                self.workload.restart(disk)
        self._count()
        settle(self.workload.engine, self.workload.worker)
        assert state_of(self.workload.engine) == self.workload.state()

    def _check_images(self) -> None:
        for _ in range(self._images):
            self.witness.check(self._cut(self.workload.disk, self.random))

    def _count(self) -> None:
        stats = self.workload.engine.stats()
        for name in self.totals:
            self.totals[name] += stats[name]


@pytest.mark.parametrize("seed", range(8))
def test_every_image_of_a_power_cut_shows_a_prefix_with_all_that_was_acknowledged(seed: int) -> None:
    cuts = Cuts(Workload(seed), images=3)
    while cuts.witness.images < 640:
        cuts.run(20, restarts=0.04)
    assert cuts.totals["flushes"] > 3
    assert cuts.totals["compactions"] > 0


def test_power_cut_while_a_new_manifest_is_begun_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvbus_storage.lsm.catalog._MANIFEST_BYTES", 200)
    workload = Workload(100)
    cuts = Cuts(workload, images=2)
    while max(name for name in workload.disk.list() if name.startswith("manifest-")) < "manifest-00000006":
        cuts.run(10)


def test_kill_at_any_step_loses_nothing_that_was_written() -> None:
    Cuts(Workload(200), images=1, cut=kill).run(130)


def test_power_cut_in_the_start_after_a_kill_loses_nothing() -> None:
    workload, random = Workload(301), Random(1)
    witness = Witness(workload)

    def kill_and_cut() -> None:
        if random.random() < 0.5:
            for image in images_of_a_start(workload.disk.kill(), seeds=1):
                witness.check(image)

    workload.disk.on_step = kill_and_cut
    for _ in range(60):
        workload.step()


def test_unsynced_edit_of_a_killed_process_is_made_durable_before_the_log_goes() -> None:
    disk = MemoryDisk()
    engine, worker = opened(disk)
    engine.apply([b"a"], [b"1"])
    engine.flush()
    kills: list[MemoryDisk] = []
    disk.on_step = lambda: kills.append(disk.kill())
    worker.work()
    for killed in kills:
        for image in images_of_a_start(killed, seeds=10):
            assert state_of(opened(image)[0]) == {b"a": b"1"}


def test_what_a_start_after_a_kill_shows_survives_a_power_cut() -> None:
    disk, kills = MemoryDisk(), list[MemoryDisk]()
    engine, _ = opened(disk)
    disk.on_step = lambda: kills.append(disk.kill())
    for number in range(3):
        engine.apply([b"a"], [b"%d" % number])
        engine.commit()
    for killed in kills:
        shown, _ = opened(killed)
        for seed in range(10):
            assert state_of(opened(killed.crash(Random(seed)))[0]) == state_of(shown)


@pytest.mark.parametrize("seed", range(2))
def test_power_cuts_in_starts_that_follow_power_cuts_change_nothing(seed: int) -> None:
    workload = Workload(400 + seed)
    witness, random = Witness(workload), Random(seed)

    def cut_twice() -> None:
        if random.random() < 0.5:
            return
        image = workload.disk.crash(random)
        shown = opened(image.kill())[0].applied_lsn
        for each in images_of_a_start(image, seeds=1):
            assert witness.check(each) == shown

    workload.disk.on_step = cut_twice
    for _ in range(60):
        workload.step()
    assert witness.images > 200


@pytest.mark.parametrize("sync", ["interval", "none"])
def test_relaxed_durability_still_shows_a_prefix_after_a_power_cut(sync: SyncPolicy) -> None:
    workload = Workload(500, replace(TINY, sync=sync, interval_ms=40))
    workload.drops = False
    Cuts(workload, images=2).run(80, restarts=0.04)


@pytest.mark.parametrize("sync", ["interval", "none"])
def test_dropped_range_is_not_gone_before_its_record_is_durable(sync: SyncPolicy) -> None:
    options = EngineOptions(sync=sync)
    disk = MemoryDisk()
    engine, worker = opened(disk, options)
    engine.apply([b"a"], [b"1"])
    engine.flush()
    worker.work()
    engine.apply([b"b"], [b"2"])
    engine.drop_range(b"a", b"aa")
    states = [{}, {b"a": b"1"}, {b"a": b"1", b"b": b"2"}, {b"b": b"2"}]
    for seed in range(40):
        image, _ = opened(disk.crash(Random(seed)), options)
        assert state_of(image) == states[image.applied_lsn]


@pytest.mark.parametrize("seed", range(3))
def test_nothing_that_a_full_disk_refused_comes_back_after_a_crash(seed: int) -> None:
    workload = Workload(600 + seed)
    cuts = Cuts(workload, images=2)
    for _ in range(12):
        # No work meanwhile for the worker: what it meets on a full disk has tests of its own.
        workload.disk.capacity_bytes = used_bytes(workload.disk) + cuts.random.choice((0, 1, 50, 700))
        for _ in range(6):
            workload.step(maintains=False)
        workload.disk.capacity_bytes = None
        for _ in range(101):
            workload.commit()
        assert not workload.engine.stats()["read_only"]
        cuts.run(4)
    assert workload.refused > 10
    assert cuts.totals["failed_batches"] > 10
    engine, _ = opened(workload.disk.kill())
    assert state_of(engine) == workload.state()


def test_power_cut_in_the_first_start_leaves_an_empty_engine() -> None:
    for image in images_of_a_start(MemoryDisk(), seeds=10):
        for _ in range(2):
            engine, _ = opened(image)
            assert (state_of(engine), engine.applied_lsn) == ({}, 0)


def test_taking_over_the_memory_engines_directory_may_be_cut_anywhere() -> None:
    disk, images = MemoryDisk(), list[MemoryDisk]()
    for _ in range(3):
        old = open_engine(disk, EngineOptions(segment_bytes=4096, rewrite_ratio=2))
        for number in range(60):
            old.apply([KEYS[number % 6], b"n"], [bytes(200), b"%d" % number])
            old.flush_due()
        old.close()
    assert "log-base" in disk.list()
    old = open_engine(disk.kill(), EngineOptions())
    expected, lsn = dict(old.scan(LOWEST, HIGHEST)), old.applied_lsn
    disk.on_step = lambda: images.extend(disk.crash(Random(seed)) for seed in range(10))
    engine, worker = opened(disk)
    engine.apply([b"more"], [b"1"])
    engine.flush()
    settle(engine, worker)
    states = {lsn: expected, lsn + 1: {**expected, b"more": b"1"}}
    for image in images:
        found, _ = opened(image)
        assert state_of(found) == states[found.applied_lsn]


@pytest.mark.parametrize("seed", range(3))
def test_log_that_is_replayed_over_the_tables_it_became_changes_nothing(seed: int) -> None:
    workload = Workload(700 + seed)
    for _ in range(120):
        workload.step(maintains=False)
    workload.commit()
    disk = workload.disk
    before = disk.kill()
    engine, worker = opened(disk)
    engine.flush()
    engine.apply([b"x"], [b"1"])
    engine.commit()
    settle(engine, worker)
    engine.close()
    # Segments that a flush has made superfluous and that came back: their names' removal was not durable.
    for name in before.list():
        if name.startswith("log-") and name not in disk.files:
            disk.files[name] = before.files[name].copy_to(disk)
    again = open_lsm(disk, TINY, NO_WORKER)
    assert state_of(again) == {**workload.state(), b"x": b"1"}
    assert not set(before.list()) & set(disk.list())
