"""A node that waits sleeps until something is due: a deadline, a read to hedge, a peer's silence."""

from __future__ import annotations

import pytest

from kvbus.core.tick import Effects, Tick
from kvbus.core.types import NodeIndex
from kvbus.errors import RequestTimeout
from kvbus.sim.client import SimClient
from kvbus.sim.world import World
from tests.sim.world import World as Bench


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


def test_a_clock_that_slows_down_loses_no_wake_up_that_falls_into_a_pause() -> None:
    world, client = waiting()
    for name in ("n2", "n3"):
        world.network.resume(world.topology.index[name])
    client.put(b"key", b"value")
    world.processes["n1"].run_clock_at(0.9)
    for _ in range(200):
        world.timeline.run(0.01)
        world.pause("n1")
        world.timeline.run(0.01)
        world.resume("n1")
    steps = world.trace.steps
    world.timeline.run(10.0)
    assert 8 <= world.trace.steps - steps < 20


def test_a_clock_that_speeds_up_brings_wake_ups_forward() -> None:
    world, client = waiting()
    begun = world.timeline.now
    world.timeline.at(begun + 0.05, lambda: world.processes["n1"].run_clock_at(10.0))
    assert client.put(b"key", b"value").degraded
    assert 0.09 < world.timeline.now - begun < 0.11


@pytest.mark.parametrize(("usual_seconds", "deadline_ms", "other_ms"), [(None, 40, 10), (4.0, 1000, 50)])
def test_a_deadline_is_kept_though_a_hedge_lies_behind_it(
    usual_seconds: float | None, deadline_ms: int, other_ms: int
) -> None:
    world = Bench(3)
    world.network.silence(0, 1, 2)
    for peer in (1, 2):
        for _ in range(32 if usual_seconds else 0):
            world.nodes[0].links.observe(NodeIndex(peer), usual_seconds or 0.0)
    begun = world.time.now
    read = world.send(0, "get", key=b"a", r=2, deadline_ms=deadline_ms)
    world.send(0, "put", key=b"b", value=b"x", w=3, deadline_ms=other_ms)
    world.time.run(60.0, until=lambda: read in world.replies)
    assert world.replied_at[read] - begun < deadline_ms / 1000


def test_deadlines_one_after_the_other_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Bench(3)
    world.network.silence(0, 1, 2)
    reads = [world.send(0, "get", key=b"%d" % number, r=3, deadline_ms=200 + 2 * number) for number in range(50)]
    world.time.run(0.17)
    steps: list[Tick] = []
    step = world.nodes[0].step

    def counted(tick: Tick, out: Effects) -> None:
        steps.append(tick)
        step(tick, out)

    monkeypatch.setattr(world.nodes[0], "step", counted)
    world.time.run(0.3)
    assert all(read in world.replies for read in reads)
    assert len(steps) < 30


def test_links_that_are_lost_and_back_in_one_tick_owe_nothing() -> None:
    world = Bench(3)
    world.time.run(0.2)
    world.network.silence(0, 1, 2)
    # One waits for n2 and has n3 to spare, the other the other way round.
    for _ in range(2):
        world.send(0, "get", key=b"k", r=2)
    world.time.run(0.01)
    world.network.cut.clear()
    changes = [(NodeIndex(1), False), (NodeIndex(2), False), (NodeIndex(2), True), (NodeIndex(1), True)]
    world.deliver(0, lambda tick: tick.links.extend(changes))
    for _ in range(40):
        world.time.run(0.25)
        assert world.nodes[0].links.responsive(world.time.now) == 0b111


@pytest.mark.parametrize("deadline_ms", [10, 20, 40])
def test_a_short_deadline_is_kept_though_others_are_due_just_before(deadline_ms: int) -> None:
    world = Bench(3)
    world.network.silence(0, 1, 2)
    begun = world.time.now
    for early in (3, 2, 1):
        world.send(0, "get", key=b"other", r=3, deadline_ms=deadline_ms - early)
    read = world.send(0, "get", key=b"a", r=3, deadline_ms=deadline_ms)
    world.time.run(1.0, until=lambda: read in world.replies)
    assert world.replied_at[read] - begun < deadline_ms / 1000


def test_as_many_others_are_asked_as_were_lost_in_one_tick() -> None:
    world = Bench(5, replicas=5, r=3)
    world.time.run(0.2)
    asked: list[int] = []
    world.network.silence(0, 1, 2, 3, 4)
    world.network.tap = lambda way, frames: asked.append(way[1]) if way[0] == 0 else None
    world.send(0, "get", key=b"k")
    world.time.run(0.001)
    first = list(asked)
    assert len(first) == 2
    lost = [(NodeIndex(peer), False) for peer in first]
    world.deliver(0, lambda tick: tick.links.extend(lost))
    assert len(asked) == 4
    assert len(dict.fromkeys(asked)) == 4
