"""Reads of more bytes than one answer holds: what did not fit is said, or read again, and never dropped."""

from __future__ import annotations

import pytest

from kvbus.core.columns import pack_column
from kvbus.core.tick import Tick
from kvbus.core.types import Epoch, NodeIndex
from kvbus.wire.peer_frames import MAX_FRAME_BYTES, pack_head, unpack_head
from kvbus_modes.ap.frames import READ, READ_ANSWER, READ_ANSWER_BYTES
from tests.sim.copies import store, version
from tests.sim.world import Reply, World

MIB = 1 << 20


def holding(records: dict[bytes, bytes]) -> World:
    """Return a world of three nodes that hold the same records."""
    world = World(3)
    for node in range(3):
        store(world, node, records)
    return world


def large(keys: list[bytes], size: int = MIB) -> World:
    """Return a world that holds a value of ``size`` bytes at each key."""
    return holding({key: version(bytes(size)) for key in keys})


def frames_of(world: World, kind: int) -> list[int]:
    """Return the sizes of the frames of ``kind`` that leave from now on; they grow as time passes."""
    sizes: list[int] = []

    def tap(way: tuple[int, int], frames: list[bytes]) -> None:
        sizes.extend(len(frame) for frame in frames if unpack_head(frame).kind == kind)

    world.network.tap = tap
    return sizes


def too_large(reply: Reply) -> list[int]:
    assert {(error["code"], error["definite"]) for _, error in reply["errors"]} <= {("too_large", True)}
    return [index for index, _ in reply["errors"]]


@pytest.mark.parametrize("r", [1, 2, 3])
def test_keys_behind_a_full_answer_are_too_large_and_those_before_it_are_read(r: int) -> None:
    keys = [b"%d" % number for number in range(40)]
    world = large(keys)
    sizes = frames_of(world, READ_ANSWER)
    reply = world.ask(0, "mget", keys=keys, r=r)
    refused = too_large(reply)
    assert "degraded" not in reply
    assert world.time.now < 0.1
    assert max(sizes, default=0) < READ_ANSWER_BYTES + MIB < MAX_FRAME_BYTES
    # The reply is shorter still than an answer between nodes.
    assert refused == list(range(3, 40))
    assert all("by itself" in error["message"] for _, error in reply["errors"])
    for index in refused[:3]:
        assert world.ask(0, "get", key=keys[index], r=r)["values"] == [bytes(MIB)]


@pytest.mark.parametrize("r", [1, 2, 3])
def test_what_a_replica_leaves_out_is_too_large_even_where_the_reply_has_room(r: int) -> None:
    keys = [b"%d" % number for number in range(40)]
    world = holding({key: version(bytes(MIB), expiry_ms=1) for key in keys})
    reply = world.ask(0, "mget", keys=keys, r=r)
    assert too_large(reply) == list(range(7, 40))
    assert reply["values"] == [[]] * 40
    assert [token is None for token in reply["ctxs"]] == [False] * 7 + [True] * 33


def test_a_key_named_many_times_does_not_multiply_the_bytes_on_the_wire() -> None:
    world = large([b"k"])
    sizes = frames_of(world, READ_ANSWER)
    reply = world.ask(0, "mget", keys=[b"k"] * 500, r=3)
    assert len(too_large(reply)) == 497
    assert sum(sizes) < 2 * (READ_ANSWER_BYTES + MIB)


def test_a_record_longer_than_an_answer_is_still_read() -> None:
    world = large([b"k", b"l"], READ_ANSWER_BYTES + 1)
    for key in (b"k", b"l"):
        assert len(world.ask(0, "get", key=key, r=3)["values"][0]) == READ_ANSWER_BYTES + 1


@pytest.mark.parametrize("r", [1, 2, 3])
def test_calls_that_come_behind_a_large_one_are_read_all_the_same(r: int) -> None:
    keys = [b"%d" % number for number in range(20)]
    world = holding({**{key: version(bytes(MIB)) for key in keys}, b"small": version(b"v")})
    sizes = frames_of(world, READ_ANSWER)
    greedy, *others = world.send_together(
        0,
        [
            {"op": "mget", "keys": keys, "r": r},
            {"op": "get", "key": b"small", "r": r},
            {"op": "mget", "keys": [b"small", b"absent"], "r": r},
            *({"op": "get", "key": key, "r": r} for key in keys),
        ],
    )
    world.time.run(1)
    assert too_large(world.replies[greedy]) == list(range(3, 20))
    single, packed, *each = (world.replies[request] for request in others)
    assert single["values"] == [b"v"]
    assert (packed["values"], packed["errors"]) == ([[b"v"], []], [])
    assert [reply["values"] for reply in each] == [[bytes(MIB)]] * 20
    assert max(sizes, default=0) < READ_ANSWER_BYTES + MIB
    assert world.nodes[0].pending() == 0
    assert max(world.replied_at[request] for request in others) < 0.2


def test_what_is_read_again_keeps_its_demand() -> None:
    keys = [b"%d" % number for number in range(20)]
    world = large(keys)
    ids = world.send_together(0, [{"op": "get", "key": key, "r": 3, "receipt": True} for key in keys])
    world.time.run(1)
    assert [world.replies[request]["receipt"]["acks"] for request in ids] == [3] * 20
    assert len(dict.fromkeys(world.replied_at[request] for request in ids)) == 3


def test_what_is_read_again_keeps_its_deadline() -> None:
    keys = [b"%d" % number for number in range(20)]
    world = large(keys)
    world.network.slow = {(1, 0): 0.4, (2, 0): 0.4}
    ids = world.send_together(0, [{"op": "get", "key": key, "r": 2, "deadline_ms": 1000} for key in keys])
    world.time.run(5)
    codes = [world.replies[request].get("error", {"code": "ok"})["code"] for request in ids]
    assert codes == ["ok"] * 14 + ["timeout"] * 6
    assert max(world.replied_at.values()) <= 1.0
    assert world.nodes[0].pending() == 0


def test_the_shortest_answer_decides_what_is_merged_and_a_small_one_what_is_asked_again() -> None:
    keys = [b"%d" % number for number in range(6)]
    world = World(3)
    for node in (0, 1, 2):
        store(world, node, {key: version(b"mine", server=node + 20) for key in keys})
    world.network.silence(0, 1, 2)
    asked: list[tuple[int, int]] = []

    def tap(way: tuple[int, int], frames: list[bytes]) -> None:
        asked.extend((way[1], unpack_head(frame).batch) for frame in frames if frame[0] == READ)

    world.network.tap = tap
    request = world.send(0, "mget", keys=keys, r=3)
    world.time.run(0.01)
    for counts in ((4, 2), (4, 4)):
        (first, second), asked[:] = asked[:2], asked[2:]
        for (peer, batch), count in zip((first, second), counts, strict=True):
            records = [version(b"mine", server=peer + 20) for _ in range(count)]
            frame = pack_head(READ_ANSWER, space=0, batch=batch, epoch=Epoch(1)) + pack_column(records)

            def fill(tick: Tick, peer: int = peer, frame: bytes = frame) -> None:
                tick.frames.append((NodeIndex(peer), frame))

            world.deliver(0, fill)
        world.time.run(0.01)
    reply = world.replies[request]
    assert reply["errors"] == []
    assert reply["values"] == [[b"mine"] * 3] * 6
