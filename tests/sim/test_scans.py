"""Scans through whole nodes: partition by partition, in key order, page by page."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

import pytest

from kvbus.core.keyspace import partition_of_key
from kvbus.core.ring import key_hash, partition_of
from kvbus.core.tick import Tick
from kvbus.core.types import Epoch, NodeIndex
from kvbus.ports.mode import Limits
from kvbus.wire.peer_frames import pack_head, unpack_head
from kvbus_modes.ap.frames import MAX_SCAN_PARTITIONS, SCAN, SCAN_ANSWER, read_scan, write_payload
from tests.sim.copies import store, version
from tests.sim.world import Reply, World


def in_order(world: World, keys: list[bytes]) -> list[bytes]:
    return sorted(keys, key=lambda key: (partition_of(key_hash("default", key), world.topology.shift), key))


def pages(world: World, node: int, **fields: Any) -> list[Reply]:
    found = [world.ask(node, "scan", **fields)]
    while found[-1]["cursor"] is not None:
        found.append(world.ask(node, "scan", **fields, cursor=found[-1]["cursor"]))
        assert len(found) < 1000
    return found


def filled(nodes: int, count: int, **settings: Any) -> tuple[World, list[bytes]]:
    world = World(nodes, **settings)
    rng = Random(count)
    keys = [rng.randbytes(rng.randint(1, 4)) + b"%d" % number for number in range(count)]
    for start in range(0, count, 100):
        batch = keys[start : start + 100]
        reply = world.ask(start % nodes, "mput", keys=batch, values=batch, w=min(3, nodes))
        assert reply["errors"] == []
    return world, keys


@pytest.mark.parametrize("nodes", [1, 3, 5])
@pytest.mark.parametrize("limit", [1, 7, 100, 1000])
def test_pages_hold_every_key_once_in_partition_and_key_order(nodes: int, limit: int) -> None:
    world, keys = filled(nodes, 150)
    found = pages(world, nodes - 1, limit=limit)
    assert [key for page in found for key in page["keys"]] == in_order(world, keys)
    assert max(len(page["keys"]) for page in found) <= limit
    assert all("values" not in page for page in found)


@pytest.mark.parametrize("limit", [3, 1000])
def test_values_come_when_asked_for(limit: int) -> None:
    world, keys = filled(5, 40)
    found = pages(world, 1, limit=limit, with_values=True)
    assert [value for page in found for value in page["values"]] == [[key] for key in in_order(world, keys)]


def test_a_prefix_narrows_the_scan() -> None:
    world, _ = filled(5, 50)
    keys = [b"user:%d" % number for number in range(30)]
    world.ask(0, "mput", keys=keys, values=keys, w=3)
    found = pages(world, 2, prefix=b"user:", limit=4)
    assert [key for page in found for key in page["keys"]] == in_order(world, keys)


def test_deleted_keys_are_not_listed() -> None:
    world, keys = filled(5, 60)
    for key in keys[::2]:
        token = world.ask(0, "get", key=key)["ctx"]
        world.ask(0, "delete", key=key, ctx=token, w=3)
    found = pages(world, 3, limit=5)
    assert [key for page in found for key in page["keys"]] == in_order(world, keys[1::2])


def test_thousands_of_deleted_keys_are_passed_over_in_one_page() -> None:
    world = World(3)
    keys = [b"%d" % number for number in range(3000)]
    for start in range(0, 3000, 1000):
        world.ask(0, "mput", keys=keys[start : start + 1000], values=[b""] * 1000)
    for start in range(0, 3000, 1000):
        tokens = world.ask(0, "mget", keys=keys[start : start + 1000])["ctxs"]
        requests = zip(keys[start : start + 1000], tokens, strict=True)
        world.send_together(0, [{"op": "delete", "key": key, "ctx": token} for key, token in requests])
    world.time.run(1)
    asked: list[bytes] = []
    world.network.tap = lambda way, frames: asked.extend(frames)
    for r in (1, 2):
        reply = world.ask(0, "scan", limit=1, r=r)
        assert (reply["keys"], reply["cursor"]) == ([], None)
    assert sum(frame[0] == SCAN for frame in asked) < 20


def deleted(count: int, *kept: bytes, **settings: Any) -> World:
    """Return a world that holds ``count`` deleted keys, and some that are not."""
    world = World(3, **settings)
    records = {b"%d" % number: version(None) for number in range(count)}
    for node in range(3):
        store(world, node, {**records, **{key: version(key) for key in kept}})
    return world


@pytest.mark.parametrize("scans", [1, 10])
def test_what_comes_during_a_scan_of_deleted_keys_is_served_before_its_end(scans: int) -> None:
    world = deleted(10_000, b"kept")
    world.time.run(1)
    began = world.time.now
    order: list[int] = []
    world.on_reply = lambda reply: order.append(reply["id"])
    ids = world.send_together(0, [{"op": "scan", "r": 1}] * scans)
    get = world.send(0, "get", key=b"k", r=1)
    world.time.run(1)
    assert order == [get, *ids]
    assert [(world.replies[scan]["keys"], world.replies[scan]["cursor"]) for scan in ids] == [([b"kept"], None)] * scans
    assert world.replied_at[ids[-1]] - began < 0.001
    assert world.nodes[0].pending() == 0


def test_a_scan_of_few_keys_is_answered_in_the_tick_it_came_in() -> None:
    world = deleted(500)
    scan = world.send(0, "scan", r=1)
    world.time.run(0.0001)
    assert world.replies[scan]["cursor"] is None


@pytest.mark.parametrize("lost", [False, True])
def test_scans_that_wait_for_their_turn_end_with_their_deadline_or_a_lost_link(lost: bool) -> None:
    world = deleted(20_000)
    ids = world.send_together(0, [{"op": "scan", "r": 3, "deadline_ms": 1000}] * 10)
    world.time.at(0.0001, lambda: world.network.silence(0, 1, 2))
    if lost:
        world.time.at(0.0001, lambda: world.network.set_link(0, 1, False))
    world.time.run(2)
    codes = {world.replies[scan]["error"]["code"] for scan in ids}
    assert codes <= ({"timeout", "no_quorum"} if lost else {"timeout"})
    assert max(world.replied_at.values()) <= 1.0
    assert world.nodes[0].pending() == 0


def test_a_page_that_takes_too_long_ends_early_and_the_next_one_goes_on() -> None:
    world = deleted(3000, b"kept")
    world.network.slow = {(1, 0): 0.1, (2, 0): 0.1}
    found = pages(world, 0, limit=20, deadline_ms=1000)
    assert [page["ok"] for page in found] == [True] * len(found)
    assert not any("degraded" in page for page in found)
    assert [key for page in found for key in page["keys"]] == [b"kept"]
    assert 2 < len(found) < 10


def test_many_partitions_are_asked_for_in_parts() -> None:
    world, keys = filled(3, 60, partitions=1024)
    spans: list[int] = []

    def tap(way: tuple[int, int], frames: list[bytes]) -> None:
        for start, end, _, _ in (read_scan(frame) for frame in frames if frame[0] == SCAN):
            spans.append(partition_of_key(end) - partition_of_key(start) + 1)

    world.network.tap = tap
    assert world.ask(0, "scan")["keys"] == in_order(world, keys)
    assert (len(spans), max(spans)) == (1024 // MAX_SCAN_PARTITIONS, MAX_SCAN_PARTITIONS)


def test_a_replica_with_an_unsound_answer_is_replaced_at_once() -> None:
    world, keys = filled(3, 20)
    world.network.cut = {(1, 0): None}

    def answer(way: tuple[int, int], frames: list[bytes]) -> None:
        for frame in (frame for frame in frames if way == (0, 1) and frame[0] == SCAN):
            bad = write_payload([read_scan(frame)[0] + b"k"], [b"\x01\x01\x00 no record"])
            forged = pack_head(SCAN_ANSWER, space=0, batch=unpack_head(frame).batch, epoch=Epoch(1)) + bad
            world.deliver(0, partial(_arrive, forged))

    world.network.tap = answer
    before = world.time.now
    for _ in range(2):
        assert world.ask(0, "scan", r=2)["keys"] == in_order(world, keys)
    assert world.nodes[0].metrics.peer_protocol_errors_total > 0
    assert world.time.now - before < 0.05


def _arrive(frame: bytes, tick: Tick) -> None:
    tick.frames.append((NodeIndex(1), frame))


def test_a_page_ends_where_the_reply_is_full() -> None:
    world = World(5, limits=Limits(reply_bytes=20_000))
    keys = [b"%d" % number for number in range(20)]
    for key in keys:
        world.ask(0, "put", key=key, value=bytes(6000), w=3)
    found = pages(world, 0, with_values=True)
    assert {len(page["keys"]) for page in found} <= {2, 3}
    assert [key for page in found for key in page["keys"]] == in_order(world, keys)


def test_answers_are_merged_up_to_the_shortest() -> None:
    world = World(3)
    for node in range(3):
        world.network.silence(node, *(other for other in range(3) if other != node))
    for number in range(90):
        put = world.ask(number % 3, "put", key=b"%d" % number, value=b"v", w=1)
        if number % 9 < 6 and number % 3 == 0:
            world.ask(0, "delete", key=b"%d" % number, ctx=put["ctx"], w=1)
    world.network.cut.clear()
    for limit in (1, 7):
        found = pages(world, 0, r=3, limit=limit)
        kept = [b"%d" % number for number in range(90) if number % 9 == 6 or number % 3]
        assert [key for page in found for key in page["keys"]] == in_order(world, kept)


def test_a_dead_node_costs_a_scan_nothing() -> None:
    world, keys = filled(5, 80)
    world.crash(4)
    found = pages(world, 0, limit=30)
    assert [key for page in found for key in page["keys"]] == in_order(world, keys)
    assert not any("degraded" in page for page in found)


def test_an_answer_to_an_earlier_run_is_not_taken_for_a_later_one() -> None:
    for step in range(10):
        world, keys = filled(5, 100, r=3)
        world.time.run(1)
        world.network.slow = {(4, 0): 0.5 + 0.002 * step}
        assert world.ask(0, "scan", deadline_ms=60_000)["keys"] == in_order(world, keys)
        assert world.nodes[0].metrics.peer_protocol_errors_total == 0


def test_a_strange_cursor_is_refused() -> None:
    world = World(3)
    for cursor in (b"", b"x", b"\xff\xff"):
        refused = world.ask(0, "scan", cursor=cursor)
        assert (refused["ok"], refused["error"]["code"]) == (False, "bad_request")
    assert world.ask(0, "scan", cursor=b"\x00\x0f" + b"\xff" * 3000)["keys"] == []
    assert world.nodes[0].pending() == 0


def test_a_scan_reads_its_own_nodes_acknowledged_puts() -> None:
    world = World(3, r=1, w=1)
    world.ask(0, "put", key=b"k", value=b"v")
    assert world.ask(0, "scan")["keys"] == [b"k"]


def test_the_receipt_is_the_weakest_of_the_runs() -> None:
    world, _ = filled(5, 50)
    full = world.ask(0, "scan", receipt=True)["receipt"]
    assert (full["acks"], full["guarantee"]) == (2, "eventual")
    weakest = world.topology.groups[world.topology.group_of[0]].nodes
    for node in range(5):
        if node not in weakest[:1]:
            world.crash(node)
    assert world.ask(weakest[0], "scan", receipt=True)["error"]["code"] == "no_quorum"
