"""A node around its modes: routing by keyspace and frame kind, its own requests, stopping."""

from __future__ import annotations

from typing import Any

import pytest

from kvbus.core.keyspace import Keyspace
from kvbus.core.links import Links
from kvbus.core.metrics import Metrics
from kvbus.core.node import Identity, Node
from kvbus.core.request import DEFAULT_OPTIONS, Call, ClientOrigin, NodeRequest, RequestColumns, ScanRequest
from kvbus.core.tick import Effects, Tick
from kvbus.core.topology import Member, Topology
from kvbus.core.types import NodeIndex
from kvbus.plugins import engine_plugin
from kvbus.ports.engine import EngineSettings
from kvbus.ports.mode import Limits, Mode, ModeContext
from kvbus.sim.disk import MemoryDisk
from kvbus_modes.ap import MODE
from tests.conformance.example_mode import PrimaryPlugin
from tests.workers import NO_WORKER

ORIGIN = ClientOrigin(b"client", False)


def node(*plugin_names: str) -> Node:
    plugins = [plugin for plugin in (MODE, PrimaryPlugin()) if plugin.name in plugin_names]
    keyspaces = {plugin.name: Keyspace(name=plugin.name, mode=plugin.name, n=1) for plugin in plugins}
    members = [Member(name="n1", client="", peer="", gossip=""), Member(name="n2", client="", peer="", gossip="")]
    topology = Topology.first(members=members, partitions=4, replicas=1)
    engine = engine_plugin("memory")(MemoryDisk(), EngineSettings(), worker=NO_WORKER, clock=float)
    links, metrics, limits = Links(NodeIndex(0), 2), Metrics(), Limits()
    context = ModeContext(
        me=NodeIndex(0), topology=topology, keyspaces=keyspaces, engine=engine, links=links, limits=limits,
        metrics=metrics, incarnation=1, hold_floor=None,
    )  # fmt: skip
    modes: dict[str, Mode] = {plugin.name: plugin.create(context) for plugin in plugins}
    return Node(
        identity=Identity(me=NodeIndex(0), name="n1", cluster="c", version="1.2"), topology=topology,
        keyspaces=keyspaces, modes=modes, links=links, engine=engine, limits=limits, metrics=metrics,
        frame_modes={kind: plugin.name for plugin in plugins for kind in plugin.frame_kinds},
        operations={plugin.name: plugin.operations for plugin in plugins},
    )  # fmt: skip


def stepped(machine: Node, tick: Tick) -> list[Call]:
    """Step, commit, step again; return what was answered."""
    out = Effects()
    machine.step(tick, out)
    done = Tick(tick.now, tick.wall_ms)
    done.persisted = machine.engine.commit()
    machine.step(done, out)
    return out.replies


def asked(machine: Node, op: str, **fields: Any) -> Call:
    tick = Tick(1.0, 1000)
    tick.node_requests = [NodeRequest(Call(ORIGIN, 1, op, op, 1, False), {"op": op, **fields})]
    (reply,) = stepped(machine, tick)
    return reply


def columns(machine: Node, keyspace: str, op: str) -> RequestColumns:
    """Ask about a key that node 1 owns."""
    found = RequestColumns(op, keyspace, DEFAULT_OPTIONS)
    found.calls, found.slots = [Call(ORIGIN, keyspace.encode(), op, op, 1, False)], [0]
    found.keys = [b"d" if keyspace == "ap" else b"a"]
    found.values, found.contexts = ([b"v"], [None]) if op == "put" else ([], [])
    return found


def test_hello_tells_who_this_is_and_what_it_serves() -> None:
    fields = asked(node("ap"), "hello", v=1).fields or {}
    assert (fields["v"], fields["node"], fields["cluster"], fields["version"]) == (1, "n1", "c", "1.2")
    assert fields["keyspaces"] == {
        "ap": {"mode": "ap", "n": 1, "r": 2, "w": 2, "preset": "R+W>N", "availability": "always"}
    }
    limits: Any = fields["limits"]
    assert (limits["key_bytes"], limits["value_bytes"], limits["batch_keys"]) == (1024, 10_240, 1024)


@pytest.mark.parametrize("version", [None, 2, "1"])
def test_hello_of_another_version_is_refused(version: object) -> None:
    refused = asked(node("ap"), "hello", **({} if version is None else {"v": version}))
    assert refused.error is not None
    assert refused.error.code == "bad_request"


def test_topology_tells_links_as_they_are() -> None:
    machine = node("ap")
    tick = Tick(1.0, 1000)
    tick.links = [(NodeIndex(1), True)]
    stepped(machine, tick)
    document: Any = asked(machine, "topology").fields
    assert [entry["status"] for entry in document["nodes"]] == ["up", "up"]
    assert len(document["owners"]) == 4


def test_stats_are_ints_of_engine_modes_and_node() -> None:
    stats: Any = (asked(node("ap", "primary"), "stats").fields or {})["stats"]
    assert all(type(value) is int for value in stats.values())
    expected = {"engine_keys", "ap_open_writes", "primary_pending_operations", "shed_total", "topology_epoch"}
    assert expected <= stats.keys()


def test_requests_go_to_the_mode_of_their_keyspace() -> None:
    machine = node("ap", "primary")
    tick = Tick(1.0, 1000)
    tick.requests = [columns(machine, "ap", "put"), columns(machine, "primary", "put")]
    out = Effects()
    machine.step(tick, out)
    assert {name: mode.pending() for name, mode in machine.modes.items()} == {"ap": 1, "primary": 1}
    assert machine.pending() == 2


def test_frames_go_to_the_mode_of_their_kind_and_others_are_counted() -> None:
    machine = node("ap", "primary")
    tick = Tick(1.0, 1000)
    tick.frames = [(NodeIndex(1), frame) for frame in (b"", b"\x01", b"\xff", b"\x10", b"\x20")]
    stepped(machine, tick)
    assert machine.metrics.peer_protocol_errors_total == 5


def test_a_frame_ends_a_peers_silence() -> None:
    machine = node("ap")
    machine.links.set(NodeIndex(1), True)
    machine.links.sent(NodeIndex(1), 0.0)
    assert machine.links.states(5.0)[NodeIndex(1)] == "silent"
    tick = Tick(5.0, 5000)
    tick.frames = [(NodeIndex(1), b"garbage")]
    stepped(machine, tick)
    assert machine.links.states(5.1)[NodeIndex(1)] == "up"


@pytest.mark.parametrize("names", [("ap",), ("ap", "primary")])
def test_a_stopping_node_refuses_each_call_once_and_answers_about_itself(names: tuple[str, ...]) -> None:
    machine = node(*names)
    machine.stopping = True
    tick = Tick(1.0, 1000)
    batch = RequestColumns("get", "ap", DEFAULT_OPTIONS)
    call = Call(ORIGIN, 1, "mget", "get", 2, True)
    batch.calls, batch.slots, batch.keys = [call, call], [0, 1], [b"a", b"b"]
    tick.requests = [batch]
    tick.scans = [ScanRequest(Call(ORIGIN, 2, "scan", "scan", 1, False), "ap", DEFAULT_OPTIONS)]
    tick.node_requests = [NodeRequest(Call(ORIGIN, 3, "ping", "ping", 1, False))]
    answers = {reply.id: reply.error.code if reply.error else "ok" for reply in stepped(machine, tick)}
    assert answers == {1: "shutting_down", 2: "shutting_down", 3: "ok"}
    assert machine.pending() == 0


@pytest.mark.parametrize("op", ["admin.partition", "admin.fault", "admin.faults", "admin.heal"])
def test_faults_are_left_to_the_world_even_while_the_node_stops(op: str) -> None:
    machine = node("ap")
    machine.stopping = True
    tick, out = Tick(1.0, 1000), Effects()
    tick.node_requests = [NodeRequest(Call(ORIGIN, 1, op, op, 1, False), {"op": op})]
    machine.step(tick, out)
    assert (out.fault_requests, out.replies) == (tick.node_requests, [])


def test_every_mode_hears_of_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = node("ap", "primary")
    told: list[bool] = []
    for mode in machine.modes.values():
        monkeypatch.setattr(mode, "step", lambda tick, out: told.append(tick.fell_silent))
    machine.links.set(NodeIndex(1), True)
    machine.links.sent(NodeIndex(1), 1.0)
    for now in (1.4, 1.6, 1.7):
        machine.step(Tick(now, 0), Effects())
    assert told == [False, False, True, True, False, False]
