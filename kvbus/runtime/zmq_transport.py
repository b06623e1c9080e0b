"""ZeroMQ behind the transport port: client ROUTER, peer ROUTER and DEALERs, gossip PUB and SUB."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from time import monotonic

import zmq

from kvbus.core.metrics import Metrics
from kvbus.core.request import Call, NodeRequest
from kvbus.core.tick import Tick
from kvbus.core.topology import Topology
from kvbus.core.types import NodeIndex
from kvbus.errors import ClientError, Overloaded, Unsupported
from kvbus.runtime.client_port import ClientPort
from kvbus.runtime.faults import LinkFaults
from kvbus.runtime.faulty_ports import FaultyGossipPort, FaultyPeerPort
from kvbus.runtime.gossip_port import GossipPort
from kvbus.runtime.peer_port import Log, PeerPort
from kvbus.runtime.sockets import SocketSettings, bind, open_socket
from kvbus.wire.client_requests import Intake
from kvbus.wire.handshake import Handshake
from kvbus.wire.peer_frames import MAX_FRAME_BYTES

# For each client; what is over it is lost, and PROTOCOL.md names the number.
_WAITING_REPLIES = 16_384
_LAST_REPLIES_MS = 300
# A request that is a little too large is told so; a larger one is not even read, and ZeroMQ ends its connection.
_TOLD_TOO_LARGE_BYTES = 1 << 20
_NO_FAULTS = (
    "this node does not break its links on purpose; start it with [faults] enabled = true in its configuration "
    "(kvbus cluster up writes that)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Addresses:
    """Where this node listens, as ZeroMQ end points."""

    client: str
    peer: str
    gossip: str


class ZmqTransport:
    """All sockets of one node; see :class:`kvbus.ports.transport.Transport`.

    ``more_waits`` says that the last ``receive`` stopped at a bound: no descriptor will tell of what is left. With
    ``faults_enabled`` clients may break its links on purpose.
    """

    def __init__(
        self,
        *,
        listen: Addresses,
        topology: Topology,
        me: NodeIndex,
        handshake: Handshake,
        intake: Intake,
        request_bytes: int,
        reply_bytes: int,
        metrics: Metrics,
        log: Log,
        on_known: Callable[[], None],
        faults_enabled: bool = False,
    ) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._intake = intake
        self._metrics = metrics
        self._log = log
        self.more_waits = False
        clients = SocketSettings(message_bytes=request_bytes + _TOLD_TOO_LARGE_BYTES, high_water=_WAITING_REPLIES)
        peers = SocketSettings(message_bytes=MAX_FRAME_BYTES)
        self._client_socket = open_socket(self._context, zmq.ROUTER, clients)
        self._peer_socket = open_socket(self._context, zmq.ROUTER, peers)
        publisher = open_socket(self._context, zmq.PUB, peers)
        try:
            bind(self._client_socket, listen.client, "client")
            bind(self._peer_socket, listen.peer, "peer")
            bind(publisher, listen.gossip, "gossip")
        except BaseException:
            self._context.destroy(0)
            raise
        others = {NodeIndex(i): member for i, member in enumerate(topology.members) if i != me}
        names = [member.name for member in topology.members]
        self._faults = LinkFaults(names[me], names, Random()) if faults_enabled else None
        peer_port = PeerPort if self._faults is None else partial(FaultyPeerPort, self._faults)
        gossip_port = GossipPort if self._faults is None else partial(FaultyGossipPort, self._faults)
        self._clients = ClientPort(self._client_socket, intake, reply_bytes)
        self._peers = peer_port(
            self._context,
            self._peer_socket,
            peers,
            addresses={peer: member.peer for peer, member in others.items()},
            names=names,
            handshake=handshake,
            log=log,
            on_known=on_known,
        )
        self._gossip = gossip_port(
            publisher,
            open_socket(self._context, zmq.SUB, peers),
            topic=names[me].encode(),
            addresses=[member.gossip for member in others.values()],
        )

    def receive(self, tick: Tick) -> None:
        """Move all that arrived into ``tick``, up to a bound."""
        more_frames = self._peers.receive(tick)
        self.more_waits = self._clients.receive() or more_frames
        for call in self._intake.hand_over(tick):
            # Its reply is sent behind the last look at the socket and may swallow the sign of what comes next.
            self.more_waits = True
            if isinstance(call.error, Overloaded):
                self._metrics.shed_total += 1
            else:
                self._metrics.bad_requests_total += 1
            self._clients.reply(call)

    def reply(self, call: Call) -> None:
        """Answer a client."""
        self._clients.reply(call)

    def send_peer(self, peer: NodeIndex, frames: Sequence[bytes]) -> bool:
        """Send one multipart message; False when the link is down."""
        return self._peers.send(peer, frames)

    def publish(self, topic: bytes, frame: bytes) -> None:
        """Publish ``frame`` under ``topic``."""
        self._gossip.publish(topic, frame)

    def obey(self, request: NodeRequest) -> None:
        """Break or mend links on purpose as a client asks, and answer it."""
        call = request.call
        try:
            if self._faults is None:
                raise Unsupported(_NO_FAULTS)
            call.fields = self._faults.obey(call.op, request.fields, monotonic())
        except ClientError as error:
            call.fail(error)
        else:
            if call.op != "admin.faults":
                self._log("faults_changed", {"op": call.op, "rules": len(self._faults.rules())})
        self.reply(call)

    def wake_by(self, alarm: Callable[[float], None]) -> None:
        """Take what asks for a ``receive`` at a time (monotonic seconds): frames that a rule delays are due then."""
        if self._faults is not None:
            self._faults.alarm = alarm

    def watch(self, now: float, tick_gossip: list[bytes]) -> bool:
        """Follow connections, handshakes and gossip; say whether a link changed or gossip came."""
        self._gossip.receive(tick_gossip)
        return self._peers.watch(now) or bool(tick_gossip)

    def hot_descriptors(self) -> list[int]:
        """Return the descriptors that turn readable when requests or peer frames arrive (edge-triggered)."""
        return [int(socket.getsockopt(zmq.FD)) for socket in (self._client_socket, self._peer_socket)]

    def rare_descriptors(self) -> list[int]:
        """Return the descriptors of handshakes, connection monitors and gossip."""
        sockets = [self._gossip.subscriber]
        for link in self._peers.sockets.values():
            sockets += [link.socket, link.monitor]
        return [int(socket.getsockopt(zmq.FD)) for socket in sockets]

    def counters(self) -> dict[str, int]:
        """Return what was dropped."""
        return {
            "dropped_replies_total": self._clients.dropped_replies_total,
            "dropped_peer_messages_total": self._peers.dropped_messages_total,
            "peer_refusals_total": self._peers.refusals_total,
            **(self._faults.counters() if self._faults is not None else {}),
        }

    def close(self) -> None:
        """Close every socket; replies have a moment to leave, all else that was not sent yet is dropped.

        Until then the client port stays open: unbinding it would also end the connections that replies are due on.
        """
        self._peers.close()
        self._client_socket.close(_LAST_REPLIES_MS)
        self._context.destroy()
