"""A test bench: whole nodes in virtual time whose links, ticks and messages a test holds in its own hands.

Where :class:`kvbus.sim.world.World` behaves as real networks and processes do, here nothing happens by itself: a link
is up until the test takes it down, and a silent one may stay silent for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import count
from math import inf
from random import Random
from typing import Any

from kvbus.assembly import assemble
from kvbus.config import Listen, NodeConfig
from kvbus.core.keyspace import Keyspace
from kvbus.core.metrics import Metrics
from kvbus.core.node import Node
from kvbus.core.request import Call, ClientOrigin
from kvbus.core.ring import key_hash, partition_of
from kvbus.core.tick import Effects, Tick
from kvbus.core.topology import Member, Topology
from kvbus.errors import ReadOnly
from kvbus.identity import Papers
from kvbus.plugins import engine_plugin, mode_plugin
from kvbus.ports.engine import Engine, EngineSettings
from kvbus.ports.mode import Limits, ModePlugin
from kvbus.sim.disk import MemoryDisk
from kvbus.sim.timeline import Timeline
from kvbus.wire.cbor import decode_map, dumps
from kvbus.wire.client_replies import encode_reply
from kvbus.wire.client_requests import Intake
from tests.sim.network import Network
from tests.workers import NO_WORKER

Reply = dict[str, Any]
COMMIT_SECONDS, WALL_MS = 0.0003, 1_700_000_000_000


class World:
    """Nodes 0, 1 … named ``n1``, ``n2`` …; all that happens follows from the seed and the requests.

    ``down``: switched off. ``on_reply`` sees each reply as it leaves. ``digest`` hashes every effect of every step.
    """

    def __init__(self, nodes: int = 3, *, seed: int = 0, replicas: int = 3, plugin: ModePlugin | None = None,
                 limits: Limits | None = None, partitions: int = 16, **keyspace: Any) -> None:  # fmt: skip
        self.rng, self.time, self.digest = Random(seed), Timeline(), sha256()
        self.network = Network(self.time, self.rng, self.deliver)
        self.plugin, self.limits = plugin or mode_plugin("ap"), limits or Limits()
        self.keyspace = Keyspace(name="default", mode=self.plugin.name, n=min(replicas, nodes), **keyspace)
        members = [Member(name=f"n{i + 1}", client="", peer="", gossip="") for i in range(nodes)]
        self.topology = Topology.first(members=members, partitions=partitions, replicas=self.keyspace.n)
        self._config = NodeConfig(
            name="", data_dir="", listen=Listen(client="", peer="", gossip="", http=""), cluster="sim",
            partitions=partitions, replicas=self.keyspace.n, members=tuple(members), limits=self.limits,
            keyspaces={"default": self.keyspace},
        )  # fmt: skip
        self.down: dict[int, None] = dict.fromkeys(range(nodes))
        self.disks, self.starts = [MemoryDisk() for _ in range(nodes)], [0] * nodes
        self.engines: dict[int, Engine] = {}
        self.nodes: dict[int, Node] = {}
        self.replies: dict[int, Reply] = {}
        self.replied_at: dict[int, float] = {}
        self.on_reply: Callable[[Reply], object] = lambda reply: None
        self._intakes: dict[int, Intake] = {}
        self._wake: dict[int, float] = {}
        self._ids = count(1)
        for i in range(nodes):
            self.start(i)

    def start(self, i: int) -> None:
        """Start node ``i`` from its disk and link it to all that are up."""
        self.starts[i] += 1
        engine = self.engines[i] = engine_plugin("memory")(
            self.disks[i], EngineSettings(), worker=NO_WORKER, clock=float
        )
        config = replace(self._config, name=f"n{i + 1}")
        papers = Papers(cluster="sim", name=config.name, layout="", node_id="", incarnation=self.starts[i])
        built = assemble(config, self.topology, papers, engine, Metrics(), find_mode=lambda name: self.plugin)
        self.nodes[i], self._intakes[i] = built.node, built.intake
        del self.down[i]
        for j in self.nodes:
            if j != i and j not in self.down:
                self.network.set_link(i, j, True)

    def crash(self, i: int) -> None:
        """Switch node ``i`` off: of its unsynced bytes anything may be left; its peers see their links lost."""
        self.down[i] = None
        self.disks[i] = self.disks[i].crash(self.rng)
        for j in self.nodes:
            if j not in self.down:
                self.network.set_link(i, j, False)

    def send(self, i: int, op: str, **fields: Any) -> int:
        """Send a client's request to node ``i``; return its id."""
        return self.send_together(i, [{"op": op, **fields}])[0]

    def send_together(self, i: int, requests: list[dict[str, Any]]) -> list[int]:
        """Send requests that arrive in one tick; return their ids."""
        ids = [next(self._ids) for _ in requests]
        bodies = [dumps({"id": number, **fields}) for number, fields in zip(ids, requests, strict=True)]
        self.time.at(self.time.now + 0.0001, lambda: self.deliver(i, lambda tick: self._take_in(i, bodies, tick)))
        return ids

    def first_owner(self, key: bytes) -> int:
        """Return the node to which a client that routes sends a request for ``key``."""
        return self.topology.owners[partition_of(key_hash("default", key), self.topology.shift)][0]

    def ask(self, i: int, op: str, **fields: Any) -> Reply:
        """Send a request and let time pass until its reply."""
        request = self.send(i, op, **fields)
        self.time.run(60.0, until=lambda: request in self.replies)
        return self.replies[request]

    def deliver(self, i: int, fill: Callable[[Tick], object]) -> None:
        """Step node ``i``, if it is up, with a tick that ``fill`` fills; perform the effects."""
        if i in self.down:
            return
        tick, out = Tick(self.time.now, WALL_MS + int(self.time.now * 1000)), Effects()
        fill(tick)
        self.nodes[i].step(tick, out)
        self._hash(i, tick.now, out)
        for call in out.replies:
            self._answer(call)
        for peer, frames in out.peer_frames.items():
            self.network.post((i, peer), list(frames))
        if out.commit:
            self.time.at(tick.now + COMMIT_SECONDS, partial(self.deliver, i, partial(self._commit, i, self.starts[i])))
        if out.wake_at is not None and out.wake_at < self._wake.get(i, inf):
            self._wake[i] = out.wake_at
            self.time.at(out.wake_at, partial(self._woken, i, out.wake_at))

    def _woken(self, i: int, due: float) -> None:
        if self._wake.get(i) == due:
            del self._wake[i]
            self.deliver(i, lambda tick: None)

    def _hash(self, i: int, now: float, out: Effects) -> None:
        sizes = {peer: [len(frame) for frame in frames] for peer, frames in out.peer_frames.items()}
        self.digest.update(repr((i, now, sizes, out.commit, out.wake_at, out.traces)).encode())
        # Frames as they are: the text of large ones costs more than all else that a world does.
        for frames in out.peer_frames.values():
            for frame in frames:
                self.digest.update(frame)

    def _take_in(self, i: int, bodies: list[bytes], tick: Tick) -> None:
        for body in bodies:
            self._intakes[i].add(ClientOrigin(b"client", False), body)
        for refused in self._intakes[i].hand_over(tick):
            self._answer(refused)

    def _commit(self, i: int, start: int, tick: Tick) -> None:
        if start != self.starts[i]:
            return
        try:
            self.engines[i].commit()
        except ReadOnly:
            tick.append_failed = True
        tick.persisted = self.engines[i].durable_lsn

    def _answer(self, call: Call) -> None:
        body = encode_reply(call, self.limits.reply_bytes)
        self.digest.update(body)
        reply: Reply = decode_map(body)
        assert reply["id"] not in self.replies, "a call was answered twice"
        self.replies[reply["id"]], self.replied_at[reply["id"]] = reply, self.time.now
        self.on_reply(reply)
