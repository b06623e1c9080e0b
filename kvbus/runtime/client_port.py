"""The socket that clients talk to."""

from __future__ import annotations

from typing import cast

import zmq

from kvbus.core.request import Call, ClientOrigin
from kvbus.wire.client_replies import encode_reply
from kvbus.wire.client_requests import Intake

_MESSAGES_A_TICK = 512


class ClientPort:
    """A ROUTER: requests in, replies out, in the shape the client used (REQ's empty delimiter or none)."""

    def __init__(self, socket: zmq.Socket[bytes], intake: Intake, reply_bytes: int) -> None:
        self._socket = socket
        self._intake = intake
        self._reply_bytes = reply_bytes
        self.dropped_replies_total = 0

    def receive(self) -> bool:
        """Hand all waiting requests to the intake, up to a bound; say whether there was one."""
        receive, add = self._socket.recv_multipart, self._intake.add
        taken = 0
        try:
            while taken < _MESSAGES_A_TICK:
                message = receive(zmq.NOBLOCK)
                taken += 1
                if len(message) == 2:
                    add(ClientOrigin(message[0], False), message[1])
                elif len(message) == 3 and not message[1]:
                    add(ClientOrigin(message[0], True), message[2])
                else:
                    delimited = len(message) > 2 and not message[1]
                    self._intake.refuse_frames(ClientOrigin(message[0], delimited), len(message) - 1)
        except zmq.Again:
            pass
        return taken > 0

    def reply(self, call: Call) -> None:
        """Send the reply; a client that has gone or does not read loses it."""
        origin = cast("ClientOrigin", call.origin)
        body = encode_reply(call, self._reply_bytes)
        frames = [origin.routing_id, b"", body] if origin.delimited else [origin.routing_id, body]
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.ZMQError:
            self.dropped_replies_total += 1
