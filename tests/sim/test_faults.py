"""Whole nodes under loss, crashes, full disks, overload and a stop: every call is answered once, and honestly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from kvbus.ports.mode import Limits
from kvbus_modes.ap import MODE
from kvbus_modes.ap.mode import EPOCH_BITS
from tests.sim.world import Reply, World

CHECKOUT = Path(__file__).resolve().parents[2]
DEADLINE_MS = 1000


def workload(world: World, *, nodes: int, operations: int, **demand: Any) -> dict[int, tuple[bytes, bytes]]:
    """Send blind puts of unique values over 2 s, gets between them; return {request: (key, value)} of the puts."""
    puts: dict[int, tuple[bytes, bytes]] = {}
    for number in range(operations):
        key, value = b"k%d" % (number % 7), b"value %d" % number
        node = world.rng.randrange(nodes)
        request = world.send(node, "put", key=key, value=value, deadline_ms=DEADLINE_MS, **demand)
        puts[request] = (key, value)
        world.send(world.rng.randrange(nodes), "get", key=key, deadline_ms=DEADLINE_MS)
        world.send(world.rng.randrange(nodes), "scan", deadline_ms=DEADLINE_MS)
        world.time.run(2.0 / operations)
    return puts


@pytest.mark.parametrize("nodes", [3, 5])
@pytest.mark.parametrize("seed", range(6))
def test_under_loss_every_call_is_answered_once_in_time_and_no_acknowledged_put_is_lost(seed: int, nodes: int) -> None:
    world = World(nodes, seed=seed)
    world.network.loss = 0.3
    sent_at: dict[int, float] = {}
    late: list[float] = []

    def in_time(reply: Reply) -> None:
        late.append(world.time.now - sent_at[reply["id"]])

    for number in range(1, 3 * 100 + 1):
        sent_at[number] = (number - 1) // 3 * 0.02
    world.on_reply = in_time
    puts = workload(world, nodes=nodes, operations=100, w=2)
    world.time.run(DEADLINE_MS / 1000 + 0.1)
    assert sorted(world.replies) == sorted(sent_at)
    assert max(late) <= DEADLINE_MS / 1000
    for reply in world.replies.values():
        assert reply["ok"] or (reply["error"]["code"], reply["error"]["definite"]) == ("timeout", False)
    world.network.loss = 0.0
    world.on_reply = lambda reply: None
    world.time.run(1)
    acknowledged = [request for request in puts if world.replies[request]["ok"]]
    assert len(acknowledged) > 30
    found = {key: world.ask(seed % nodes, "get", key=key, r=3)["values"] for key, _ in puts.values()}
    assert [puts[request] for request in acknowledged if puts[request][1] not in found[puts[request][0]]] == []


@pytest.mark.parametrize("seed", range(6))
def test_crashes_lose_no_acknowledged_put(seed: int) -> None:
    world = World(3, seed=seed)
    puts: dict[int, bytes] = {}
    for number in range(150):
        node = world.rng.randrange(3)
        if node not in world.down:
            value = b"value %d" % number
            puts[world.send(node, "put", key=b"k%d" % (number % 5), value=value, w=2)] = value
        if world.rng.random() < 0.1:
            victim = world.rng.randrange(3)
            if world.down:
                world.start(next(iter(world.down)))
            else:
                world.crash(victim)
        world.time.run(world.rng.uniform(0, 0.004))
    for node in list(world.down):
        world.start(node)
    world.time.run(6)
    found: set[bytes] = set()
    for number in range(5):
        found |= set(world.ask(seed % 3, "get", key=b"k%d" % number, r=3)["values"])
    acknowledged = {value for number, value in puts.items() if world.replies.get(number, {"ok": False})["ok"]}
    assert len(acknowledged) > 50
    assert acknowledged <= found


def test_a_restarted_node_has_what_it_acknowledged_and_starts_a_new_epoch() -> None:
    world = World(1, replicas=1)
    first = world.ask(0, "put", key=b"k", value=b"first")
    world.crash(0)
    world.time.run(1)
    world.start(0)
    found = world.ask(0, "get", key=b"k")
    assert (found["values"], found["ctx"]) == ([b"first"], first["ctx"])
    second = world.ask(0, "put", key=b"k", value=b"second")
    epochs = [epoch for _, epoch, _, _ in (*MODE.dots(first["ctx"]), *MODE.dots(second["ctx"]))]
    assert epochs[1] - epochs[0] >= 1 << EPOCH_BITS
    assert sorted(world.ask(0, "get", key=b"k")["values"]) == [b"first", b"second"]


def test_answers_to_an_earlier_start_change_nothing() -> None:
    world = World(3)
    world.network.slow = {(1, 0): 0.5, (2, 0): 0.5}
    lost = world.send(0, "put", key=b"k", value=b"v", w=3)
    world.time.run(0.1)
    world.crash(0)
    world.start(0)
    world.network.slow.clear()
    assert world.ask(0, "put", key=b"other", value=b"v", w=3)["ok"]
    world.time.run(5)
    assert lost not in world.replies


def script(world: World) -> str:
    world.network.loss = 0.1
    workload(world, nodes=len(world.nodes), operations=40)
    world.crash(1)
    world.time.run(0.5)
    world.start(1)
    workload(world, nodes=len(world.nodes), operations=40, w=2)
    world.time.run(6)
    return world.digest.hexdigest()


def test_the_same_seed_gives_the_same_run_byte_for_byte() -> None:
    digests = [script(World(5, seed=seed)) for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_a_run_does_not_depend_on_the_hash_seed() -> None:
    code = "from tests.sim.test_faults import World, script; print(script(World(5, seed=1)))"
    path = os.pathsep.join(entry for entry in (str(CHECKOUT), *sys.path) if entry)
    digests: list[str] = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        digests.append(run.stdout.strip())
    assert digests == [script(World(5, seed=1))] * 2


def test_overload_sheds_operations_definitely() -> None:
    world = World(3, limits=Limits(pending_ops=10))
    world.network.silence(0, 1, 2)
    held = [world.send(0, "put", key=b"%d" % number, value=b"v", w=2) for number in range(10)]
    world.time.run(0.01)
    for op, fields in (("put", {"key": b"k", "value": b"v"}), ("get", {"key": b"k"}), ("scan", {})):
        refused = world.ask(0, op, **fields)
        assert (refused["error"]["code"], refused["error"]["definite"]) == ("overloaded", True)
        assert refused["error"]["retry_after_ms"] > 0
    assert world.nodes[0].pending() == 10
    assert world.nodes[0].stats()["shed_total"] == 3
    world.network.cut.clear()
    world.time.run(10)
    assert [world.replies[number]["error"]["code"] for number in held] == ["timeout"] * 10
    assert world.nodes[0].pending() == 0
    assert world.ask(0, "put", key=b"k", value=b"v")["ok"]


def test_what_goes_over_the_limit_is_shed_and_the_rest_is_done() -> None:
    world = World(3, limits=Limits(pending_ops=10))
    keys = [b"%02d" % number for number in range(13)]
    reply = world.ask(0, "mput", keys=keys, values=keys)
    assert [(index, error["code"]) for index, error in reply["errors"]] == [(i, "overloaded") for i in (10, 11, 12)]
    held = [world.send(0, "get", key=key) for key in keys]
    world.time.run(1)
    assert [world.replies[number].get("values") for number in held] == [[key] for key in keys[:10]] + [None] * 3
    assert world.ask(0, "mget", keys=keys[10:])["values"] == [[]] * 3
    assert world.nodes[0].pending() == 0


def test_a_stopping_node_finishes_what_is_in_flight_and_refuses_the_rest() -> None:
    world = World(3)
    held = [world.send(0, "put", key=b"k", value=b"v"), world.send(0, "mget", keys=[b"a", b"b"])]
    world.time.run(0.00015)
    world.nodes[0].stopping = True
    for op, fields in (("get", {"key": b"k"}), ("mput", {"keys": [b"a", b"b"], "values": [b"", b""]}), ("scan", {})):
        refused = world.ask(0, op, **fields)
        assert (refused["error"]["code"], refused["error"]["definite"]) == ("shutting_down", True)
    assert world.ask(0, "ping")["ok"]
    world.time.run(0.1)
    assert [world.replies[number]["ok"] for number in held] == [True, True]
    assert world.nodes[0].pending() == 0


@pytest.mark.parametrize("deadline_ms", [4, 20, 100, 1500])
@pytest.mark.parametrize("op", ["put", "get", "scan"])
@pytest.mark.parametrize("nodes", [3, 5])
def test_no_answer_comes_behind_its_deadline(op: str, deadline_ms: int, nodes: int) -> None:
    world = World(nodes)
    demands: dict[str, dict[str, Any]] = {"put": {"value": b"v", "w": 2}, "get": {"r": 3}, "scan": {"r": 3}}
    for i in range(nodes):
        world.network.silence(i, *(j for j in range(nodes) if j != i))
    for number in range(20):
        fields = demands[op] if op == "scan" else {**demands[op], "key": b"%d" % number}
        before = world.time.now
        reply = world.ask(number % nodes, op, **fields, deadline_ms=deadline_ms)
        assert reply["error"]["code"] == "timeout"
        assert deadline_ms * 0.85 <= (world.time.now - before) * 1000 <= deadline_ms


def test_a_full_disk_refuses_puts_and_serves_gets() -> None:
    world = World(3)
    world.ask(0, "put", key=b"k", value=b"v", w=3)
    disk = world.disks[0]
    disk.capacity_bytes = sum(len(file.data) for file in disk.files.values())
    under_way = world.ask(0, "put", key=b"k", value=b"x" * 9000)
    assert under_way["ok"] or not under_way["error"]["definite"]
    refused = world.ask(0, "put", key=b"k", value=b"w")
    assert (refused["error"]["code"], refused["error"]["definite"]) == ("read_only", True)
    assert b"v" in world.ask(0, "get", key=b"k", r=1)["values"]


def test_a_replica_with_a_full_disk_leaves_the_tally() -> None:
    world = World(3)
    world.ask(0, "put", key=b"k", value=b"v", w=3)
    for replica in (1, 2):
        disk = world.disks[replica]
        disk.capacity_bytes = sum(len(file.data) for file in disk.files.values())
    for _ in range(2):
        put = world.ask(0, "put", key=b"a", value=b"x" * 9000)
        assert (put["ok"], put["degraded"], put["acks"]) == (True, True, 1)
    failed = world.ask(0, "put", key=b"a", value=b"v", w=2)
    assert (failed["error"]["code"], failed["error"]["definite"]) == ("timeout", False)
    assert failed["error"]["acks"] == 1


def test_random_ends_of_a_busy_node_leave_no_call_open() -> None:
    rng = Random(5)
    world = World(5, seed=5)
    for _ in range(30):
        workload(world, nodes=5, operations=3)
        i, j = rng.sample(range(5), 2)
        world.network.set_link(i, j, False)
        world.time.run(rng.uniform(0, 0.003))
        world.network.set_link(i, j, True)
    world.time.run(6)
    assert [node.pending() for node in world.nodes.values()] == [0] * 5
    assert len(world.replies) == 30 * 9
