"""A cluster in virtual time: processes, network and clients on one timeline, all drawn from one seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from random import Random

from kvbus.client.machine import Routing
from kvbus.client.url import DEFAULT_KEYSPACE
from kvbus.config import Listen, NodeConfig
from kvbus.core.digests import copy_digests
from kvbus.core.keyspace import Keyspace
from kvbus.core.ring import key_hash, partition_of
from kvbus.core.sides import Way, parted_ways
from kvbus.core.topology import Member, Topology
from kvbus.core.types import NodeIndex
from kvbus.errors import ConfigError, CorruptionError
from kvbus.plugins import mode_plugin
from kvbus.ports.engine import EngineSettings
from kvbus.ports.mode import Limits, ModePlugin
from kvbus.sim.client import ClientShell, SimClient
from kvbus.sim.network import Network, Rule
from kvbus.sim.process import Process
from kvbus.sim.timeline import Timeline
from kvbus.sim.trace import Trace

_SETTLE_SECONDS = 5.0


_STORAGE = EngineSettings(memory_bytes=1 << 20, flush_age_s=2.0)
"""Small and quick, so that a short run sees flushes and compactions."""


class World:
    """Nodes ``n1``, ``n2`` …; all that happens follows from the seed and from what is asked for.

    ``keyspaces`` are as in a configuration, "default" alone where none is given. Nodes start linked to nobody: let
    time pass, or call :meth:`settle`.
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        seed: int = 0,
        replicas: int = 3,
        partitions: int = 16,
        keyspaces: Mapping[str, Keyspace] | None = None,
        limits: Limits | None = None,
        storage: EngineSettings = _STORAGE,
        find_mode: Callable[[str], ModePlugin] = mode_plugin,
    ) -> None:
        self.rng, self.timeline, self.trace = Random(seed), Timeline(), Trace()
        self.network = Network(self.timeline, self.rng)
        self.names = [f"n{number + 1}" for number in range(nodes)]
        n = min(replicas, nodes)
        spaces = keyspaces or {DEFAULT_KEYSPACE: Keyspace(name=DEFAULT_KEYSPACE, n=n, r=min(2, n), w=min(2, n))}
        members = tuple(Member(name=name, client=address_of(name), peer="", gossip="") for name in self.names)
        self.topology = Topology.first(members=members, partitions=partitions, replicas=n)
        # The order of short ids, which is not that of the numbers from ten nodes on.
        self._name_of = [member.name for member in self.topology.members]
        self._clients: dict[int, ClientShell] = {}
        self.processes: dict[str, Process] = {}
        for name in self.names:
            config = NodeConfig(
                name=name, data_dir=name, listen=Listen(client="", peer="", gossip="", http=""), cluster="sim",
                partitions=partitions, replicas=n, members=members, keyspaces=spaces, storage=storage,
                limits=limits or Limits(),
            )  # fmt: skip
            self._add(config, find_mode)
        self._process_of = [self.processes[name] for name in self._name_of]
        for name in self.names:
            self.start(name)

    def start(self, name: str) -> None:
        """Start a node that is down, from its disk.

        Raises:
            ConfigError: it is up; or, as CorruptionError and OSError, what the real node would end with.
        """
        process = self.processes[name]
        if process.is_up:
            raise ConfigError(f"{name} is up; kill or stop it before you start it")
        process.start()
        self._tell(name, "started")
        self.network.appear(process.index)

    def kill(self, name: str) -> None:
        """End a node as SIGKILL does."""
        self._tell(name, "killed")
        self.processes[name].kill()

    def lose_power(self, name: str) -> None:
        """End a node as a power cut does: what it had not synced may be gone."""
        self._tell(name, "lost power")
        self.processes[name].lose_power()

    def stop(self, name: str) -> None:
        """Begin a node's clean stop; a paused one must go on for that, as with SIGTERM and SIGCONT."""
        self.resume(name)
        self._tell(name, "stopping")
        self.processes[name].stop()

    def pause(self, name: str) -> None:
        """Stop a node where it stands, as SIGSTOP does."""
        process = self.processes[name]
        if process.is_up and not process.is_paused:
            self._tell(name, "paused")
            process.pause()
            self.network.pause(process.index)

    def resume(self, name: str) -> None:
        """Let a paused node go on."""
        process = self.processes[name]
        if process.is_paused:
            self._tell(name, "resumed")
            self.network.resume(process.index)
            process.resume()

    def partition(self, text: str) -> None:
        """Cut the ways that ``text`` names, as :mod:`kvbus.core.sides` has it.

        Raises:
            ConfigError: the text names no cut.
        """
        self.cut(parted_ways(text, self.names))

    def cut(self, ways: Sequence[Way]) -> None:
        """Cut ways, by the names of sender and receiver."""
        self._tell("network", "cut " + " ".join(f"{sender}->{receiver}" for sender, receiver in ways))
        self.network.cut(self._ends(ways))

    def rule(self, ways: Sequence[Way], rule: Rule) -> None:
        """Treat the messages along ``ways``, by name, as ``rule`` says."""
        self._tell("network", f"{rule} on {ways}")
        self.network.rule(self._ends(ways), rule)

    def heal(self) -> None:
        """End all cuts and rules."""
        self._tell("network", "healed")
        self.network.heal()

    def is_linked(self) -> bool:
        """Say whether every node is up and linked to every other one."""
        return all(
            process.is_up and not process.is_paused and all(link.is_up for link in process.peers.values())
            for process in self.processes.values()
        )

    def settle(self) -> None:
        """Let time pass until all nodes are linked, at most five seconds."""
        self.timeline.run(_SETTLE_SECONDS, until=self.is_linked)

    def open_shell(self, *nodes: str, routing: Routing = "direct", beside: str | None = None) -> ClientShell:
        """Open a client of ``nodes`` (none: all of them) that takes operations without waiting for them."""
        end = len(self.names) + len(self._clients)
        shell = ClientShell(
            end, [address_of(name) for name in nodes or self.names], self.timeline, self.network, self,
            routing=routing, beside=None if beside is None else self.topology.index[beside],
            first_home=self.rng.getrandbits(16),
        )  # fmt: skip
        self._clients[end] = shell
        return shell

    def client(
        self, name: str | None = None, *, keyspace: str = DEFAULT_KEYSPACE, deadline_ms: int = 5000
    ) -> SimClient:
        """Open a blocking client: of one node, beside which it sits, or of all of them."""
        shell = self.open_shell(*([name] if name else []), routing="direct" if name else "topology", beside=name)
        return SimClient(shell, self._pass_time, keyspace=keyspace, deadline_ms=deadline_ms)

    def owners(self, keyspace: str, key: bytes) -> list[str]:
        """Return the replicas of a key, in preference order."""
        row = self.topology.owners[partition_of(key_hash(keyspace, key), self.topology.shift)]
        return [self._name_of[index] for index in row]

    def digests(self, keyspace: str) -> dict[str, dict[int, str]]:
        """Return a digest of each node's own copy of each partition that it owns; equal copies have equal ones.

        A node with a damaged copy has the damage at -1 instead.
        """
        return {name: self._digests_at(process, keyspace) for name, process in self.processes.items() if process.is_up}

    def _digests_at(self, process: Process, keyspace: str) -> dict[int, str]:
        try:
            return copy_digests(process.engine, self.topology, process.index, process.config.keyspaces[keyspace])
        except CorruptionError as error:
            return {-1: str(error)}

    def name_of(self, node: NodeIndex) -> str:
        """Return the name that belongs to a short id."""
        return self._name_of[node]

    def index_of(self, address: str) -> int:
        """Return the node at an address (the client's port)."""
        return self.topology.index[address.removeprefix(address_of(""))]

    def deliver(self, node: int, client: int, life: int, body: bytes) -> None:
        """Hand a client's request to a node (the client's port)."""
        self._process_of[node].take_requests(b"%d:%d" % (client, life), [body])

    def _add(self, config: NodeConfig, find_mode: Callable[[str], ModePlugin]) -> None:
        me = self.topology.index[config.name]
        process = self.processes[config.name] = Process(
            config, self.topology, self.timeline, self.rng, self.trace,
            send_peer=partial(self._send_peer, me), send_reply=partial(self._send_reply, me),
            on_end=lambda goodbye: self.network.vanish(me, says_goodbye=goodbye), find_mode=find_mode,
        )  # fmt: skip
        for index in range(len(self.names)):
            if index != me:
                far = NodeIndex(index)
                process.peers[far] = self.network.connect(
                    me, far, greet=partial(self._greet, me, far), on_change=partial(process.take_link, far)
                )

    def _greet(self, near: NodeIndex, far: NodeIndex) -> bool:
        """Say near's hello to far, as the peer ports do; a refused one is told and tried again."""
        greeted = self._process_of[far]
        hello = self._process_of[near].assembly.handshake.own
        handshake = greeted.assembly.handshake
        before = handshake.known.get(hello.name)
        refusal = handshake.judge(hello)
        if refusal is not None:
            self._tell(self._name_of[far], f"refused {hello.name}: {refusal}")
            return False
        if handshake.known[hello.name] != before:
            greeted.remember_peers()
        return True

    def _send_peer(self, me: NodeIndex, peer: NodeIndex, frames: list[bytes]) -> None:
        processes = self._process_of
        self.network.send(processes[me].peers[peer], True, partial(processes[peer].take_frames, me, frames))

    def _send_reply(self, me: NodeIndex, routing_id: bytes, body: bytes) -> None:
        client, life = routing_id.split(b":")
        self._clients[int(client)].take_reply(address_of(self._name_of[me]), int(life), body)

    def _ends(self, ways: Sequence[Way]) -> list[tuple[int, int]]:
        index = self.topology.index
        return [(index[sender], index[receiver]) for sender, receiver in ways]

    def _pass_time(self, until: Callable[[], bool]) -> None:
        self.timeline.run(inf, until)

    def _tell(self, name: str, event: str) -> None:
        self.trace.tell(self.timeline.now, name, event, {})


def address_of(name: str) -> str:
    """Return a node's client address in a world."""
    return f"sim://{name}"
