"""The crash-clone disk: what a power cut, and what only the end of a process, may leave."""

from __future__ import annotations

from random import Random

import pytest

from kvbus.ports.engine import EngineSettings
from kvbus.sim.disk import MemoryDisk, PowerCut
from kvbus_storage import MEMORY
from kvbus_storage.memory_engine import MemoryEngine
from tests.workers import NO_WORKER


def disk_with(synced: bytes, unsynced: bytes) -> MemoryDisk:
    disk = MemoryDisk()
    file = disk.create("log")
    file.append(synced)
    file.sync()
    disk.sync_folder()
    file.append(unsynced)
    return disk


def test_images_hold_what_was_synced_and_every_torn_length_of_the_rest() -> None:
    images = [image.read("log") for image in disk_with(b"safe", b"abc").images()]
    assert {b"safe", b"safea", b"safeab", b"safeabc", b"safe\0\0\0"} == set(images)
    assert len(images) == len(set(images))


def test_images_miss_one_sector_at_a_time() -> None:
    unsynced = b"x" * 512 + b"y" * 512
    images = {image.read("log") for image in disk_with(b"", unsynced).images()}
    assert bytes(512) + b"y" * 512 in images
    assert b"x" * 512 + bytes(512) in images


def test_every_random_crash_keeps_the_synced_bytes() -> None:
    disk = disk_with(b"safe", b"abc" * 400)
    left = {disk.crash(Random(seed)).read("log") for seed in range(50)}
    assert all(content.startswith(b"safe") for content in left)
    assert len(left) > 10


def test_the_end_of_a_process_loses_nothing_but_makes_nothing_safe() -> None:
    left = disk_with(b"safe", b"abc").kill()
    assert left.read("log") == b"safeabc"
    assert b"safe" in {image.read("log") for image in left.images()}


def engine_on(disk: MemoryDisk) -> MemoryEngine:
    engine = MEMORY(disk, EngineSettings(), worker=NO_WORKER, clock=float)
    assert isinstance(engine, MemoryEngine)
    return engine


@pytest.mark.parametrize("step", range(1, 10))
def test_every_image_of_every_step_of_a_start_and_two_commits_recovers_what_was_durable(step: int) -> None:
    """Cut the power behind the ``step``-th change of the disk; look at all that may be left."""
    disk = MemoryDisk()
    images: list[tuple[int, MemoryDisk]] = []
    durable = 0
    changes = 0

    def look() -> None:
        nonlocal changes
        changes += 1
        if changes == step:
            images.extend((durable, image) for image in disk.images())

    disk.on_step = look
    engine = engine_on(disk)
    for number in range(1, 4):
        engine.apply([b"\0\0\0\1\0\0k"], [b"%d" % number])
        durable = int(engine.commit())
    for promised, image in images:
        found = engine_on(image).get(b"\0\0\0\1\0\0k")
        assert int(found or b"0") >= promised


@pytest.mark.parametrize("seed", range(30))
def test_what_a_killed_process_had_not_synced_is_safe_once_the_next_one_has_built_on_it(seed: int) -> None:
    """Kill between a commit's write and its sync, start again, write, cut the power: the log must be whole."""
    disk = MemoryDisk()
    engine = engine_on(disk)
    engine.apply([b"\0\0\0\1\0\0k"], [b"synced"])

    def die() -> None:
        raise PowerCut

    engine.commit()
    engine.apply([b"\0\0\0\1\0\0k"], [b"unsynced too"])
    disk.on_step = die
    with pytest.raises(PowerCut):
        engine.commit()
    restarted = disk.kill()
    again = engine_on(restarted)
    assert again.get(b"\0\0\0\1\0\0k") == b"unsynced too"
    again.apply([b"\0\0\0\1\0\0l"], [b"acknowledged"])
    again.commit()
    last = engine_on(restarted.crash(Random(seed)))
    assert last.get(b"\0\0\0\1\0\0l") == b"acknowledged"
    assert last.get(b"\0\0\0\1\0\0k") == b"unsynced too"
