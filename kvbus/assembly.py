"""A node out of its configuration, its papers and its engine: the same one in a process and in a simulated world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvbus import __version__
from kvbus.config import NodeConfig
from kvbus.core.jobs import Job
from kvbus.core.links import Links
from kvbus.core.metrics import Metrics
from kvbus.core.node import Identity, Node
from kvbus.core.topology import Topology
from kvbus.identity import Papers
from kvbus.plugins import mode_plugin
from kvbus.ports.engine import Engine
from kvbus.ports.mode import Mode, ModeContext, ModePlugin
from kvbus.wire.client_requests import Intake, ServedKeyspace
from kvbus.wire.handshake import Handshake
from kvbus.wire.peer_frames import PEER_PROTOCOL_VERSION, Hello

FLUSH_JOB = "flush"
_FLUSH_SECONDS = 1.0
_COMPACT_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Assembly:
    """A node and what stands between it and its sockets. ``jobs`` is its maintenance."""

    node: Node
    intake: Intake
    handshake: Handshake
    jobs: tuple[Job, ...]

    def hand_over(self) -> int | None:
        """Return the version hold that a clean stop hands on to the next start."""
        floors = [mode.hand_over() for mode in self.node.modes.values()]
        return next((floor for floor in floors if floor is not None), None)


def layout(config: NodeConfig) -> str:
    """Name what places the keys and gives out the short ids; see :class:`kvbus.identity.Papers`."""
    members = sorted(config.members, key=lambda member: member.name)
    places = " ".join(f"{each.name}({each.dc},{each.rack},{each.weight:g})" for each in members)
    return f"members {places}, {config.partitions} partitions, replicas {config.replicas}"


def assemble(
    config: NodeConfig,
    topology: Topology,
    papers: Papers,
    engine: Engine,
    metrics: Metrics,
    *,
    find_mode: Callable[[str], ModePlugin] = mode_plugin,
) -> Assembly:
    """Build the node that ``papers`` belong to; its modes recover their state from ``engine``.

    Raises:
        ConfigError: a keyspace's mode is unknown.
    """
    me = topology.index[config.name]
    links = Links(me, len(topology.members))
    plugins = {keyspace.mode: find_mode(keyspace.mode) for keyspace in config.keyspaces.values()}
    context = ModeContext(
        me=me,
        topology=topology,
        keyspaces=config.keyspaces,
        engine=engine,
        links=links,
        limits=config.limits,
        metrics=metrics,
        incarnation=papers.incarnation,
        hold_floor=papers.hold_floor,
    )
    modes: dict[str, Mode] = {name: plugin.create(context) for name, plugin in plugins.items()}
    node = Node(
        identity=Identity(me=me, name=config.name, cluster=config.cluster, version=__version__),
        topology=topology,
        keyspaces=config.keyspaces,
        modes=modes,
        frame_modes={kind: name for name, plugin in plugins.items() for kind in plugin.frame_kinds},
        operations={name: plugin.operations for name, plugin in plugins.items()},
        links=links,
        engine=engine,
        limits=config.limits,
        metrics=metrics,
        tells_digests=config.faults_enabled,
    )
    served = {
        name: ServedKeyspace(keyspace.mode, modes[keyspace.mode].token_name, node.operations[keyspace.mode])
        for name, keyspace in config.keyspaces.items()
    }
    hello = Hello(
        version=PEER_PROTOCOL_VERSION,
        cluster=config.cluster,
        name=config.name,
        node_id=papers.node_id,
        incarnation=papers.incarnation,
        epoch=topology.epoch,
        agreement=config.agreement(),
    )
    return Assembly(
        node=node,
        intake=Intake(served, config.limits),
        handshake=Handshake(hello, topology.index, papers.known),
        jobs=(
            Job(name=FLUSH_JOB, every_seconds=_FLUSH_SECONDS, run=engine.flush_due),
            Job(name="compact", every_seconds=_COMPACT_SECONDS, run=engine.compact_due),
        ),
    )
