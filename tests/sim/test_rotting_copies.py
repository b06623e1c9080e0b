"""One node's tables rot again and again: whatever two nodes acknowledged is in each later read of two nodes."""

from __future__ import annotations

from random import Random

import pytest

from kvbus.errors import ClientError
from kvbus.sim.world import World
from tests.sim.flushed import damage

_KEYS = [b"a", b"b"]


class Sets:
    """Shared sets, kept by read-modify-write with ``r`` = ``w`` = 2 of 3 as demands, and what must be in them."""

    def __init__(self, world: World, rng: Random) -> None:
        self.world = world
        self.rng = rng
        self.acknowledged: dict[bytes, set[bytes]] = {key: set() for key in _KEYS}
        self.answered = 0

    def errand(self) -> None:
        """Add an element to a key through some node: to what a read shows, or without a look."""
        key, element = self.rng.choice(_KEYS), b"%d" % self.answered
        with self.world.client(self.rng.choice(self.world.names), deadline_ms=1500) as client:
            try:
                if self.rng.random() < 0.6:
                    client.put(key, element, w=2)
                else:
                    found = client.get(key, r=2)
                    self.judge(key, found.values)
                    client.put(key, b",".join(dict.fromkeys([element, *elements(found.values)])), ctx=found.ctx, w=2)
            except ClientError:
                return
        self.acknowledged[key].add(element)
        self.answered += 1

    def judge(self, key: bytes, values: list[bytes]) -> None:
        assert self.acknowledged[key] <= set(elements(values))


def elements(values: list[bytes]) -> list[bytes]:
    return [element for value in values for element in value.split(b",")]


@pytest.mark.parametrize("seed", range(12))
def test_what_two_nodes_acknowledged_stays_although_one_of_them_rots(seed: int) -> None:
    rng = Random(seed)
    world = World(3, seed=seed, partitions=4)
    world.settle()
    sets = Sets(world, rng)
    for _ in range(10):
        lone = rng.choice(world.names)
        world.partition(f"{lone} | {','.join(name for name in world.names if name != lone)}")
        world.timeline.run(3.0)
        for _ in range(rng.randint(1, 4)):
            sets.errand()
        world.timeline.run(10.0)
        world.processes["n1"].tidy(rng.choice(["flush", "compact"]))
        world.timeline.run(1.0)
        if any(path.startswith("table-") for path in world.processes["n1"].disk.files):
            damage(world, "n1", rng.choice([0.1, 0.3, 0.9]))
        if rng.random() < 0.8:
            world.heal()
            world.settle()
        for _ in range(rng.randint(1, 3)):
            sets.errand()
    world.heal()
    world.settle()
    for name in world.names:
        with world.client(name) as client:
            for key in _KEYS:
                sets.judge(key, client.get(key, r=2).values)
    assert sets.answered > 8
