"""A node that waits sleeps until something is due: a deadline, a read to hedge, a peer's silence."""

from __future__ import annotations

import pytest

from kvbus.errors import RequestTimeout
from kvbus.sim.client import SimClient
from kvbus.sim.world import World


def waiting(deadline_ms: int = 5000) -> tuple[World, SimClient]:
    """Return a world whose n2 and n3 hang, and a client of n1 that is linked to it."""
    world = World(3, seed=1)
    world.settle()
    client = world.client("n1", deadline_ms=deadline_ms)
    client.get(b"another key")
    for name in ("n2", "n3"):
        world.pause(name)
    return world, client


def test_a_put_that_waits_for_silent_peers_costs_few_steps_and_ends_when_they_are_silent() -> None:
    world, client = waiting()
    begun, steps = world.timeline.now, world.trace.steps
    assert client.put(b"key", b"value").degraded
    assert 0.5 <= world.timeline.now - begun < 0.51
    assert world.trace.steps - steps < 10


def test_a_demand_that_is_not_met_ends_at_its_deadline() -> None:
    world, client = waiting(deadline_ms=300)
    begun, steps = world.timeline.now, world.trace.steps
    with pytest.raises(RequestTimeout, match="the deadline passed"):
        client.get(b"key", r=2)
    assert 0.2 < world.timeline.now - begun < 0.3
    assert world.trace.steps - steps < 10


def test_silent_peers_are_asked_for_a_sign_of_life_once_a_second() -> None:
    world, client = waiting()
    # Their connections stay: heartbeats come from another thread than the one that hangs.
    for name in ("n2", "n3"):
        world.network.resume(world.topology.index[name])
    client.put(b"key", b"value")
    steps = world.trace.steps
    world.timeline.run(10.0)
    assert 10 <= world.trace.steps - steps < 20
