"""What every mode must do. A plug-in's tests subclass :class:`ModeSuite` and name it; whole nodes run in a world."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from random import Random
from typing import Any

import pytest

from kvbus.ports.mode import ModePlugin
from tests.sim.durability import durable_copies
from tests.sim.world import Reply, World

OPERATIONS = {"get": "get", "mget": "get", "put": "put", "mput": "put", "delete": "delete", "scan": "scan"}
# The optional fields that the protocol gives each operation; a mode says which of them it has.
OPTIONS: dict[str, dict[str, Any]] = {
    "get": {"r": 1, "pr": 1, "cl": "one", "stale": True, "receipt": True, "explain": True},
    "mget": {"r": 1, "pr": 1, "cl": "one", "stale": True, "receipt": True},
    "put": {"w": 1, "pw": 1, "cl": "one", "ttl_ms": 60_000, "ctx": b"", "receipt": True, "rev": 0,
            "session": bytes(16), "seq": 1},
    "mput": {"w": 1, "pw": 1, "cl": "one", "ttl_ms": 60_000, "ctxs": [None], "receipt": True,
             "session": bytes(16), "seq": 1},
    "delete": {"w": 1, "pw": 1, "cl": "one", "ctx": b"", "receipt": True, "rev": 0,
               "session": bytes(16), "seq": 1},
    "scan": {"r": 1, "pr": 1, "cl": "one", "stale": True, "receipt": True},
}  # fmt: skip
BODIES: dict[str, dict[str, Any]] = {
    "get": {"key": b"k"}, "mget": {"keys": [b"k"]}, "put": {"key": b"k", "value": b"v"},
    "mput": {"keys": [b"k"], "values": [b"v"]}, "delete": {"key": b"k"}, "scan": {},
}  # fmt: skip


def _count_copies(world: World, value: bytes, copies: list[int], reply: Reply) -> None:
    copies.append(durable_copies(world, value))


class ModeSuite(ABC):
    """Conformance tests; :meth:`plugin` names the mode under test, which serves at least get, put and delete."""

    @abstractmethod
    def plugin(self) -> ModePlugin:
        """Return the mode under test."""

    def world(self, nodes: int = 3, seed: int = 0) -> World:
        """Build a world whose one keyspace is in this mode."""
        return World(nodes, seed=seed, plugin=self.plugin())

    def token(self, world: World, reply: Reply) -> dict[str, Any]:
        """Return the field that carries the reply's version token, as the next write has to."""
        name = world.nodes[0].modes[self.plugin().name].token_name
        return {name: reply[name]}

    @pytest.mark.parametrize("nodes", [1, 3, 5])
    def test_put_then_get_returns_the_value_at_every_node(self, nodes: int) -> None:
        world = self.world(nodes)
        for number in range(20):
            assert world.ask(number % nodes, "put", key=b"%d" % number, value=b"v%d" % number)["ok"]
        for number in range(20):
            assert world.ask((number + 1) % nodes, "get", key=b"%d" % number)["values"] == [b"v%d" % number]

    def test_absent_key_has_no_values(self) -> None:
        reply = self.world().ask(0, "get", key=b"none")
        assert (reply["ok"], reply["values"]) == (True, [])

    def test_an_empty_value_is_a_value(self) -> None:
        world = self.world()
        world.ask(0, "put", key=b"k", value=b"")
        assert world.ask(1, "get", key=b"k")["values"] == [b""]

    def test_overwrites_with_the_last_token_leave_one_value(self) -> None:
        world = self.world(5)
        reply = world.ask(0, "put", key=b"k", value=b"0")
        for number in range(1, 12):
            value = b"%d" % number
            reply = world.ask(number % 5, "put", key=b"k", value=value, **self.token(world, reply))
            assert reply["ok"]
            assert world.ask((number * 2) % 5, "get", key=b"k")["values"] == [value]

    def test_deleted_key_has_no_values_and_can_be_put_again(self) -> None:
        world = self.world(5)
        for round_ in range(3):
            value = b"%d" % round_
            found = world.ask(round_, "get", key=b"k")
            seen = self.token(world, found) if round_ else {}
            put = world.ask(round_, "put", key=b"k", value=value, **seen)
            assert world.ask(0, "get", key=b"k")["values"] == [value]
            assert world.ask(4 - round_, "delete", key=b"k", **self.token(world, put))["ok"]
            assert world.ask(round_, "get", key=b"k")["values"] == []

    def test_a_batchs_keys_stand_each_by_itself(self) -> None:
        world = self.world(5)
        keys = [b"%d" % number for number in range(40)]
        put = world.ask(0, "mput", keys=keys, values=keys)
        name = world.nodes[0].modes[self.plugin().name].token_name + "s"
        assert (put["errors"], len(put[name]), None in put[name]) == ([], 40, False)
        found = world.ask(3, "mget", keys=[b"none", *keys[::-1]])
        assert found["values"] == [[], *([key] for key in keys[::-1])]
        assert (found["errors"], len(found[name])) == ([], 41)

    def test_requests_of_one_tick_are_answered_each_by_itself(self) -> None:
        world = self.world(5)
        puts = [{"op": "put", "key": b"%d" % number, "value": b"%d" % number} for number in range(30)]
        gets = [{"op": "get", "key": b"%d" % number} for number in range(30)]
        for requests in (puts, gets):
            ids = world.send_together(2, requests)
            world.time.run(1)
            assert all(world.replies[number]["ok"] for number in ids)
        assert [world.replies[number]["values"] for number in ids] == [[b"%d" % number] for number in range(30)]

    @pytest.mark.parametrize("op", OPERATIONS)
    def test_what_the_mode_does_not_have_is_rejected_and_never_ignored(self, op: str) -> None:
        served = self.plugin().operations.get(OPERATIONS[op])
        world = self.world()
        if served is None:
            assert world.ask(0, op, **BODIES[op])["error"]["code"] == "unsupported"
            return
        for name, value in OPTIONS[op].items():
            reply = world.ask(0, op, **BODIES[op], **{name: value})
            refused = not reply["ok"] and reply["error"]["code"] == "unsupported"
            assert refused is (name.removesuffix("s" if name == "ctxs" else "") not in served), name
            if refused:
                assert reply["error"]["definite"]
                assert name in reply["error"]["message"]
        assert world.ask(0, op, **BODIES[op], color="red")["error"]["code"] == "bad_request"
        assert world.ask(0, "frobnicate")["error"]["code"] == "unknown_op"
        assert world.ask(0, op, **BODIES[op], ks="none")["error"]["code"] == "unknown_keyspace"

    @pytest.mark.parametrize("seed", range(5))
    def test_every_request_is_answered_once_in_time_under_loss_and_lost_links(self, seed: int) -> None:
        world = self.world(5, seed)
        world.network.loss = 0.2
        sent: dict[int, float] = {}
        for number in range(120):
            node, op = world.rng.randrange(5), world.rng.choice(["get", "mget", "put", "mput", "delete"])
            sent[world.send(node, op, **BODIES[op], deadline_ms=800)] = world.time.now
            if number % 10 == 0:
                i, j = world.rng.sample(range(5), 2)
                world.network.set_link(i, j, False)
                world.network.set_link(i, j, True)
            world.time.run(0.005)
        late: list[int] = []
        world.on_reply = lambda reply: late.append(reply["id"]) if world.time.now - sent[reply["id"]] > 0.8 else None
        world.time.run(2)
        assert sorted(world.replies) == sorted(sent)
        assert late == []
        assert [node.pending() for node in world.nodes.values()] == [0] * 5
        for reply in world.replies.values():
            assert reply["ok"] or {"code", "message", "definite"} <= reply["error"].keys()

    @pytest.mark.parametrize("seed", range(5))
    def test_nothing_is_answered_before_it_is_durable(self, seed: int) -> None:
        world = self.world(5, seed)
        for number in range(12):
            copies: list[int] = []
            value = b"value %d." % number
            world.on_reply = partial(_count_copies, world, value, copies)
            assert world.ask(number % 5, "put", key=b"k%d" % number, value=value)["ok"]
            assert copies[0] >= 1

    @pytest.mark.parametrize("seed", range(5))
    def test_a_restart_keeps_what_was_acknowledged(self, seed: int) -> None:
        world = self.world(3, seed)
        for number in range(15):
            assert world.ask(number % 3, "put", key=b"%d" % number, value=b"%d" % number)["ok"]
        for node in range(3):
            world.crash(node)
        world.time.run(1)
        for node in range(3):
            world.start(node)
        for number in range(15):
            assert world.ask(number % 3, "get", key=b"%d" % number)["values"] == [b"%d" % number]
            found = world.ask(number % 3, "get", key=b"%d" % number)
            assert world.ask(0, "put", key=b"%d" % number, value=b"new", **self.token(world, found))["ok"]
            assert world.ask(1, "get", key=b"%d" % number)["values"] == [b"new"]

    def test_the_same_seed_gives_the_same_run(self) -> None:
        digests: list[str] = []
        for seed in (1, 1, 2):
            world = self.world(5, seed)
            world.network.loss = 0.1
            for number in range(60):
                op = world.rng.choice(["get", "put", "mget", "delete"])
                world.send(number % 5, op, **BODIES[op])
                world.time.run(0.002)
            world.time.run(6)
            digests.append(world.digest.hexdigest())
        assert digests[0] == digests[1] != digests[2]

    def test_status_is_a_map_of_ints_and_pending_returns_to_0(self) -> None:
        world = self.world()
        mode = world.nodes[0].modes[self.plugin().name]
        request = world.send(0, "mput", keys=[b"a", b"b", b"c"], values=[b"", b"", b""])
        world.time.run(0.00015)
        assert mode.pending() == 3
        world.time.run(6)
        assert (request in world.replies, mode.pending()) == (True, 0)
        status = mode.status()
        assert status
        assert all(type(name) is str and type(value) is int for name, value in status.items())
        assert world.ask(0, "stats")["stats"].keys() >= {f"{self.plugin().name}_{name}" for name in status}

    @pytest.mark.parametrize("seed", range(5))
    def test_peer_garbage_is_counted_and_survived(self, seed: int) -> None:
        world, rng = self.world(3, seed), Random(seed)
        seen: list[bytes] = []
        world.network.tap = lambda way, frames: seen.extend(frames)
        for number in range(6):
            world.ask(number % 3, "put", key=b"%d" % number, value=b"%d" % number)
        garbage = [frame[: rng.randrange(len(frame))] for frame in seen] + [rng.randbytes(n) for n in range(60)]
        kinds = self.plugin().frame_kinds
        garbage += [bytes([kind]) + bytes(23) + rng.randbytes(rng.randrange(30)) for kind in kinds for _ in range(5)]
        for frame in garbage:
            world.network.post((1, 0), [frame])
        world.time.run(6)
        assert world.nodes[0].metrics.peer_protocol_errors_total > 0
        for number in range(6):
            assert world.ask(0, "get", key=b"%d" % number)["values"] == [b"%d" % number]
        assert world.nodes[0].pending() == 0
