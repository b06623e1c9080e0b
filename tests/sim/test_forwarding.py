"""Writes at a node without a copy: five nodes, three replicas, one hop."""

from __future__ import annotations

from typing import Any

import pytest

from kvbus.core.ring import key_hash, partition_of
from kvbus.ports.mode import Limits
from kvbus.wire.cbor import decode_map
from kvbus.wire.peer_frames import HEAD_BYTES, unpack_head
from kvbus_modes.ap import MODE
from kvbus_modes.ap.frames import FORWARD, FORWARD_ANSWER
from tests.sim.world import World


def owners(world: World, key: bytes) -> tuple[int, ...]:
    return world.topology.owners[partition_of(key_hash("default", key), world.topology.shift)]


def stranger(world: World, key: bytes) -> int:
    return next(node for node in range(5) if node not in owners(world, key))


def hops(world: World) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []

    def tap(way: tuple[int, int], frames: list[bytes]) -> None:
        seen.extend(way for frame in frames if unpack_head(frame).kind == FORWARD)

    world.network.tap = tap
    return seen


def test_a_forwarded_put_takes_one_hop_and_its_token_comes_back() -> None:
    for number in range(20):
        world, key = World(5, seed=number), b"key %d" % number
        seen, node = hops(world), stranger(World(5), key)
        put = world.ask(node, "put", key=key, value=b"v", receipt=True)
        ((sender, coordinator),) = seen
        assert (sender, coordinator in owners(world, key)) == (node, True)
        assert MODE.clock(put["ctx"]) == {coordinator: 1}
        assert put["receipt"]["node"] == f"n{coordinator + 1}"
        assert (put["receipt"]["acks"], put["receipt"]["guarantee"]) == (2, "eventual")
        assert world.ask(node, "get", key=key)["values"] == [b"v"]


def test_any_node_serves_any_key() -> None:
    world = World(5)
    for number in range(60):
        key = b"%d" % number
        put = world.ask(number % 5, "put", key=key, value=key)
        assert world.ask((number + 1) % 5, "get", key=key)["values"] == [key]
        assert world.ask((number + 2) % 5, "delete", key=key, ctx=put["ctx"])["ok"]
        assert world.ask((number + 3) % 5, "get", key=key)["values"] == []


def test_a_batch_goes_to_every_replica_set_and_comes_back_in_order() -> None:
    world = World(5)
    keys = [b"%d" % number for number in range(100)]
    put = world.ask(0, "mput", keys=keys, values=keys, receipt=True)
    assert put["errors"] == []
    assert all(put["ctxs"])
    assert world.ask(3, "mget", keys=keys[::-1])["values"] == [[key] for key in keys[::-1]]


def test_a_degraded_mark_and_its_acks_are_relayed() -> None:
    world, key = World(5), b"k"
    node = stranger(world, key)
    first, *others = owners(world, key)
    for other in others:
        world.crash(other)
    put = world.ask(node, "put", key=key, value=b"v", receipt=True)
    assert (put["ok"], put["degraded"], put["acks"]) == (True, True, 1)
    assert put["receipt"]["replicas"] == [f"n{first + 1}"]


def with_full_key(key: bytes) -> tuple[World, int]:
    """Return a world where ``key`` has all the siblings it may, and a stranger to it with a way to one owner only."""
    world = World(5)
    node = stranger(world, key)
    coordinator, *others = owners(world, key)
    for other in others:
        world.network.set_link(node, other, False)
    for number in range(100):
        world.ask(coordinator, "put", key=key, value=b"%d" % number)
    return world, node


def test_an_error_at_the_coordinator_is_relayed_with_its_details() -> None:
    key = b"k"
    world, node = with_full_key(key)
    refused = world.ask(node, "put", key=key, value=b"v")["error"]
    assert (refused["code"], refused["definite"], refused["cap"]) == ("too_many_siblings", True, 100)
    batch = world.ask(node, "mput", keys=[key, b"other"], values=[b"v", b"v"])
    assert [(index, error["code"]) for index, error in batch["errors"]] == [(0, "too_many_siblings")]
    assert [token is None for token in batch["ctxs"]] == [True, False]
    assert world.ask(node, "put", key=key, value=b"v", ctx=b"forged")["error"]["code"] == "bad_request"


def test_each_relayed_operation_is_counted_by_its_outcome() -> None:
    key = b"k"
    world, node = with_full_key(key)
    near = next(b"%d" % n for n in range(1000) if set(owners(world, b"%d" % n)) == set(owners(world, key)))
    seconds = world.nodes[node].metrics.request_seconds
    world.ask(node, "mput", keys=[key, near], values=[b"v", b"v"])
    assert {outcome: sum(seconds["put", "ap", outcome].counts) for _, _, outcome in seconds} == {
        "ok": 1,
        "too_many_siblings": 1,
    }
    world.ask(node, "put", key=key, value=b"v")
    assert sum(seconds["put", "ap", "too_many_siblings"].counts) == 2
    assert sum(seconds["put", "ap", "ok"].counts) == 1
    assert world.nodes[node].pending() == 0


def test_options_travel_with_the_put() -> None:
    world, key = World(5), b"k"
    node = stranger(world, key)
    put = world.ask(node, "put", key=key, value=b"v", ttl_ms=1000, w=3, receipt=True)
    assert put["receipt"]["acks"] == 3
    world.time.run(1.1)
    assert world.ask(node, "get", key=key)["values"] == []


@pytest.mark.parametrize("cause", ["lost", "silent"])
def test_a_coordinator_that_is_gone_leaves_the_outcome_unknown(cause: str) -> None:
    world, key = World(5), b"k"
    node = stranger(world, key)
    others = [other for other in range(5) if other != node]
    world.network.silence(node, *others)
    put = world.send(node, "put", key=key, value=b"v", deadline_ms=1000)
    world.time.run(0.01)
    if cause == "lost":
        for other in others:
            world.network.set_link(node, other, False)
    world.time.run(0.01 if cause == "lost" else 1.0)
    error = world.replies[put]["error"]
    assert (error["code"], error["definite"]) == ("timeout", False)
    assert error["cause"]
    assert world.nodes[node].pending() == 0


def test_no_reachable_replica_is_a_definite_refusal() -> None:
    world, key = World(5), b"k"
    node = stranger(world, key)
    for other in owners(world, key):
        world.crash(other)
    for op in ("put", "get", "delete"):
        error = world.ask(node, op, key=key, **({"value": b"v"} if op == "put" else {}))["error"]
        assert (error["code"], error["definite"], error["alive"]) == ("no_quorum", True, 0)


def test_a_silent_coordinator_is_avoided_afterwards() -> None:
    world, key = World(5), b"k"
    node = stranger(world, key)
    silent = owners(world, key)[0]
    world.network.silence(node, silent)
    outcomes = [world.ask(node, "put", key=key, value=b"v", deadline_ms=1000)["ok"] for _ in range(12)]
    assert outcomes.count(False) <= 1


def test_puts_of_one_tick_on_one_key_are_all_coordinated() -> None:
    world, key = World(5), b"k"
    node = stranger(world, key)
    ids = world.send_together(node, [{"op": "put", "key": key, "value": b"%d" % number} for number in range(3)])
    world.time.run(1)
    assert [world.replies[number].get("error") for number in ids] == [None] * 3
    assert sorted(world.ask(node, "get", key=key, r=3)["values"]) == [b"0", b"1", b"2"]


def test_more_puts_in_one_tick_than_a_batch_may_have_are_all_coordinated() -> None:
    world = World(5, limits=Limits(batch_keys=8))
    requests = [{"op": "put", "key": b"%d" % number, "value": b"v"} for number in range(200)]
    ids = world.send_together(0, requests)
    world.time.run(1)
    assert [world.replies[number].get("error") for number in ids] == [None] * 200


def test_more_bytes_in_one_tick_than_a_request_may_have_are_all_coordinated() -> None:
    world = World(5, limits=Limits(request_bytes=20_000))
    requests = [{"op": "put", "key": b"%d" % number, "value": bytes(9000)} for number in range(50)]
    ids = world.send_together(0, requests)
    world.time.run(1)
    assert [world.replies[number].get("error") for number in ids] == [None] * 50


def test_a_forwarded_put_is_never_forwarded_again() -> None:
    world, key = World(5), b"k"
    node = stranger(world, key)
    seen: list[bytes] = []

    def tap(way: tuple[int, int], frames: list[bytes]) -> None:
        if way[0] == node:
            seen.extend(frames)

    world.network.tap = tap
    world.ask(node, "put", key=key, value=b"v")
    (forward,) = (frame for frame in seen if unpack_head(frame).kind == FORWARD)
    seen.clear()
    world.network.post((owners(world, key)[0], node), [forward])
    world.time.run(0.1)
    (answer,) = (frame for frame in seen if unpack_head(frame).kind == FORWARD_ANSWER)
    reply: dict[str, Any] = decode_map(answer[HEAD_BYTES:])
    assert [error["code"] for _, error in reply["errors"]] == ["stale_epoch"]
    assert not [frame for frame in seen if unpack_head(frame).kind == FORWARD]
