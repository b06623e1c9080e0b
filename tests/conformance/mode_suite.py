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
    if reply["ok"]:
        copies.append(durable_copies(world, value))


class ModeSuite(ABC):
    """Conformance tests; :meth:`plugin` names the mode under test, which serves at least get, put and delete."""

    @abstractmethod
    def plugin(self) -> ModePlugin:
        """Return the mode under test."""

    def world(self, nodes: int = 3, seed: int = 0) -> World:
        """Build a world whose one keyspace is in this mode."""
        return World(nodes, seed=seed, plugin=self.plugin())

    def ask(self, world: World, node: int, op: str, **fields: Any) -> Reply:
        """Ask ``node`` about a key; follow it to the key's first owner, as a client does, if it does not serve it."""
        return self.follow(world, world.ask(node, op, **fields), op=op, **fields)

    def follow(self, world: World, reply: Reply, *, op: str, **fields: Any) -> Reply:
        """Ask the key's first owner if ``reply`` says that the node does not serve the key."""
        if reply["ok"] or reply["error"]["code"] != "stale_epoch":
            return reply
        assert reply["error"]["definite"]
        return world.ask(world.first_owner(fields["key"]), op, **fields)

    def token(self, world: World, reply: Reply) -> dict[str, Any]:
        """Return the field that carries the reply's version token, as the next write has to."""
        name = world.nodes[0].modes[self.plugin().name].token_name
        return {name: reply[name]}

    @pytest.mark.parametrize("nodes", [1, 3, 5])
    def test_put_then_get_returns_the_value_at_every_node(self, nodes: int) -> None:
        world = self.world(nodes)
        for number in range(20):
            assert self.ask(world, number % nodes, "put", key=b"%d" % number, value=b"v%d" % number)["ok"]
        for number in range(20):
            assert self.ask(world, (number + 1) % nodes, "get", key=b"%d" % number)["values"] == [b"v%d" % number]

    def test_absent_key_has_no_values(self) -> None:
        reply = self.ask(self.world(), 0, "get", key=b"none")
        assert (reply["ok"], reply["values"]) == (True, [])

    def test_an_empty_value_is_a_value(self) -> None:
        world = self.world()
        self.ask(world, 0, "put", key=b"k", value=b"")
        assert self.ask(world, 1, "get", key=b"k")["values"] == [b""]

    def test_overwrites_with_the_last_token_leave_one_value(self) -> None:
        world = self.world(5)
        reply = self.ask(world, 0, "put", key=b"k", value=b"0")
        for number in range(1, 12):
            value = b"%d" % number
            reply = self.ask(world, number % 5, "put", key=b"k", value=value, **self.token(world, reply))
            assert reply["ok"]
            assert self.ask(world, (number * 2) % 5, "get", key=b"k")["values"] == [value]

    def test_deleted_key_has_no_values_and_can_be_put_again(self) -> None:
        world = self.world(5)
        for round_ in range(3):
            value = b"%d" % round_
            found = self.ask(world, round_, "get", key=b"k")
            seen = self.token(world, found) if round_ else {}
            put = self.ask(world, round_, "put", key=b"k", value=value, **seen)
            assert self.ask(world, 0, "get", key=b"k")["values"] == [value]
            assert self.ask(world, 4 - round_, "delete", key=b"k", **self.token(world, put))["ok"]
            assert self.ask(world, round_, "get", key=b"k")["values"] == []

    def test_a_batchs_keys_stand_each_by_itself(self) -> None:
        world = self.world(5)
        keys = [b"%d" % number for number in range(40)]
        put = self._ask_around(world, "mput", keys)
        assert None not in put.values()
        found = self._ask_around(world, "mget", [b"none", *keys[::-1]])
        assert found == {b"none": [], **{key: [key] for key in keys}}

    def _ask_around(self, world: World, op: str, keys: list[bytes]) -> dict[bytes, Any]:
        """Send a batch from node to node, each time without the keys that were served; return each key's outcome."""
        tokens = world.nodes[0].modes[self.plugin().name].token_name + "s"
        outcomes: dict[bytes, Any] = {}
        for node in world.nodes:
            left = [key for key in keys if key not in outcomes]
            reply = world.ask(node, op, keys=left, **({"values": left} if op == "mput" else {}))
            refused = dict(reply["errors"])
            assert all((error["code"], error["definite"]) == ("stale_epoch", True) for error in refused.values())
            served = reply[tokens if op == "mput" else "values"]
            assert len(reply[tokens]) == len(served) == len(left)
            outcomes |= {key: served[i] for i, key in enumerate(left) if i not in refused}
            if len(outcomes) == len(keys):
                break
        assert outcomes.keys() == dict.fromkeys(keys).keys()
        return outcomes

    def test_requests_of_one_tick_are_answered_each_by_itself(self) -> None:
        world = self.world(5)
        puts: list[dict[str, Any]] = [
            {"op": "put", "key": b"%d" % number, "value": b"%d" % number} for number in range(30)
        ]
        gets: list[dict[str, Any]] = [{"op": "get", "key": b"%d" % number} for number in range(30)]
        replies: list[Reply] = []
        for requests in (puts, gets):
            ids = world.send_together(2, requests)
            world.time.run(1)
            replies = [self.follow(world, world.replies[i], **asked) for i, asked in zip(ids, requests, strict=True)]
            assert all(reply["ok"] for reply in replies)
        assert [reply["values"] for reply in replies] == [[b"%d" % number] for number in range(30)]

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

    def test_a_put_that_the_disk_will_never_have_is_refused_and_not_seen(self) -> None:
        world = self.world(1)
        put = self.ask(world, 0, "put", key=b"k", value=b"old")
        world.disks[0].capacity_bytes = sum(len(file.data) for file in world.disks[0].files.values())
        for _ in range(2):
            assert not self.ask(world, 0, "put", key=b"k", value=b"new", **self.token(world, put))["ok"]
            assert self.ask(world, 0, "get", key=b"k")["values"] == [b"old"]
        assert world.nodes[0].pending() == 0

    @pytest.mark.parametrize("nodes", [1, 5])
    @pytest.mark.parametrize("seed", range(5))
    def test_nothing_is_answered_before_it_is_durable(self, seed: int, nodes: int) -> None:
        world = self.world(nodes, seed)
        for number in range(12):
            copies: list[int] = []
            value = b"value %d." % number
            world.on_reply = partial(_count_copies, world, value, copies)
            assert self.ask(world, number % nodes, "put", key=b"k%d" % number, value=value)["ok"]
            assert copies[0] >= 1

    @pytest.mark.parametrize("seed", range(5))
    def test_a_restart_keeps_what_was_acknowledged(self, seed: int) -> None:
        world = self.world(3, seed)
        for number in range(15):
            assert self.ask(world, number % 3, "put", key=b"%d" % number, value=b"%d" % number)["ok"]
        for node in range(3):
            world.crash(node)
        world.time.run(1)
        for node in range(3):
            world.start(node)
        for number in range(15):
            assert self.ask(world, number % 3, "get", key=b"%d" % number)["values"] == [b"%d" % number]
            found = self.ask(world, number % 3, "get", key=b"%d" % number)
            assert self.ask(world, 0, "put", key=b"%d" % number, value=b"new", **self.token(world, found))["ok"]
            assert self.ask(world, 1, "get", key=b"%d" % number)["values"] == [b"new"]

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
        keys = [key for number in range(40) if world.first_owner(key := b"%d" % number) == 0][:3]
        request = world.send(0, "mput", keys=keys, values=keys)
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
            self.ask(world, number % 3, "put", key=b"%d" % number, value=b"%d" % number)
        garbage = [frame[: rng.randrange(len(frame))] for frame in seen] + [rng.randbytes(n) for n in range(60)]
        kinds = self.plugin().frame_kinds
        garbage += [bytes([kind]) + bytes(23) + rng.randbytes(rng.randrange(30)) for kind in kinds for _ in range(5)]
        for frame in garbage:
            world.network.post((1, 0), [frame])
        world.time.run(6)
        assert world.nodes[0].metrics.peer_protocol_errors_total > 0
        for number in range(6):
            assert self.ask(world, 0, "get", key=b"%d" % number)["values"] == [b"%d" % number]
        assert world.nodes[0].pending() == 0
