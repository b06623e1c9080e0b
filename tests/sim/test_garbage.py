"""Peer frames that break the protocol: counted, and nothing else happens. Random bytes, cut frames, wrong answers."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvbus.core.columns import pack_column
from kvbus.core.tick import Tick
from kvbus.core.types import Epoch, NodeIndex
from kvbus.wire.cbor import dumps
from kvbus.wire.peer_frames import HEAD_BYTES, pack_head, unpack_head
from kvbus_modes.ap.frames import (
    EXHAUSTED,
    FORWARD_ANSWER,
    NO_DIGEST,
    READ,
    READ_ANSWER,
    SCAN_ANSWER,
    WRITE,
    WRITE_ACK,
    ack_payload,
    write_payload,
)
from kvbus_modes.ap.record import encode_one
from tests.sim.world import Reply, World

KEYS = [b"a", b"b"]


def captured(nodes: int) -> list[bytes]:
    """Return one frame of each kind and size that a busy world sends."""
    world = World(nodes)
    frames: dict[tuple[int, int], bytes] = {}
    world.network.tap = lambda way, sent: frames.update({(frame[0], len(frame)): frame for frame in sent})
    for number in range(30):
        world.send(number % nodes, "put", key=b"%d" % (number % 3), value=b"v" * number, ttl_ms=number or None)
        world.send(number % nodes, "mget", keys=[b"1", b"2"])
        world.send(number % nodes, "scan")
        world.send(number % nodes, "delete", key=b"2")
        world.time.run(0.001)
    return list(frames.values())


FRAMES = captured(5)


def errors(world: World, node: int = 0) -> int:
    return world.nodes[node].metrics.peer_protocol_errors_total


def battered(world: World, garbage: list[bytes]) -> dict[int, Reply]:
    """Let node 0 serve a put, gets and a scan while a peer throws ``garbage`` at it."""
    put = world.ask(0, "mput", keys=KEYS, values=[b"v", b"w"])
    requests = [
        world.send(0, "put", key=b"a", value=b"x", ctx=put["ctxs"][0]),
        world.send(0, "mget", keys=KEYS),
        world.send(0, "scan", with_values=True),
    ]
    for frame in garbage:
        world.network.post((1, 0), [frame])
        world.time.run(0.0004)
    world.time.run(6)
    world.ask(0, "mget", keys=KEYS, r=3)
    world.ask(0, "scan", with_values=True, r=3)
    assert all(request in world.replies for request in requests)
    assert world.nodes[0].pending() == 0
    return world.replies


@given(st.lists(st.binary(max_size=80), max_size=12))
@settings(max_examples=60)
def test_random_bytes_change_nothing(garbage: list[bytes]) -> None:
    world = World(3)
    battered(world, [frame for frame in garbage if not 0x10 <= (frame or b"\0")[0] < 0x20])
    assert [reply["ok"] for reply in world.replies.values()] == [True] * 6
    assert errors(world) >= sum(not 0x10 <= (frame or b"\0")[0] < 0x20 for frame in garbage)


@given(st.integers(0x10, 0x1F), st.binary(max_size=60), st.integers(0, 1 << 42))
@settings(max_examples=150)
def test_random_bodies_of_every_kind_are_survived(kind: int, body: bytes, batch: int) -> None:
    world = World(3)
    replies = battered(world, [pack_head(kind, space=0, batch=batch, epoch=Epoch(1)) + body])
    assert all(reply["ok"] for reply in replies.values())


@given(st.sampled_from(FRAMES), st.data())
@settings(max_examples=250)
def test_a_cut_frame_is_counted_and_changes_nothing(frame: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(frame) - 1))
    world = World(3)
    before = list(world.engines[0].scan(b"", b"\xff" * 40))
    world.network.post((1, 0), [frame[:cut]])
    world.time.run(0.1)
    assert list(world.engines[0].scan(b"", b"\xff" * 40)) == before
    known = frame[0] in (WRITE_ACK, READ_ANSWER, SCAN_ANSWER, FORWARD_ANSWER) or frame[0] == 0x16
    assert errors(world) == 1 or (known and cut >= HEAD_BYTES)
    assert world.ask(0, "put", key=b"k", value=b"v")["ok"]


@given(st.sampled_from(FRAMES), st.integers(0, 1 << 62), st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_a_damaged_frame_is_survived(frame: bytes, batch: int, rng: Random) -> None:
    world = World(3)
    damaged = bytearray(frame)
    for _ in range(rng.randint(1, 4)):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    damaged[8:16] = rng.choice([damaged[8:16], ((1 << 40) + batch % 4).to_bytes(8, "little")])
    battered(world, [bytes(damaged)])


def wrong_answers() -> list[tuple[int, bytes]]:
    """Frames that parse, and answer something else than what was asked."""
    record = encode_one(bytes([9]) + bytes(11) + b"\1" + bytes(7), b"", 5, None, b"wrong")
    bad_record = record[:-1]
    head = bytes(6)
    ok: dict[str, Any] = {"id": 0, "ok": True, "ctxs": [b"x"], "errors": []}
    replies: list[object] = [
        {}, {"ok": True}, {"ok": False}, {"ok": False, "error": 5}, {**ok, "ctxs": []}, {**ok, "ctxs": [5]},
        {**ok, "errors": [[7, {}]]}, {**ok, "errors": [5]}, {**ok, "errors": {}}, {**ok, "degraded": True},
        {**ok, "receipt": {"mode": "ap"}}, {**ok, "receipt": 5}, [], 5,
    ]  # fmt: skip
    return [
        (READ_ANSWER, pack_column([])),
        (READ_ANSWER, pack_column([record] * 21)),
        (READ_ANSWER, pack_column([bad_record, None])),
        (READ_ANSWER, pack_column([b"", b"\x01"])),
        (READ_ANSWER, pack_column([record + b"x", record])),
        (READ_ANSWER, pack_column([record[:36] + b"\1" + record[37:], None])),
        (SCAN_ANSWER, write_payload([], [])),
        (SCAN_ANSWER, write_payload([b"short"], [record])),
        (SCAN_ANSWER, write_payload([head + b"k"], [record])),
        (SCAN_ANSWER, write_payload([b"\xff" * 9], [record])),
        (SCAN_ANSWER, write_payload([head + b"k", head + b"j"], [record, record])),
        (WRITE, NO_DIGEST + write_payload([head + b"k"], [bad_record])),
        (WRITE, NO_DIGEST + write_payload([head + b"k", head + b"l"], [record, b""])),
        (WRITE_ACK, ack_payload([0, 7, 7, 1 << 31])),
        *((FORWARD_ANSWER, dumps(reply)) for reply in replies),
    ]


@pytest.mark.parametrize("flags", [0, EXHAUSTED])
@pytest.mark.parametrize(("kind", "body"), wrong_answers())
def test_an_answer_to_something_else_is_no_answer(kind: int, body: bytes, flags: int) -> None:
    world = World(5)
    for node in range(5):
        world.ask(node, "mput", keys=[b"%d" % number for number in range(20)], values=[b"v"] * 20)
    before = list(world.engines[0].scan(b"", b"\xff" * 40))
    world.network.slow = {(node, 0): 0.01 for node in range(1, 5)}

    def take(arrived: tuple[NodeIndex, bytes], tick: Tick) -> None:
        tick.frames.append(arrived)

    def answer(way: tuple[int, int], frames: list[bytes]) -> None:
        for frame in frames if way[0] == 0 else []:
            forged = pack_head(kind, space=0, batch=unpack_head(frame).batch, epoch=Epoch(1), flags=flags) + body
            world.deliver(0, partial(take, (NodeIndex(way[1]), forged)))

    world.network.tap = answer
    ids = [world.send(0, "put", key=b"%d" % number, value=b"new") for number in range(20)]
    ids.append(world.send(0, "mget", keys=[b"%d" % number for number in range(20)]))
    ids.append(world.send(0, "scan", with_values=True))
    world.time.run(6)
    assert sorted(ids) == sorted(request for request in world.replies if request in ids)
    assert b"wrong" not in repr([world.replies[request] for request in ids]).encode()
    if kind == WRITE:
        assert [key for key, _ in world.engines[0].scan(b"", b"\xff" * 40)] == [key for key, _ in before]


def test_an_unknown_batch_is_ignored() -> None:
    world = World(3)
    for kind, body in ((WRITE_ACK, ack_payload([])), (READ_ANSWER, pack_column([]))):
        world.network.post((1, 0), [pack_head(kind, space=0, batch=77, epoch=Epoch(1)) + body])
    world.time.run(1)
    assert errors(world) == 0


def test_a_frame_behind_a_broken_one_is_still_served() -> None:
    world = World(3)
    asked = pack_head(READ, space=0, batch=5, epoch=Epoch(1)) + pack_column([bytes(6) + b"key"])
    answers: list[bytes] = []
    world.network.tap = lambda way, frames: answers.extend(frames)
    world.network.post((1, 0), [b"", b"\x12", asked])
    answers.clear()
    world.time.run(1)
    assert [unpack_head(frame).kind for frame in answers] == [READ_ANSWER]
    assert errors(world) == 2
