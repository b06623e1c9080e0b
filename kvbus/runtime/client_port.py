"""The socket that clients talk to."""

from __future__ import annotations

from collections import deque
from typing import cast

import zmq

from kvbus.core.request import Call, ClientOrigin
from kvbus.errors import Overloaded
from kvbus.wire.client_replies import encode_reply
from kvbus.wire.client_requests import Intake

_MESSAGES_A_TICK = 512
# What a tick takes goes to each peer as one frame; one over 32 MiB would end the link. Shorter ticks let this node, its
# peers and the client work at the same time; much shorter ones would sync too often.
_OPERATIONS_A_TICK = 256
_BYTES_A_TICK = 8 << 20
_LARGE_REPLY_BYTES = 4 << 10
_UNREAD_BYTES = 16 << 20
_RETRY_AFTER_MS = 100
# Plain integers: combining pyzmq's flag enums costs more than a frame's send.
_AT_ONCE = int(zmq.NOBLOCK)
_AT_ONCE_WITH_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_READABLE = int(zmq.POLLIN)


class ClientPort:
    """A ROUTER: requests in, replies out, in the shape the client used (REQ's empty delimiter or none)."""

    def __init__(self, socket: zmq.Socket[bytes], intake: Intake, reply_bytes: int) -> None:
        # From this size on ZeroMQ takes a reply as it is and tells when it is gone.
        socket.copy_threshold = _LARGE_REPLY_BYTES
        self._socket = socket
        self._intake = intake
        self._reply_bytes = reply_bytes
        self._unread: dict[bytes, deque[tuple[zmq.MessageTracker, int]]] = {}
        self.dropped_replies_total = 0

    def receive(self) -> bool:
        """Hand waiting requests to the intake, up to a bound; say whether more may be waiting."""
        socket = self._socket
        if not int(socket.getsockopt(zmq.EVENTS)) & _READABLE:
            return False
        intake = self._intake
        receive, more, add = socket.recv, socket.getsockopt, intake.add
        size = 0
        try:
            for _ in range(_MESSAGES_A_TICK):
                routing_id = receive(_AT_ONCE)
                frame = receive(_AT_ONCE)  # A ROUTER never has a routing id alone.
                if more(zmq.RCVMORE):
                    size += self._take_frames(routing_id, frame)
                else:
                    add(ClientOrigin(routing_id, False), frame)
                    size += len(frame)
                if intake.operations >= _OPERATIONS_A_TICK or size >= _BYTES_A_TICK:
                    return True
        except zmq.Again:
            return False
        return True

    def reply(self, call: Call) -> None:
        """Send the reply; a client that has gone or does not read loses it."""
        origin = cast("ClientOrigin", call.origin)
        body = encode_reply(call, self._reply_bytes)
        send, unread = self._socket.send, None
        if len(body) >= _LARGE_REPLY_BYTES:
            unread = self._unread_by(origin.routing_id)
            if sum(waiting for _, waiting in unread) + len(body) > _UNREAD_BYTES and call.kind in ("get", "scan"):
                call.error = Overloaded(
                    f"{_UNREAD_BYTES >> 20} MiB of replies wait for this client; read them, then ask again",
                    details={"retry_after_ms": _RETRY_AFTER_MS},
                )
                body, unread = encode_reply(call, self._reply_bytes), None
        try:
            send(origin.routing_id, _AT_ONCE_WITH_MORE)
            if origin.delimited:
                send(b"", _AT_ONCE_WITH_MORE)
            if unread is None:
                send(body, _AT_ONCE)
            else:
                unread.append((send(body, _AT_ONCE, copy=False, track=True), len(body)))
        except zmq.ZMQError:
            self.dropped_replies_total += 1

    def _unread_by(self, routing_id: bytes) -> deque[tuple[zmq.MessageTracker, int]]:
        """Return the large replies to a client that ZeroMQ still holds: its high-water mark knows no bytes."""
        for client, replies in list(self._unread.items()):
            while replies and replies[0][0].done:
                replies.popleft()
            if not replies:
                del self._unread[client]
        return self._unread.setdefault(routing_id, deque())

    def _take_frames(self, routing_id: bytes, first: bytes) -> int:
        """Take a message that is not one frame: REQ's shape, or one to refuse. Return its size in bytes."""
        rest: list[bytes] = []
        count, size = 1, len(first)
        while self._socket.getsockopt(zmq.RCVMORE):
            frame = self._socket.recv(_AT_ONCE)
            count += 1
            size += len(frame)
            if not rest:
                rest.append(frame)
        if first == b"" and count == 2:
            self._intake.add(ClientOrigin(routing_id, True), rest[0])
        else:
            self._intake.refuse_frames(ClientOrigin(routing_id, first == b"" and count > 1), count)
        return size
