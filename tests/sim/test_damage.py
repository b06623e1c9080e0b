"""Records that are not what RECORD.md allows: a damaged copy counts as an absent one, and the next write mends it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from kvbus.core.tick import Tick
from kvbus.core.types import Epoch, NodeIndex
from kvbus.wire.peer_frames import pack_head, unpack_head
from kvbus_modes.ap.acceptance import sound
from kvbus_modes.ap.frames import WRITE, judged_digest, write_payload
from tests.sim.world import World

ONE_SIBLING = b"\x01\x01\x00"
DAMAGED = [
    b"", b"\x01", b"\x01\x02\x00", b"junk" * 30, ONE_SIBLING + bytes(20), ONE_SIBLING + b"\xff" * 60,
    b"\x01\xff\xff" + bytes(60), ONE_SIBLING + bytes(29) + b"\x19\x00\x00\x00" + bytes(100),
    ONE_SIBLING + b"\x01" * 20 + bytes(8) + b"\x02" + bytes(8),
]  # fmt: skip
REQUESTS: list[dict[str, Any]] = [
    {"op": "get", "key": b"key", "r": 1}, {"op": "mget", "keys": [b"key", b"other"], "r": 1},
    {"op": "get", "key": b"key", "r": 3}, {"op": "scan", "with_values": True},
    {"op": "put", "key": b"key", "value": b"new"}, {"op": "delete", "key": b"key"},
]  # fmt: skip


def world_with(record: bytes, *nodes: int) -> tuple[World, bytes, bytes]:
    """Return a world in which ``nodes`` hold ``record`` at b"key", its engine key, and the context of the put."""
    world = World(3)
    world.ask(0, "put", key=b"other", value=b"o")
    context = world.ask(0, "put", key=b"key", value=b"old")["ctx"]
    world.time.run(1)
    (engine_key,) = [key for key, _ in world.engines[0].scan(b"", b"\xff" * 40) if key.endswith(b"key")]
    for node in nodes:
        world.engines[node].apply([engine_key], [record])
        world.engines[node].commit()
    return world, engine_key, context


@pytest.mark.parametrize("record", DAMAGED)
def test_every_request_on_a_damaged_copy_is_answered(record: bytes) -> None:
    for fields in REQUESTS:
        world, engine_key, context = world_with(record, 0)
        if fields["op"] in ("put", "delete"):
            fields = {**fields, "ctx": context}
        reply = world.ask(0, **fields)
        if (fields.get("r") == 1 and fields["op"] == "get") or fields["op"] == "scan":
            assert reply["error"]["code"] == "corrupt"
        elif fields["op"] == "mget":
            assert (reply["values"], [(at, error["code"]) for at, error in reply["errors"]]) == (
                [[], [b"o"]], [(0, "corrupt")],
            )  # fmt: skip
        elif fields["op"] == "get":
            assert reply["values"] == [b"old"]
        else:
            world.time.run(1)
            value = [] if fields["op"] == "delete" else [b"new"]
            assert [world.ask(node, "get", key=b"key", r=1)["values"] for node in range(3)] == [value] * 3
            assert all(sound(world.engines[node].multi_get([engine_key])[0]) for node in range(3))


@pytest.mark.parametrize("record", DAMAGED)
def test_a_replica_with_a_damaged_copy_takes_the_next_version(record: bytes) -> None:
    world, _, context = world_with(record, 1)
    assert world.ask(0, "put", key=b"key", value=b"new", ctx=context, w=3)["ok"]
    assert world.ask(1, "get", key=b"key", r=1)["values"] == [b"new"]


def test_a_key_damaged_everywhere_is_an_error_until_it_is_written() -> None:
    world, _, _ = world_with(DAMAGED[-1], 0, 1, 2)
    assert world.ask(0, "get", key=b"key", r=3)["error"]["code"] == "corrupt"
    assert world.ask(0, "put", key=b"key", value=b"new", w=3)["ok"]
    assert world.ask(2, "get", key=b"key", r=3)["values"] == [b"new"]


@pytest.mark.parametrize("record", DAMAGED)
def test_a_member_that_vouches_for_a_damaged_record_stops_nobody(record: bytes) -> None:
    world, engine_key, _ = world_with(record)
    payload = write_payload([engine_key], [record])
    digest = judged_digest(payload, world.engines[1].multi_get([engine_key]))
    forged = pack_head(WRITE, space=0, batch=1, epoch=Epoch(1)) + digest + payload
    world.deliver(1, partial(take_frame, forged))
    world.time.run(1)
    assert world.ask(1, "get", key=b"key", r=1)["error"]["code"] == "corrupt"
    assert world.ask(1, "get", key=b"key", r=2)["values"] == [b"old"]


@pytest.mark.parametrize("replaces", [False, True])
def test_no_flipped_bit_of_a_write_is_vouched_for(replaces: bool) -> None:
    """A WRITE's digest covers its own bytes: what was damaged on its way is judged like a stranger's."""
    world, _, context = world_with(b"")
    sent: list[bytes] = []
    world.network.tap = lambda way, frames: sent.extend(frames if way == (0, 2) else [])
    world.network.cut = {(0, 2): None}
    world.send(0, "put", key=b"key", value=b"new", ctx=context if replaces else None)
    world.time.run(0.01)
    (frame,) = [frame for frame in sent if unpack_head(frame).kind == WRITE]
    engine = world.engines[2]
    before = dict(engine.scan(b"", b"\xff" * 40))
    for bit in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        world.deliver(2, partial(take_frame, bytes(damaged)))
        assert all(sound(record) for _, record in engine.scan(b"", b"\xff" * 40)), bit
        engine.apply(list(before), list(before.values()))


def take_frame(frame: bytes, tick: Tick) -> None:
    tick.frames.append((NodeIndex(0), frame))
