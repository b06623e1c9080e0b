"""What the disks of a world would give back if every node lost its power now."""

from __future__ import annotations

from random import Random

from kvbus.plugins import engine_plugin
from kvbus.ports.engine import EngineSettings
from tests.sim.world import World
from tests.workers import NO_WORKER


def durable_copies(world: World, value: bytes) -> int:
    """Count the nodes from whose disk, after a power cut at this instant, a record with ``value`` comes back."""
    copies = 0
    for disk in world.disks:
        for path, file in (image := disk.crash(Random(0))).files.items():
            # The worst that a power cut may leave: nothing that was not synced.
            file.data[:] = disk.files[path].data[: disk.files[path].synced]
        engine = engine_plugin("memory")(image, EngineSettings(), worker=NO_WORKER, clock=float)
        copies += any(value in record for _, record in engine.scan(b"", b"\xff" * 40))
    return copies
