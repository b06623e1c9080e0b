"""What the disks of a world would give back if every node lost its power now."""

from __future__ import annotations

from random import Random

from kvbus.plugins import engine_plugin
from tests.sim.world import World


def durable_copies(world: World, value: bytes) -> int:
    """Count the nodes from whose disk, after a power cut at this instant, a record with ``value`` comes back."""
    copies = 0
    for disk in world.disks:
        for path, file in (image := disk.crash(Random(0))).files.items():
            # The worst that a power cut may leave: nothing that was not synced.
            file.data[:] = disk.files[path].data[: disk.files[path].synced]
        engine = engine_plugin("memory")(image, sync="batch", interval_ms=1000, clock=float)
        copies += any(value in record for _, record in engine.scan(b"", b"\xff" * 40))
    return copies
