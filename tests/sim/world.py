"""A small seeded world: whole nodes, unchanged, in virtual time, on one thread and without a socket."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any

from memory_disk import MemoryDisk

from kvbus.core.keyspace import Keyspace
from kvbus.core.links import Links
from kvbus.core.metrics import Metrics
from kvbus.core.node import Identity, Node
from kvbus.core.request import Call, ClientOrigin
from kvbus.core.tick import Effects, Tick
from kvbus.core.topology import Member, Topology
from kvbus.core.types import NodeIndex
from kvbus.plugins import mode_plugin
from kvbus.ports.mode import Limits, ModeContext, ModePlugin
from kvbus.wire.cbor import decode_map, dumps
from kvbus.wire.client_replies import encode_reply
from kvbus.wire.client_requests import Intake, ServedKeyspace
from kvbus_storage import MemoryEngine, open_engine

Reply = dict[str, Any]
WALL_MS = 1_700_000_000_000


class World:
    """Nodes ``n1`` … in virtual seconds. ``loss`` is the chance that a peer message vanishes; ``cut`` holds the
    ordered pairs of nodes between which messages vanish; ``down`` the nodes that are switched off."""

    def __init__(
        self, nodes: int = 3, *, seed: int = 0, replicas: int = 3, plugin: ModePlugin | None = None, **keyspace: Any
    ) -> None:
        self.rng = Random(seed)
        self.now = 0.0
        self.loss = 0.0
        self.cut: set[tuple[int, int]] = set()
        self.down: set[int] = set()
        self.replies: dict[int, Reply] = {}
        self.limits = Limits()
        self.plugin = plugin or mode_plugin("ap")
        self.keyspaces = {
            "default": Keyspace(name="default", mode=self.plugin.name, n=min(replicas, nodes), **keyspace)
        }
        members = [Member(name=f"n{i + 1}", client="", peer="", gossip="") for i in range(nodes)]
        self.topology = Topology.first(members=members, partitions=16, replicas=replicas)
        self.disks = [MemoryDisk() for _ in range(nodes)]
        self.starts = [0] * nodes
        self.engines: dict[int, MemoryEngine] = {}
        self.nodes: dict[int, Node] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        for i in range(nodes):
            self.start(i)

    def start(self, i: int) -> None:
        """Start node ``i`` from its disk and connect it to all that are up."""
        self.starts[i] += 1
        self.down.discard(i)
        engine = self.engines[i] = open_engine(self.disks[i], sync="batch", interval_ms=1000)
        links, metrics = Links(NodeIndex(i), len(self.topology.members)), Metrics()
        context = ModeContext(
            me=NodeIndex(i), topology=self.topology, keyspaces=self.keyspaces, engine=engine, links=links,
            rng=Random(self.rng.random()), limits=self.limits, metrics=metrics, incarnation=self.starts[i],
            hold_floor=None,
        )  # fmt: skip
        name = self.plugin.name
        self.nodes[i] = Node(
            identity=Identity(me=NodeIndex(i), name=f"n{i + 1}", cluster="sim", version="0"),
            topology=self.topology, keyspaces=self.keyspaces, modes={name: self.plugin.create(context)},
            frame_modes=dict.fromkeys(self.plugin.frame_kinds, name), operations={name: self.plugin.operations},
            links=links, engine=engine, limits=self.limits, metrics=metrics,
        )  # fmt: skip
        for j in range(len(self.topology.members)):
            if j != i and j not in self.down and j in self.nodes:
                self._deliver(i, lambda t, j=j: t.links.append((NodeIndex(j), True)))
                self._deliver(j, lambda t: t.links.append((NodeIndex(i), True)))

    def kill(self, i: int) -> None:
        """Crash node ``i``: unsynced data are gone, peers see their links lost."""
        self.down.add(i)
        self.disks[i] = self.disks[i].crash(self.rng)
        for j in self.nodes:
            if j != i and j not in self.down:
                self._deliver(j, lambda t: t.links.append((NodeIndex(i), False)))

    def send(self, i: int, op: str, **fields: Any) -> int:
        """Send a client request to node ``i`` at the present time; return its id."""
        self._sequence += 1
        request = self._sequence
        body = dumps({"id": request, "op": op, **fields})
        self._at(0.0001, lambda: self._receive(i, body))
        return request

    def ask(self, i: int, op: str, **fields: Any) -> Reply:
        """Send a request and run until its reply."""
        request = self.send(i, op, **fields)
        self.run(60.0, until=lambda: request in self.replies)
        return self.replies[request]

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let virtual time pass, at most until ``until`` holds."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end and not until():
            self.now, _, act = heapq.heappop(self._events)
            act()
        if not until():
            self.now = end

    def _at(self, delay: float, act: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (self.now + delay, self._sequence, act))

    def _receive(self, i: int, body: bytes) -> None:
        keyspace = self.keyspaces["default"]
        intake = Intake({"default": ServedKeyspace(keyspace.mode, "ctx", self.plugin.operations)}, self.limits)
        intake.add(ClientOrigin(b"client", False), body)
        tick = self._tick()
        for refused in intake.hand_over(tick):
            self._answer(refused)
        self._step(i, tick)

    def _deliver(self, i: int, fill: Callable[[Tick], None]) -> None:
        tick = self._tick()
        fill(tick)
        self._step(i, tick)

    def _tick(self) -> Tick:
        return Tick(self.now, WALL_MS + int(self.now * 1000))

    def _answer(self, call: Call) -> None:
        reply = decode_map(encode_reply(call, self.limits.reply_bytes))
        assert reply["id"] not in self.replies, "a call was answered twice"
        self.replies[reply["id"]] = reply  # type: ignore[index]

    def _step(self, i: int, tick: Tick) -> None:
        if i in self.down:
            return
        out = Effects()
        self.nodes[i].step(tick, out)
        for call in out.replies:
            self._answer(call)
        for peer, frames in out.peer_frames.items():
            if (i, peer) not in self.cut and self.rng.random() >= self.loss:
                self._post(i, peer, list(frames))
        if out.commit:
            durable = self.engines[i].commit()
            self._at(0.0003, lambda: self._deliver(i, lambda t: setattr(t, "persisted", durable)))
        if out.wake_at is not None:
            self._at(max(0.0, out.wake_at - self.now), lambda: self._deliver(i, lambda t: None))

    def _post(self, sender: int, receiver: int, frames: list[bytes]) -> None:
        arrived = [(NodeIndex(sender), frame) for frame in frames]
        self._at(self.rng.uniform(0.0002, 0.003), lambda: self._deliver(receiver, lambda t: t.frames.extend(arrived)))
