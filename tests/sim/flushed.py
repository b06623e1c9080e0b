"""Worlds whose data lie in tables."""

from __future__ import annotations

from random import Random

from kvbus.sim.world import World

KEYS = [b"key-%02d" % number for number in range(40)]


def value_of(key: bytes, random_bytes: int = 0) -> bytes:
    """Return what stands at ``key``."""
    return b"value of " + key + Random(key).randbytes(random_bytes)


def flushed(nodes: int, random_bytes: int = 0) -> World:
    """Return a world whose nodes have all data in tables, and nothing of it in memory."""
    world = World(nodes, seed=1, partitions=4)
    world.settle()
    with world.client("n1") as client:
        for key in KEYS:
            client.put(key, value_of(key, random_bytes))
    world.timeline.run(10.0)
    for name in world.names:
        world.stop(name)
    world.timeline.run(10.0)
    for name in world.names:
        world.start(name)
    world.settle()
    return world


def damage(world: World, name: str, share: float) -> None:
    """Flip a byte of each table of a node, which is stopped for it, at ``share`` of its length."""
    world.stop(name)
    world.timeline.run(10.0)
    tables = [file for path, file in world.processes[name].disk.files.items() if path.startswith("table-")]
    assert tables
    for file in tables:
        file.data[int(len(file.data) * share)] ^= 0xFF
    world.start(name)
    world.settle()
