"""Quorum counting through whole nodes: what is waited for, what it is worth, and what is said when it is missed."""

from __future__ import annotations

from typing import Any

import pytest

from kvbus.core.ring import key_hash
from kvbus.core.types import NodeIndex
from tests.sim.durability import durable_copies
from tests.sim.world import Reply, World

OTHERS = {0: (1, 2), 1: (0, 2), 2: (0, 1)}


def code(reply: Reply) -> tuple[str, bool]:
    return reply["error"]["code"], reply["error"]["definite"]


@pytest.mark.parametrize("w", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_a_put_is_answered_with_w_durable_copies_and_never_before(w: int, seed: int) -> None:
    world = World(3, seed=seed)
    copies: list[int] = []
    world.on_reply = lambda reply: copies.append(durable_copies(world, b"a value"))
    assert world.ask(seed % 3, "put", key=b"k", value=b"a value", w=w)["ok"]
    assert copies[0] >= w


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_read_that_a_power_cut_could_take_back(seed: int) -> None:
    world = World(3, seed=seed)
    seen: list[tuple[Reply, int]] = []
    world.on_reply = lambda reply: seen.append((reply, durable_copies(world, b"a value")))
    world.send(0, "put", key=b"k", value=b"a value", w=3)
    for _ in range(30):
        for node in range(3):
            world.send(node, "get", key=b"k", r=1)
            world.send(node, "scan", r=1, with_values=True)
        world.time.run(0.0002)
    world.time.run(1)
    assert len(seen) == 181
    assert all(copies for reply, copies in seen if [b"a value"] in (reply.get("values"), *reply.get("values", ())))


@pytest.mark.parametrize(("r", "w", "preset"), [(1, 3, "R=1,W=N"), (3, 1, "R=N,W=1"), (2, 2, "R+W>N"), (1, 1, "R+W≤N")])
def test_every_preset_serves_puts_and_gets_and_is_named(r: int, w: int, preset: str) -> None:
    world = World(3, r=r, w=w)
    assert world.ask(0, "hello", v=1)["keyspaces"]["default"]["preset"] == preset
    put = world.ask(0, "put", key=b"k", value=b"v", receipt=True)
    assert (put["receipt"]["acks"] >= w, "degraded" in put) == (True, False)
    got = world.ask(1, "get", key=b"k", receipt=True)
    assert got["receipt"]["acks"] == r
    if r + w > 3:
        assert got["values"] == [b"v"]


@pytest.mark.parametrize(("r", "w"), [(1, 3), (3, 1), (2, 2)])
@pytest.mark.parametrize("seed", range(8))
def test_overlapping_quorums_read_every_acknowledged_put(r: int, w: int, seed: int) -> None:
    world = World(3, seed=seed, r=r, w=w)
    token: dict[str, Any] = {}
    for number in range(6):
        value = b"%d" % number
        token = {"ctx": world.ask(number % 3, "put", key=b"k", value=value, **token)["ctx"]}
        assert world.ask((number + 1) % 3, "get", key=b"k")["values"] == [value]


def test_a_read_may_be_stale_where_r_plus_w_does_not_exceed_n() -> None:
    world = World(3, r=1, w=1)
    put = world.ask(0, "put", key=b"k", value=b"new", receipt=True)
    assert put["receipt"]["guarantee"] == "eventual"
    assert world.ask(2, "get", key=b"k")["values"] == []
    world.time.run(1)
    assert world.ask(2, "get", key=b"k")["values"] == [b"new"]


def test_one_dead_replica_costs_nothing_and_no_waiting() -> None:
    world = World(3)
    world.ask(0, "put", key=b"k", value=b"v", w=3)
    world.crash(2)
    for number in range(10):
        before = world.time.now
        put = world.ask(number % 2, "put", key=b"%d" % number, value=b"v")
        got = world.ask(number % 2, "get", key=b"k")
        assert ("degraded" in put, got["values"], "degraded" in got) == (False, [b"v"], False)
        assert world.time.now - before < 0.02


def test_two_dead_replicas_leave_degraded_answers() -> None:
    world = World(3)
    world.crash(1)
    world.crash(2)
    put = world.ask(0, "put", key=b"k", value=b"v")
    assert (put["ok"], put["degraded"], put["acks"]) == (True, True, 1)
    got = world.ask(0, "get", key=b"k")
    assert (got["values"], got["degraded"], got["acks"]) == ([b"v"], True, 1)
    scanned = world.ask(0, "scan")
    assert (scanned["keys"], scanned["degraded"], scanned["acks"]) == ([b"k"], True, 1)
    assert world.time.now < 0.02


@pytest.mark.parametrize(
    ("op", "demand", "required"),
    [("put", {"w": 2}, 2), ("put", {"pw": 3}, 3), ("put", {"cl": "quorum"}, 2), ("put", {"cl": "all"}, 3),
     ("delete", {"w": 2}, 2), ("get", {"r": 2}, 2), ("get", {"pr": 2}, 2), ("get", {"cl": "each_quorum"}, 2),
     ("scan", {"r": 2}, 2)],
)  # fmt: skip
def test_a_demand_that_this_side_cannot_meet_is_refused_and_nothing_is_stored(
    op: str, demand: dict[str, Any], required: int
) -> None:
    world = World(3)
    world.crash(1)
    world.crash(2)
    fields = {"put": {"key": b"k", "value": b"v"}, "scan": {}}.get(op, {"key": b"k"})
    refused = world.ask(0, op, **fields, **demand)
    assert code(refused) == ("no_quorum", True)
    assert (refused["error"]["required"], refused["error"]["alive"]) == (required, 1)
    assert world.engines[0].applied_lsn == 0


@pytest.mark.parametrize("demand", [{"w": 2}, {"pw": 2}, {"cl": "quorum"}])
def test_a_demand_on_replicas_that_take_no_more_bytes_is_refused_and_nothing_is_stored(demand: dict[str, Any]) -> None:
    world = World(3)
    for peer in (1, 2):
        world.nodes[0].links.sent(NodeIndex(peer), world.time.now, 65 << 20)
    refused = world.ask(0, "put", key=b"k", value=b"v", **demand)
    assert code(refused) == ("no_quorum", True)
    assert (refused["error"]["required"], refused["error"]["alive"]) == (2, 1)
    assert world.engines[0].applied_lsn == 0
    assert world.ask(0, "get", key=b"k", r=2)["values"] == []


def test_a_target_on_replicas_that_take_no_more_bytes_is_degraded() -> None:
    world = World(3)
    for peer in (1, 2):
        world.nodes[0].links.sent(NodeIndex(peer), world.time.now, 65 << 20)
    put = world.ask(0, "put", key=b"k", value=b"v")
    assert (put["ok"], put["degraded"], put["acks"]) == (True, True, 1)


def test_more_than_n_can_never_be_met() -> None:
    world = World(3)
    refused = world.ask(0, "put", key=b"k", value=b"v", w=4)
    assert (code(refused), refused["error"]["alive"]) == (("no_quorum", True), 3)


@pytest.mark.parametrize("level", ["one", "quorum", "all", "local_one", "local_quorum", "each_quorum"])
def test_every_level_is_a_demand(level: str) -> None:
    world = World(3)
    assert world.ask(0, "put", key=b"k", value=b"v", cl=level)["ok"]
    world.time.run(1)
    assert world.ask(0, "get", key=b"k", cl=level)["values"] == [b"v"]
    assert world.ask(0, "scan", cl=level)["keys"] == [b"k"]
    world.crash(1)
    assert world.ask(0, "get", key=b"k", cl=level)["ok"] is (level != "all")


def test_an_unknown_level_and_a_level_beside_numbers_are_refused() -> None:
    world = World(3)
    assert code(world.ask(0, "get", key=b"k", cl="two")) == ("bad_request", True)
    assert code(world.ask(0, "get", key=b"k", cl="one", r=1)) == ("bad_request", True)
    assert code(world.ask(0, "scan", cl="two")) == ("bad_request", True)


def test_availability_quorum_makes_the_defaults_demands() -> None:
    world = World(3, availability="quorum")
    assert world.ask(0, "put", key=b"k", value=b"v")["ok"]
    world.crash(1)
    world.crash(2)
    assert code(world.ask(0, "put", key=b"k", value=b"w")) == ("no_quorum", True)
    assert code(world.ask(0, "get", key=b"k")) == ("no_quorum", True)
    assert world.ask(0, "get", key=b"k", r=1)["values"] == [b"v"]


def test_silent_replicas_degrade_targets_after_the_silence_and_not_again() -> None:
    world = World(3)
    world.network.silence(0, 1, 2)
    before = world.time.now
    put = world.ask(0, "put", key=b"k", value=b"v")
    assert (put["degraded"], put["acks"]) == (True, 1)
    assert 0.5 < world.time.now - before < 0.52
    before = world.time.now
    assert world.ask(0, "get", key=b"k")["degraded"]
    assert world.ask(0, "put", key=b"k", value=b"w")["degraded"]
    assert world.time.now - before < 0.02


def test_a_silent_replica_stays_silent_until_it_is_heard() -> None:
    world = World(3)
    world.network.silence(0, 1, 2)
    assert world.ask(0, "put", key=b"k", value=b"v", deadline_ms=1000)["degraded"]
    world.time.run(5)
    before = world.time.now
    assert world.ask(0, "put", key=b"k", value=b"w")["degraded"]
    assert world.time.now - before < 0.02
    world.network.cut.clear()
    world.ask(0, "put", key=b"k", value=b"x")
    world.time.run(0.1)
    assert "degraded" not in world.ask(0, "put", key=b"k", value=b"y")


def test_a_silent_replica_that_hears_again_is_found_without_any_request() -> None:
    world = World(3)
    world.network.silence(0, 1)
    world.ask(0, "put", key=b"k", value=b"v", deadline_ms=1000)
    world.time.run(5)
    assert world.nodes[0].links.states(world.time.now)[NodeIndex(1)] == "silent"
    world.network.cut.clear()
    world.time.run(1.1)
    assert world.nodes[0].links.states(world.time.now)[NodeIndex(1)] == "up"


def test_an_idle_cluster_has_no_silent_node() -> None:
    world = World(3)
    world.ask(0, "put", key=b"k", value=b"v", w=3)
    world.time.run(10)
    states = world.nodes[0].links.states(world.time.now)
    assert states == {NodeIndex(node): "up" for node in range(3)}


@pytest.mark.parametrize(("op", "demand"), [("put", {"w": 2}), ("get", {"r": 2}), ("scan", {"r": 2})])
def test_a_demand_on_silent_replicas_times_out_with_its_cause(op: str, demand: dict[str, Any]) -> None:
    world = World(3)
    world.network.silence(0, 1, 2)
    fields = {"put": {"key": b"k", "value": b"v"}, "scan": {}}.get(op, {"key": b"k"})
    before = world.time.now
    failed = world.ask(0, op, **fields, **demand, deadline_ms=2000)
    assert code(failed) == ("timeout", False)
    assert failed["error"]["cause"]
    assert 1.5 < world.time.now - before < 2.0
    world.time.run(5)
    assert world.nodes[0].pending() == 0


def test_a_lost_link_under_way_is_not_waited_for() -> None:
    world = World(3)
    world.network.silence(0, 1, 2)
    put = world.send(0, "put", key=b"k", value=b"v")
    get = world.send(0, "get", key=b"other")
    world.time.run(0.01)
    assert world.replies == {}
    for other in (1, 2):
        world.network.set_link(0, other, False)
    assert [world.replies[number].get("acks") for number in (put, get)] == [1, 1]


def test_a_read_under_way_turns_to_another_replica_when_a_link_is_lost() -> None:
    world = World(3)
    world.ask(1, "put", key=b"k", value=b"v", w=3)
    asked: list[int] = []
    world.network.tap = lambda way, frames: asked.append(way[1]) if way[0] == 0 else None
    for other in (1, 2):
        world.network.slow[0, other] = 1.0
    get = world.send(0, "get", key=b"k", r=2)
    world.time.run(0.001)
    (first,) = asked
    second = OTHERS[first][0] or OTHERS[first][1]
    world.network.slow.clear()
    world.network.set_link(0, first, False)
    world.time.run(0.01)
    assert (world.replies[get]["values"], asked) == ([b"v"], [first, second])


def test_a_slow_replica_is_joined_by_the_next_one() -> None:
    for slow in (1, 2):
        world = World(3)
        world.ask(1, "put", key=b"k", value=b"v", w=3)
        world.network.slow = {(0, slow): 5.0}
        for _ in range(2):
            before = world.time.now
            assert world.ask(0, "get", key=b"k", r=2)["values"] == [b"v"]
            assert world.time.now - before < 0.07


def test_hedging_follows_each_replicas_own_pace() -> None:
    world = World(3)
    world.network.slow = {(0, 1): 0.2}
    for _ in range(100):
        world.ask(0, "get", key=b"k", r=2)
    world.time.run(1)
    links = world.nodes[0].links
    assert 0.2 <= links.hedge_after(NodeIndex(1)) < 0.21
    assert links.hedge_after(NodeIndex(2)) < 0.01


def test_a_late_ack_and_a_late_answer_change_nothing() -> None:
    world = World(3)
    world.network.slow = {(2, 0): 1.0}
    put = world.ask(0, "put", key=b"k", value=b"v", receipt=True)
    assert (put["receipt"]["acks"], put["receipt"]["replicas"]) == (2, ["n1", "n2"])
    world.time.run(5)
    assert len(world.replies) == 1
    status = world.nodes[0].modes["ap"].status()
    assert status == dict.fromkeys(status, 0)


@pytest.mark.parametrize("outcome", ["answered", "failed"])
def test_a_read_that_was_replied_to_is_forgotten_within_a_second(outcome: str) -> None:
    world = World(3)
    world.network.slow = {(1, 0): 100.0} if outcome == "answered" else {(1, 0): 100.0, (2, 0): 100.0}
    deadline_ms = 600_000 if outcome == "answered" else 1000
    for number in range(4):
        reply = world.ask(0, "get", key=b"%d" % number, r=2, deadline_ms=deadline_ms)
        assert reply["ok"] is (outcome == "answered")
    assert world.nodes[0].modes["ap"].status()["open_reads"] == (2 if outcome == "answered" else 0)
    world.time.run(1.01)
    assert world.nodes[0].modes["ap"].status()["open_reads"] == 0
    world.time.run(0.5)
    assert world.nodes[0].links.states(world.time.now)[NodeIndex(1)] == "silent"


def test_an_ack_behind_its_deadline_changes_nothing() -> None:
    world = World(3)
    world.network.slow = {(1, 0): 3.0, (2, 0): 3.0}
    put = world.send(0, "put", key=b"k", value=b"v", w=2, deadline_ms=1000)
    get = world.send(0, "get", key=b"k", r=2, deadline_ms=1000)
    world.time.run(10)
    assert [code(world.replies[number]) for number in (put, get)] == [("timeout", False)] * 2
    assert max(world.replied_at.values()) < 1.0


def test_explain_tells_each_gets_own_way() -> None:
    world = World(3)
    world.ask(0, "put", key=b"k", value=b"v", w=3)
    ids = world.send_together(0, [{"op": "get", "key": key, "explain": True} for key in (b"k", b"other")])
    world.time.run(1)
    first, second = (world.replies[number]["explain"] for number in ids)
    assert (first["hash"], second["hash"]) == ("32672d92ef84e145", f"{key_hash('default', b'other'):016x}")
    assert (first["siblings"], second["siblings"]) == (1, 0)
    assert (first["coordinator"], first["required"], first["demanded"]) == ("n1", 2, False)
    assert sorted(replica["state"] for replica in first["replicas"]) == ["answered", "answered", "not asked"]
    assert (first["merge"], first["guarantee"]) == ("equal", "eventual")
    assert [replica.get("memtable") for replica in second["replicas"]].count("miss") == 2


@pytest.mark.parametrize(("op", "demand", "guarantee"), [
    ("put", {}, "eventual"), ("put", {"w": 3}, "eventual"), ("put", {"pw": 1}, "eventual"),
    ("put", {"pw": 2}, "quorum"), ("get", {}, "eventual"), ("get", {"r": 3}, "eventual"),
    ("get", {"pr": 1}, "eventual"), ("get", {"pr": 2}, "quorum"),
])  # fmt: skip
def test_a_receipt_says_what_the_reply_is_worth(op: str, demand: dict[str, Any], guarantee: str) -> None:
    world = World(3)
    fields = {"key": b"k", "value": b"v"} if op == "put" else {"key": b"k"}
    receipt = world.ask(1, op, **fields, **demand, receipt=True)["receipt"]
    assert (receipt["mode"], receipt["node"], receipt["epoch"], receipt["hinted"]) == ("ap", "n2", 1, 0)
    assert receipt["guarantee"] == guarantee
    assert receipt["acks"] == receipt["primary"] == len(receipt["replicas"])
    assert "receipt" not in world.ask(1, op, **fields)


def test_a_small_demand_is_degraded_only_on_a_side_that_could_not_have_met_the_targets() -> None:
    world = World(3)
    assert "degraded" not in world.ask(0, "put", key=b"k", value=b"v", w=1)
    assert "degraded" not in world.ask(0, "get", key=b"k", r=1)
    world.crash(1)
    world.crash(2)
    for reply in (world.ask(0, "put", key=b"l", value=b"v", w=1), world.ask(0, "get", key=b"k", r=1)):
        assert (reply["ok"], reply["degraded"], reply["acks"]) == (True, True, 1)
