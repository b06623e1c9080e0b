"""Transports of whole clusters in one process: real sockets on loopback, no node behind them."""

from __future__ import annotations

from collections.abc import Sequence

from kvbus.core.metrics import Metrics
from kvbus.core.topology import Member, Topology
from kvbus.core.types import NodeIndex
from kvbus.ports.mode import Limits
from kvbus.runtime.zmq_transport import Addresses, ZmqTransport
from kvbus.wire.client_requests import Intake
from kvbus.wire.handshake import Handshake
from kvbus.wire.peer_frames import PEER_PROTOCOL_VERSION, Hello
from tests.live.ports import free_base_port


def loopback_topology(names: Sequence[str]) -> Topology:
    """Return a topology whose members have free ports."""
    base = free_base_port(len(names))
    members = [
        Member(
            name=name,
            client=f"tcp://127.0.0.1:{base + 10 * number}",
            peer=f"tcp://127.0.0.1:{base + 10 * number + 1}",
            gossip=f"tcp://127.0.0.1:{base + 10 * number + 2}",
        )
        for number, name in enumerate(names)
    ]
    return Topology.first(members=members, partitions=4, replicas=min(3, len(names)))


def open_transport(topology: Topology, me: int, metrics: Metrics, *, faults_enabled: bool = False) -> ZmqTransport:
    """Open the sockets of the member ``me``."""
    member = topology.members[me]
    hello = Hello(
        version=PEER_PROTOCOL_VERSION,
        cluster="gossip",
        name=member.name,
        node_id=f"{me:032x}",
        incarnation=1,
        epoch=1,
        agreement="same",
    )
    return ZmqTransport(
        listen=Addresses(client=member.client, peer=member.peer, gossip=member.gossip),
        topology=topology,
        me=NodeIndex(me),
        handshake=Handshake(hello, topology.index, {}),
        intake=Intake({}, Limits()),
        request_bytes=1 << 20,
        reply_bytes=1 << 20,
        metrics=metrics,
        log=lambda event, fields: None,
        on_known=lambda: None,
        faults_enabled=faults_enabled,
    )
