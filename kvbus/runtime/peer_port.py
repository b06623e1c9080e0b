"""The sockets that peers talk over: one ROUTER in, one DEALER out to each peer.

A DEALER says hello on every new connection and sends data only once the peer has welcomed it. Data goes one way;
answers come on the peer's own DEALER. The ROUTER takes data only from connections whose hello it accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import zmq
from zmq.utils.monitor import parse_monitor_message

from kvbus.core.tick import Tick
from kvbus.core.types import NodeIndex
from kvbus.errors import PeerProtocolError
from kvbus.runtime.sockets import SocketSettings, open_socket
from kvbus.wire.handshake import Handshake
from kvbus.wire.peer_frames import (
    HELLO,
    MAX_FRAME_BYTES,
    MAX_FRAMES,
    REFUSED,
    WELCOME,
    decode_hello,
    encode_refusal,
)

_MESSAGES_A_TICK = 512
_HELLO_BYTE = bytes([HELLO])
# Plain integers: combining pyzmq's flag enums costs more than a frame's send.
_AT_ONCE = int(zmq.NOBLOCK)
_AT_ONCE_WITH_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_READABLE = int(zmq.POLLIN)
_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
_REHELLO_SECONDS = 2.0
_MAX_CONNECTIONS = 1024
# Whoever reaches the port may say anything, but may not fill the log.
_REFUSALS_LOGGED_A_SECOND = 10
_STRANGER = "?"

Log = Callable[[str, dict[str, object]], None]


class PeerSocket:
    """This node's DEALER to one peer, and the monitor that tells when its connection comes and goes."""

    __slots__ = ("connected", "hello_at", "monitor", "socket", "up")

    def __init__(self, socket: zmq.Socket[bytes], monitor: zmq.Socket[bytes]) -> None:
        self.socket = socket
        self.monitor = monitor
        self.connected = False
        self.up = False
        self.hello_at = 0.0


class PeerPort:
    """All links of one node. ``changes`` collects ``(peer, is_up)`` until the next receive."""

    def __init__(
        self,
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
        self._router = router
        self._handshake = handshake
        self._names = names
        self._log = log
        self._on_known = on_known
        self._senders: dict[bytes, NodeIndex] = {}
        self._last_refusal: dict[str, str] = {}
        self._refusals_to_log = _REFUSALS_LOGGED_A_SECOND
        self._refilled_at = 0.0
        self._changes: list[tuple[NodeIndex, bool]] = []
        self._hello = handshake.own.encode()
        self.dropped_messages_total = 0
        self.refusals_total = 0
        self.sockets: dict[NodeIndex, PeerSocket] = {}
        for peer, address in addresses.items():
            socket = open_socket(context, zmq.DEALER, settings)
            monitor = socket.get_monitor_socket(_EVENTS)
            socket.connect(address)
            self.sockets[peer] = PeerSocket(socket, monitor)

    def receive(self, tick: Tick) -> bool:
        """Move link changes and waiting frames into ``tick``, up to a bound; say whether more may be waiting."""
        if self._changes:
            tick.links, self._changes = self._changes, []
        more_waits = False
        if int(self._router.getsockopt(zmq.EVENTS)) & _READABLE:
            more_waits = self._drain(tick.frames)
        if self._changes:
            tick.links += self._changes
            self._changes = []
        return more_waits

    def _drain(self, frames: list[tuple[NodeIndex, bytes]]) -> bool:
        receive, more, senders = self._router.recv, self._router.getsockopt, self._senders
        try:
            for number in range(_MESSAGES_A_TICK):
                routing_id = receive(_AT_ONCE)
                message: list[bytes] = []
                while more(zmq.RCVMORE):
                    message.append(receive(_AT_ONCE))
                sender = senders.get(routing_id)
                if sender is None or not message or message[0][:1] == _HELLO_BYTE:
                    self._greet(routing_id, message[0] if message else b"")
                elif len(message) > MAX_FRAMES:
                    self.dropped_messages_total += 1
                else:
                    frames += [(sender, frame) for frame in message]
                # One message is the usual case, and an exception costs three times a look.
                if number == 0 and not int(more(zmq.EVENTS)) & _READABLE:
                    return False
        except zmq.Again:
            return False
        return True

    def send(self, peer: NodeIndex, frames: Sequence[bytes]) -> bool:
        """Send one multipart message; False when the link is down or its queue is full.

        A frame that the peer would not take is left out: it would end the link, and all that is under way with it.
        """
        link = self.sockets[peer]
        if not link.up:
            return False
        if max(map(len, frames)) > MAX_FRAME_BYTES:
            frames = self._small_enough(peer, frames)
            if not frames:
                return False
        try:
            last = len(frames) - 1
            for i in range(last):
                link.socket.send(frames[i], _AT_ONCE_WITH_MORE)
            link.socket.send(frames[last], _AT_ONCE)
        except zmq.ZMQError:
            self.dropped_messages_total += 1
            self._down(peer, "its queue is full or the connection is gone")
            return False
        return True

    def watch(self, now: float) -> bool:
        """Follow connections and handshakes; say whether a link changed."""
        if now - self._refilled_at >= 1.0:
            self._refilled_at, self._refusals_to_log = now, _REFUSALS_LOGGED_A_SECOND
        for peer, link in self.sockets.items():
            self._follow_monitor(peer, link, now)
            self._follow_handshake(peer, link)
            if link.connected and not link.up and now - link.hello_at >= _REHELLO_SECONDS:
                self._say_hello(peer, link, now)
        return bool(self._changes)

    def close(self) -> None:
        """Close every socket."""
        for link in self.sockets.values():
            link.socket.disable_monitor()
            link.monitor.close(0)
            link.socket.close(0)
        self._router.close(0)

    def _small_enough(self, peer: NodeIndex, frames: Sequence[bytes]) -> list[bytes]:
        kept = [frame for frame in frames if len(frame) <= MAX_FRAME_BYTES]
        self.dropped_messages_total += len(frames) - len(kept)
        largest = max(map(len, frames))
        self._log("frame_too_large", {"peer": self._names[peer], "bytes": largest, "limit_bytes": MAX_FRAME_BYTES})
        return kept

    def _follow_monitor(self, peer: NodeIndex, link: PeerSocket, now: float) -> None:
        try:
            while True:
                event = parse_monitor_message(link.monitor.recv_multipart(zmq.NOBLOCK))
                if event["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    link.connected = True
                    self._down(peer, "reconnected")
                    self._say_hello(peer, link, now)
                else:
                    link.connected = False
                    self._down(peer, "disconnected")
        except zmq.Again:
            return

    def _follow_handshake(self, peer: NodeIndex, link: PeerSocket) -> None:
        try:
            while True:
                frame = link.socket.recv(zmq.NOBLOCK)
                if frame[:1] == bytes([WELCOME]):
                    if link.connected and not link.up:
                        link.up = True
                        self._last_refusal.pop(self._names[peer], None)
                        self._changes.append((peer, True))
                        self._log("link_up", {"peer": self._names[peer]})
                elif frame[:1] == bytes([REFUSED]):
                    self._note_refusal(self._names[peer], frame[1:].decode(errors="replace"))
                    self._down(peer, "refused")
        except zmq.Again:
            return

    def _say_hello(self, peer: NodeIndex, link: PeerSocket, now: float) -> None:
        link.hello_at = now
        try:
            link.socket.send(self._hello, zmq.NOBLOCK)
        except zmq.ZMQError:
            self._log("hello_not_sent", {"peer": self._names[peer]})

    def _down(self, peer: NodeIndex, reason: str) -> None:
        link = self.sockets[peer]
        if link.up:
            link.up = False
            self._changes.append((peer, False))
            self._log("link_down", {"peer": self._names[peer], "reason": reason})

    def _greet(self, routing_id: bytes, first: bytes) -> None:
        """Answer what comes over a connection without an accepted hello: welcome, or why not."""
        if first[:1] != _HELLO_BYTE:
            self.dropped_messages_total += 1
            self._refuse(routing_id, _STRANGER, "say hello first")
            return
        try:
            hello = decode_hello(first)
        except PeerProtocolError as error:
            self._refuse(routing_id, _STRANGER, str(error))
            return
        before = self._handshake.known.get(hello.name)
        refusal = self._handshake.judge(hello)
        if refusal is not None:
            self._refuse(routing_id, hello.name if hello.name in self._names else _STRANGER, refusal)
            return
        if self._handshake.known[hello.name] != before:
            self._on_known()
        self._admit(routing_id, self._handshake.member(hello.name))

    def _admit(self, routing_id: bytes, sender: NodeIndex) -> None:
        """Take data from this connection, and from no older one of the same member."""
        if len(self._senders) >= _MAX_CONNECTIONS:
            self._senders.clear()
        for old in [known for known, member in self._senders.items() if member == sender]:
            del self._senders[old]
        self._senders[routing_id] = sender
        self._answer(routing_id, bytes([WELCOME]))

    def _refuse(self, routing_id: bytes, name: str, reason: str) -> None:
        self.refusals_total += 1
        self._note_refusal(name, reason)
        self._answer(routing_id, encode_refusal(reason))

    def _answer(self, routing_id: bytes, frame: bytes) -> None:
        try:
            self._router.send_multipart([routing_id, frame], zmq.NOBLOCK)
        except zmq.ZMQError:
            self.dropped_messages_total += 1

    def _note_refusal(self, name: str, reason: str) -> None:
        if self._last_refusal.get(name) != reason and self._refusals_to_log:
            self._refusals_to_log -= 1
            self._last_refusal[name] = reason
            self._log("link_refused", {"peer": name, "reason": reason})
