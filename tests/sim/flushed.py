"""Worlds whose data lie in tables."""

from __future__ import annotations

from kvbus.sim.world import World

KEYS = [b"key-%02d" % number for number in range(40)]


def flushed(nodes: int) -> World:
    """Return a world whose nodes have all data in tables, and nothing of it in memory."""
    world = World(nodes, seed=1, partitions=4)
    world.settle()
    with world.client("n1") as client:
        for key in KEYS:
            client.put(key, b"value of " + key)
    world.timeline.run(10.0)
    for name in world.names:
        world.stop(name)
    world.timeline.run(10.0)
    for name in world.names:
        world.start(name)
    world.settle()
    return world
