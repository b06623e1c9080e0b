"""The socket that clients talk to."""

from __future__ import annotations

from typing import cast

import zmq

from kvbus.core.request import Call, ClientOrigin
from kvbus.wire.client_replies import encode_reply
from kvbus.wire.client_requests import Intake

_MESSAGES_A_TICK = 512
# Plain integers: combining pyzmq's flag enums costs more than a frame's send.
_AT_ONCE = int(zmq.NOBLOCK)
_AT_ONCE_WITH_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_READABLE = int(zmq.POLLIN)


class ClientPort:
    """A ROUTER: requests in, replies out, in the shape the client used (REQ's empty delimiter or none)."""

    def __init__(self, socket: zmq.Socket[bytes], intake: Intake, reply_bytes: int) -> None:
        self._socket = socket
        self._intake = intake
        self._reply_bytes = reply_bytes
        self.dropped_replies_total = 0

    def receive(self) -> bool:
        """Hand all waiting requests to the intake, up to a bound; say whether there was one."""
        socket = self._socket
        if not int(socket.getsockopt(zmq.EVENTS)) & _READABLE:
            return False
        receive, more, add = socket.recv, socket.getsockopt, self._intake.add
        taken = 0
        try:
            while taken < _MESSAGES_A_TICK:
                routing_id = receive(_AT_ONCE)
                taken += 1
                frame = receive(_AT_ONCE) if more(zmq.RCVMORE) else None
                if frame is None or more(zmq.RCVMORE):
                    self._take_frames(routing_id, frame)
                else:
                    add(ClientOrigin(routing_id, False), frame)
        except zmq.Again:
            pass
        return taken > 0

    def reply(self, call: Call) -> None:
        """Send the reply; a client that has gone or does not read loses it."""
        origin = cast("ClientOrigin", call.origin)
        body = encode_reply(call, self._reply_bytes)
        send = self._socket.send
        try:
            send(origin.routing_id, _AT_ONCE_WITH_MORE)
            if origin.delimited:
                send(b"", _AT_ONCE_WITH_MORE)
            send(body, _AT_ONCE)
        except zmq.ZMQError:
            self.dropped_replies_total += 1

    def _take_frames(self, routing_id: bytes, first: bytes | None) -> None:
        """Take a message that is not one frame: REQ's shape, or one to refuse."""
        rest: list[bytes] = []
        count = 0 if first is None else 1
        while self._socket.getsockopt(zmq.RCVMORE):
            frame = self._socket.recv(_AT_ONCE)
            count += 1
            if not rest:
                rest.append(frame)
        if first == b"" and count == 2:
            self._intake.add(ClientOrigin(routing_id, True), rest[0])
        else:
            self._intake.refuse_frames(ClientOrigin(routing_id, first == b"" and count > 1), count)
