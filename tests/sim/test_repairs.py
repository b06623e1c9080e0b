"""A node whose copy of a key is damaged speaks for the key again when it knows all that the others know, not before."""

from __future__ import annotations

from typing import cast

import pytest

from kvbus.errors import ClientError, Corrupt
from kvbus.sim.world import World
from kvbus_modes.ap.causality import Context
from tests.sim.flushed import KEYS, damage, flushed

KEY, OTHER = KEYS[0], KEYS[1]


def world_of_a_missed_version() -> World:
    """Return a world where ``n3`` has missed the version ``missed``, and the copies of ``n1`` are damaged."""
    world = flushed(3)
    world.partition("n1,n2 | n3")
    with world.client("n1") as client:
        client.put(KEY, b"missed", ctx=client.get(KEY).ctx, w=2)
    world.timeline.run(10.0)
    damage(world, "n1", 0.2)
    world.heal()
    world.settle()
    return world


def values_at(world: World, name: str, r: int, key: bytes = KEY) -> list[bytes]:
    with world.client(name) as client:
        return sorted(client.get(key, r=r).values)


def own_values(world: World, name: str, key: bytes = KEY) -> list[bytes]:
    """Return what ``name`` knows by itself: all others are down."""
    others = [other for other in world.names if other != name]
    for other in others:
        world.kill(other)
    world.timeline.run(2.0)
    found = values_at(world, name, 1, key)
    for other in others:
        world.start(other)
    world.settle()
    return found


def repaired(world: World) -> list[int]:
    return [world.processes[name].metrics.repaired_records_total for name in world.names]


@pytest.mark.parametrize("delete", [False, True])
def test_a_write_at_the_damaged_copy_hides_nothing_that_one_other_node_alone_knows(delete: bool) -> None:
    world = world_of_a_missed_version()
    with world.client("n1") as client:
        written = client.delete(KEY, w=2) if delete else client.put(KEY, b"blind", w=2)
        assert not written.degraded
    expected = [b"missed"] if delete else [b"blind", b"missed"]
    for name in world.names:
        assert values_at(world, name, 2) == expected
    assert own_values(world, "n1") == expected
    assert repaired(world) == [1, 0, 0]


def test_a_write_that_comes_from_a_node_that_missed_a_version_does_not_stand_in_for_the_damaged_copy() -> None:
    world = world_of_a_missed_version()
    world.cut([("n2", "n1"), ("n1", "n2")])
    world.timeline.run(2.0)
    with world.client("n3") as client:
        client.put(KEY, b"late", w=2)
        with pytest.raises(ClientError):
            client.put(KEY, b"later", w=3)
    world.kill("n2")
    world.timeline.run(2.0)
    with world.client("n1") as client, pytest.raises(Corrupt):
        client.get(KEY, r=2)
    assert repaired(world) == [0, 0, 0]
    world.heal()
    world.start("n2")
    world.settle()
    assert values_at(world, "n1", 2) == [b"late", b"later", b"missed"]
    world.timeline.run(1.0)
    assert own_values(world, "n1") == [b"late", b"later", b"missed"]


def test_a_read_has_the_damaged_copy_repaired() -> None:
    world = world_of_a_missed_version()
    assert values_at(world, "n1", 2) == [b"missed"]
    world.timeline.run(1.0)
    assert repaired(world) == [1, 0, 0]
    assert own_values(world, "n1") == [b"missed"]


def test_a_read_of_many_keys_has_them_repaired_one_after_the_other() -> None:
    world = flushed(3)
    damage(world, "n1", 0.2)
    with world.client("n1") as client:
        client.get_many(KEYS)
        world.timeline.run(1.0)
    assert repaired(world) == [len(KEYS), 0, 0]


def test_a_damaged_copy_is_not_repaired_while_another_replica_does_not_answer() -> None:
    world = world_of_a_missed_version()
    world.kill("n2")
    world.timeline.run(2.0)
    with world.client("n1") as client:
        with pytest.raises(Corrupt):
            client.get(KEY, r=2)
        written = client.put(KEY, b"blind")
        assert written.degraded, "another node wrote it, alone"
        with pytest.raises(Corrupt):
            client.get(KEY, r=2)
    assert repaired(world) == [0, 0, 0]
    world.start("n2")
    world.settle()
    assert values_at(world, "n1", 2) == [b"blind", b"missed"]
    world.timeline.run(1.0)
    for name in world.names:
        assert values_at(world, name, 3) == [b"blind", b"missed"]


def test_alone_with_its_damaged_copy_a_node_refuses_a_write_and_says_whom_it_misses() -> None:
    world = world_of_a_missed_version()
    for name in ("n2", "n3"):
        world.kill(name)
    world.timeline.run(2.0)
    with world.client("n1") as client:
        with pytest.raises(Corrupt, match="missing: n2, n3") as refused:
            client.put(KEY, b"blind")
        assert refused.value.definite
        assert client.put(b"elsewhere", b"1").degraded


def test_where_all_copies_are_damaged_a_key_can_be_written_anew() -> None:
    world = flushed(3)
    for name in world.names:
        damage(world, name, 0.2)
    with world.client("n1") as client:
        with pytest.raises(Corrupt):
            client.get(KEY)
        client.put(KEY, b"anew")
        world.timeline.run(1.0)
        assert client.get(KEY, r=3).values == [b"anew"]
        with pytest.raises(Corrupt):
            client.get(OTHER)


def test_two_damaged_copies_are_not_repaired_by_reads() -> None:
    world = world_of_a_missed_version()
    damage(world, "n2", 0.2)
    for name in world.names:
        with world.client(name) as client, pytest.raises(Corrupt):
            client.get(KEY, r=2)
    world.timeline.run(1.0)
    assert repaired(world) == [0, 0, 0]


def test_no_dot_comes_twice_after_a_repair_that_brought_back_less() -> None:
    world = flushed(3)
    with world.client("n1") as client:
        client.put(KEY, b"known", ctx=client.get(KEY).ctx)
        world.timeline.run(1.0)
        world.partition("n1 | n2,n3")
        world.timeline.run(5.0)
        lost = client.put(KEY, b"lost", ctx=client.get(KEY, r=1).ctx)
    world.timeline.run(10.0)
    damage(world, "n1", 0.2)
    world.heal()
    world.settle()
    with world.client("n1") as client:
        known = client.get(KEY)
        assert known.value == b"known"
        again = client.put(KEY, b"again", ctx=known.ctx)
    seen = Context.from_bytes(known.ctx or b"").dots()
    (lost_dot,), (new_dot,) = (
        [run for run in Context.from_bytes(put.ctx or b"").dots() if run not in seen] for put in (lost, again)
    )
    assert lost_dot[0] in [actor for actor, _, _ in seen], "it went on with an epoch"
    assert new_dot[0] not in [actor for actor, _, _ in seen], "a new one was begun"


def test_of_a_batch_only_the_damaged_keys_wait_and_each_is_answered() -> None:
    world = flushed(3, random_bytes=1000)
    damage(world, "n1", 0.2)
    with world.client("n1") as client:
        replies = client.put_many([(key, b"new", client.get(key).ctx) for key in KEYS])
        assert not any(isinstance(reply, ClientError) for reply in replies)
        assert [reply.value for reply in client.get_many(KEYS, r=3) if not isinstance(reply, ClientError)] == [
            b"new"
        ] * len(KEYS)


def test_explain_names_the_damaged_copy() -> None:
    world = world_of_a_missed_version()
    with world.client("n1") as client:
        explained = client.get(KEY, r=2, explain=True).explain
    assert explained is not None
    replicas = cast("list[dict[str, object]]", explained["replicas"])
    states = {replica["node"]: replica["state"] for replica in replicas}
    assert states == {"n1": "damaged", "n2": "answered", "n3": "answered"}
