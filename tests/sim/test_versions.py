"""Versions through whole nodes: the classic clocks, siblings, tokens, deletes, expiry."""

from __future__ import annotations

from kvbus_modes.ap import MODE
from tests.sim.world import Reply, World

SX, SY, SZ = 0, 1, 2


def clock(world: World, reply: Reply) -> dict[int, int]:
    return MODE.clock(reply["ctx"])


def test_classic_scenario_d1_to_d5() -> None:
    world = World(3)
    d1 = world.ask(SX, "put", key=b"k", value=b"D1")
    assert clock(world, d1) == {SX: 1}
    d2 = world.ask(SX, "put", key=b"k", value=b"D2", ctx=d1["ctx"])
    assert clock(world, d2) == {SX: 2}
    world.time.run(1)
    d3 = world.ask(SY, "put", key=b"k", value=b"D3", ctx=d2["ctx"])
    assert clock(world, d3) == {SX: 2, SY: 1}
    d4 = world.ask(SZ, "put", key=b"k", value=b"D4", ctx=d2["ctx"])
    assert clock(world, d4) == {SX: 2, SZ: 1}
    both = world.ask(SY, "get", key=b"k", r=3)
    assert sorted(both["values"]) == [b"D3", b"D4"]
    assert clock(world, both) == {SX: 2, SY: 1, SZ: 1}
    d5 = world.ask(SX, "put", key=b"k", value=b"D5", ctx=both["ctx"])
    assert clock(world, d5) == {SX: 3, SY: 1, SZ: 1}
    for node in range(3):
        assert world.ask(node, "get", key=b"k", r=3)["values"] == [b"D5"]


def test_two_blind_puts_are_siblings() -> None:
    world = World(3)
    world.ask(0, "put", key=b"k", value=b"a")
    world.ask(1, "put", key=b"k", value=b"b")
    assert sorted(world.ask(2, "get", key=b"k", r=3)["values"]) == [b"a", b"b"]


def test_overwrite_with_the_token_of_its_own_put_keeps_what_its_client_never_saw() -> None:
    world = World(3)
    world.ask(0, "put", key=b"k", value=b"first")
    second = world.ask(0, "put", key=b"k", value=b"second")
    world.ask(0, "put", key=b"k", value=b"third", ctx=second["ctx"])
    assert sorted(world.ask(0, "get", key=b"k", r=3)["values"]) == [b"first", b"third"]


def test_two_blind_puts_of_one_tick_are_siblings() -> None:
    world = World(3)
    requests = [{"op": "put", "key": b"k", "value": value} for value in (b"a", b"b")]
    ids = world.send_together(0, requests)
    world.time.run(1)
    assert [clock(world, world.replies[number]) for number in ids] == [{0: 1}, {0: 1}]
    for node in range(3):
        assert sorted(world.ask(node, "get", key=b"k", r=1)["values"]) == [b"a", b"b"]


def test_delete_with_a_token_removes_what_it_saw_and_leaves_a_token() -> None:
    world = World(3)
    seen = world.ask(0, "put", key=b"k", value=b"seen")
    world.ask(1, "put", key=b"k", value=b"unseen")
    world.ask(2, "delete", key=b"k", ctx=seen["ctx"])
    found = world.ask(0, "get", key=b"k", r=3)
    assert found["values"] == [b"unseen"]
    world.ask(2, "delete", key=b"k", ctx=found["ctx"])
    found = world.ask(0, "get", key=b"k", r=3)
    assert (found["values"], clock(world, found)) == ([], {0: 1, 1: 1, 2: 2})


def test_delete_without_a_token_is_concurrent() -> None:
    world = World(3)
    world.ask(0, "put", key=b"k", value=b"v")
    world.ask(0, "delete", key=b"k")
    assert world.ask(0, "get", key=b"k")["values"] == [b"v"]


def test_absent_key_has_no_values_and_an_empty_context() -> None:
    assert World(3).ask(0, "get", key=b"k") == {"id": 1, "ok": True, "values": [], "ctx": b""}


def test_value_expires_at_every_node_at_the_coordinators_time() -> None:
    world = World(3)
    world.ask(0, "put", key=b"k", value=b"v", ttl_ms=2000)
    world.time.run(1.9)
    assert [world.ask(node, "get", key=b"k", r=1)["values"] for node in range(3)] == [[b"v"]] * 3
    world.time.run(0.2)
    for node in range(3):
        found = world.ask(node, "get", key=b"k", r=1)
        assert (found["values"], clock(world, found)) == ([], {0: 1})
    assert world.ask(1, "scan")["keys"] == []


def test_the_put_over_the_sibling_cap_is_refused_and_changes_nothing() -> None:
    world = World(3)
    for number in range(100):
        assert world.ask(0, "put", key=b"k", value=b"%d" % number)["ok"]
    refused = world.ask(0, "put", key=b"k", value=b"one too many")
    assert (refused["ok"], refused["error"]["code"], refused["error"]["definite"]) == (False, "too_many_siblings", True)
    found = world.ask(0, "get", key=b"k", r=3)
    assert len(found["values"]) == 100
    assert b"one too many" not in found["values"]
    world.ask(0, "put", key=b"k", value=b"resolved", ctx=found["ctx"])
    assert world.ask(0, "get", key=b"k", r=3)["values"] == [b"resolved"]


def test_merge_refuses_no_sibling() -> None:
    world = World(3)
    for node in range(3):
        world.network.silence(node, *(other for other in range(3) if other != node))
    values = [b"%d" % number for number in range(60)]
    for node in range(3):
        puts = [{"op": "put", "key": b"k", "value": b"%s@%d" % (value, node), "w": 1} for value in values]
        world.send_together(node, puts)
    world.time.run(1)
    world.network.cut.clear()
    for node in range(3):
        assert len(world.ask(node, "get", key=b"k", r=3)["values"]) == 180


def test_a_refused_put_leaves_its_batch_and_the_others_go_on() -> None:
    world = World(3)
    for number in range(100):
        world.ask(0, "put", key=b"full", value=b"%d" % number)
    reply = world.ask(0, "mput", keys=[b"a", b"full", b"b"], values=[b"1", b"x", b"2"])
    assert [(index, error["code"]) for index, error in reply["errors"]] == [(1, "too_many_siblings")]
    assert [token is None for token in reply["ctxs"]] == [False, True, False]
    assert world.ask(1, "mget", keys=[b"a", b"b"])["values"] == [[b"1"], [b"2"]]


def test_a_forged_token_is_refused_and_the_node_goes_on() -> None:
    world = World(3)
    for forged in (b"x", b"\x01" * 25, bytes(25)):
        refused = world.ask(0, "put", key=b"k", value=b"v", ctx=forged)
        assert (refused["error"]["code"], refused["error"]["definite"]) == ("bad_request", True)
    assert world.ask(0, "put", key=b"k", value=b"v")["ok"]


def test_a_batchs_tokens_serve_each_key_by_itself() -> None:
    world = World(3)
    first = world.ask(0, "mput", keys=[b"a", b"b"], values=[b"1", b"2"])
    second = world.ask(0, "mput", keys=[b"a", b"b"], values=[b"3", b"4"], ctxs=[first["ctxs"][0], None])
    assert [MODE.clock(token) for token in second["ctxs"]] == [{0: 2}, {0: 1}]
    found = world.ask(1, "mget", keys=[b"a", b"b", b"none"], r=3)
    assert [sorted(values) for values in found["values"]] == [[b"3"], [b"2", b"4"], []]
    assert found["ctxs"][2] == b""
    assert found["errors"] == []
