"""Processes that end while they make a segment of the log, one after the other."""

from __future__ import annotations

from contextlib import suppress
from random import Random

from kvbus.sim.disk import MemoryDisk, PowerCut
from kvbus_storage import open_engine
from kvbus_storage.options import EngineOptions


def cut_after(disk: MemoryDisk, steps: int) -> bool:
    """Open an engine, write, and cut that off after so many steps of the disk; say whether it was."""
    left = [steps]

    def count_down() -> None:
        left[0] -= 1
        if not left[0]:
            raise PowerCut

    disk.on_step = count_down
    with suppress(PowerCut):
        engine = open_engine(disk, EngineOptions())
        engine.apply([b"a"], [b"1"])
        engine.commit()
    return left[0] <= 0


def test_segments_whose_making_was_cut_off_twice_are_no_damage() -> None:
    """A kill may leave a segment whose name is only in the system's memory; the next one's must not outlive it."""
    steps = 1
    while cut_after(first := MemoryDisk(), steps):
        again = 1
        while cut_after(second := first.kill(), again):
            for seed in range(20):
                engine = open_engine(second.crash(Random(seed)), EngineOptions())
                assert engine.get(b"a") in (None, b"1")
            again += 1
        steps += 1
    assert steps > 4
