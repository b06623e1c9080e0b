"""The ports of a node whose links may be broken on purpose. Without ``[faults] enabled`` none of this is there.

The real connections stay: what a cut does to them is acted. Once it has lasted as long as a real one's silence would
take to be noticed, this node reports the link down, takes nothing more from the peer, and tells it with a refusal, so
that the peer's link goes down even if nobody could tell the peer of the cut. A hello is neither sent nor answered over
a cut, and so the link comes back when no end cuts it any more, by the handshake that every link begins with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

import zmq

from kvbus.core.faults import FaultyWay
from kvbus.core.tick import Tick
from kvbus.core.types import NodeIndex
from kvbus.runtime.faults import LinkFaults
from kvbus.runtime.gossip_port import GossipPort
from kvbus.runtime.peer_port import Log, PeerPort, PeerSocket
from kvbus.runtime.sockets import SocketSettings
from kvbus.wire.handshake import Handshake
from kvbus.wire.peer_frames import MAX_FRAMES, encode_refusal

_REASON = "the link is cut on purpose; kvbus heal ends that"
# As often as ZeroMQ tries to connect: the peer may be healed a little later than this node.
_REHELLO_SECONDS = 0.1


class FaultyPeerPort(PeerPort):
    """Peer links that obey ``faults``; while there are none, one flag is looked at for each message and tick."""

    def __init__(
        self,
        faults: LinkFaults,
        context: zmq.Context[zmq.Socket[bytes]],
        router: zmq.Socket[bytes],
        settings: SocketSettings,
        *,
        addresses: dict[NodeIndex, str],
        names: Sequence[str],
        handshake: Handshake,
        log: Log,
        on_known: Callable[[], None],
    ) -> None:
        super().__init__(
            context,
            router,
            settings,
            addresses=addresses,
            names=names,
            handshake=handshake,
            log=log,
            on_known=on_known,
        )
        self._faults = faults
        self._silence_seconds = settings.heartbeat_timeout_ms / 1000
        self._watched_at = 0.0
        self._late: list[tuple[NodeIndex, bytes]] = []
        # Peers whose link a cut has ended: until this node's hello is welcomed, until the peer's own is.
        self._ended: dict[NodeIndex, None] = {}
        self._unheard: dict[NodeIndex, None] = {}
        faults.outgoing.deliver = self._send_parts
        faults.incoming.deliver = self._receive_late

    def receive(self, tick: Tick) -> bool:
        """Move link changes and waiting frames into ``tick``, those that were held and are due before all others."""
        if self._faults.is_active:
            self._faults.release(tick.now)
            tick.frames += self._late
            self._late = []
        return PeerPort.receive(self, tick)

    def send(self, peer: NodeIndex, frames: Sequence[bytes]) -> bool:
        """Send what the rules let through; False only when the link is down or its queue is full."""
        if self._faults.is_active and self.sockets[peer].up:
            passing = self._faults.taken(self._faults.outgoing, peer, frames, monotonic())
            return self._send_parts(peer, passing)
        # Named, because super() would cost more than the look at the flag, on the way of every message.
        return PeerPort.send(self, peer, frames)

    def watch(self, now: float) -> bool:
        """Follow connections, handshakes and cuts; say whether a link changed."""
        self._watched_at = now
        for peer, since in self._faults.cut_since.items():
            if now - since >= self._silence_seconds and (self.sockets[peer].up or peer not in self._ended):
                self._end(peer)
        for peer in list(self._ended):
            link = self.sockets[peer]
            if link.up:
                del self._ended[peer]
            elif link.connected and now - link.hello_at >= _REHELLO_SECONDS:
                self._say_hello(peer, link, now)
        return super().watch(now)

    def _end(self, peer: NodeIndex) -> None:
        self._ended[peer] = None
        self._unheard[peer] = None
        self._down(peer, "cut on purpose")
        for routing_id in [known for known, member in self._senders.items() if member == peer]:
            self._answer(routing_id, encode_refusal(_REASON))

    def _drain(self, frames: list[tuple[NodeIndex, bytes]]) -> bool:
        if not (self._faults.is_active or self._unheard):
            return super()._drain(frames)
        arrived: list[tuple[NodeIndex, bytes]] = []
        more_waits = super()._drain(arrived)
        now = monotonic()
        for peer, frame in arrived:
            if peer not in self._unheard:
                frames += [(peer, each) for each in self._faults.taken(self._faults.incoming, peer, [frame], now)]
        return more_waits

    def _say_hello(self, peer: NodeIndex, link: PeerSocket, now: float) -> None:
        if peer in self._faults.cut_since:
            link.hello_at = now
        else:
            super()._say_hello(peer, link, now)

    def _admit(self, routing_id: bytes, sender: NodeIndex) -> None:
        if sender in self._faults.cut_since:
            return
        self._unheard.pop(sender, None)
        self._forget(sender, self._faults.incoming.ways)
        super()._admit(routing_id, sender)
        link = self.sockets[sender]
        if link.connected and not link.up and self._watched_at - link.hello_at >= _REHELLO_SECONDS:
            # The other end was healed; if this one was never told of the cut, nothing else says that it is over.
            self._say_hello(sender, link, self._watched_at)

    def _down(self, peer: NodeIndex, reason: str) -> None:
        self._forget(peer, self._faults.outgoing.ways)
        super()._down(peer, reason)

    def _forget(self, peer: NodeIndex, ways: dict[NodeIndex, FaultyWay]) -> None:
        way = ways.get(peer)
        if way is not None:
            way.forget()

    def _send_parts(self, peer: NodeIndex, frames: list[bytes]) -> bool:
        parts = [frames[start : start + MAX_FRAMES] for start in range(0, len(frames), MAX_FRAMES)]
        return all(super(FaultyPeerPort, self).send(peer, part) for part in parts)

    def _receive_late(self, peer: NodeIndex, frames: list[bytes]) -> None:
        self._late += [(peer, frame) for frame in frames]


class FaultyGossipPort(GossipPort):
    """Gossip that obeys ``faults``; ``addresses`` holds the other nodes' publishers in the order of their short ids.

    A publication does not say who sent it, so a receiver can only leave a publisher: that is done for cuts alone.
    """

    def __init__(
        self,
        faults: LinkFaults,
        publisher: zmq.Socket[bytes],
        subscriber: zmq.Socket[bytes],
        *,
        topic: bytes,
        addresses: Sequence[str],
    ) -> None:
        super().__init__(publisher, subscriber, topic=topic, addresses=addresses)
        self._faults = faults
        self._addresses = dict(zip(faults.peers.values(), addresses, strict=True))
        self._topics = {name.encode(): peer for name, peer in faults.peers.items()}
        self._left: dict[NodeIndex, None] = {}
        faults.published.deliver = self._publish_late

    def publish(self, topic: bytes, frame: bytes) -> None:
        """Publish ``frame`` as the rules towards the node that ``topic`` names let it through."""
        peer = self._topics.get(topic) if self._faults.is_active else None
        if peer is None:
            super().publish(topic, frame)
            return
        for each in self._faults.taken(self._faults.published, peer, [frame], monotonic()):
            super().publish(topic, each)

    def receive(self, frames: list[bytes]) -> None:
        """Append what arrived for this node, from publishers that no cut keeps away."""
        if self._faults.is_active or self._left:
            self._follow_cuts()
        super().receive(frames)

    def _follow_cuts(self) -> None:
        ways = self._faults.incoming.ways
        for peer, address in self._addresses.items():
            is_cut = peer in ways and ways[peer].is_cut
            if is_cut and peer not in self._left:
                self._left[peer] = None
                self.subscriber.disconnect(address)
            elif not is_cut and peer in self._left:
                del self._left[peer]
                self.subscriber.connect(address)

    def _publish_late(self, peer: NodeIndex, frames: list[bytes]) -> None:
        topic = next(name for name, index in self._topics.items() if index == peer)
        for frame in frames:
            super().publish(topic, frame)
