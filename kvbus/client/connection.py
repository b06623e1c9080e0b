"""One DEALER to one node, and the monitor that tells when its connection comes and goes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from struct import Struct
from typing import cast

import zmq

from kvbus.client.links import LinkState

_HEARTBEAT_MS = 500
_HEARTBEAT_TIMEOUT_MS = 1500
_RECONNECT_MS = 50
_RECONNECT_MAX_MS = 2000
_CONNECT_TIMEOUT_MS = 1000
_HANDSHAKE_MS = 2000
_MESSAGE_BYTES = 16 << 20
_HIGH_WATER = 16_384

_EVENT = Struct("=HI")
_FAILURES = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

Context = zmq.Context[zmq.Socket[bytes]]


class Connection:
    """A node's socket. ``socket`` and ``monitor`` become readable when there is something to take.

    IMMEDIATE: nothing queues for a node that is not there. LINGER 0: a close never hangs. Heartbeats find a node that
    hangs or vanished without a word. No high-water mark for replies, of which there are no more than requests: ZeroMQ's
    heartbeats fail an assertion where one was reached. The other settings bound how long a half-open connection can
    pretend.
    """

    def __init__(self, context: Context, address: str) -> None:
        socket = context.socket(zmq.DEALER)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.IMMEDIATE, 1),
            (zmq.IPV6, 1),
            (zmq.SNDHWM, _HIGH_WATER),
            (zmq.RCVHWM, 0),
            (zmq.MAXMSGSIZE, _MESSAGE_BYTES),
            (zmq.HEARTBEAT_IVL, _HEARTBEAT_MS),
            (zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS),
            (zmq.HEARTBEAT_TTL, _HEARTBEAT_TIMEOUT_MS),
            (zmq.RECONNECT_IVL, _RECONNECT_MS),
            (zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS),
            (zmq.CONNECT_TIMEOUT, _CONNECT_TIMEOUT_MS),
            (zmq.HANDSHAKE_IVL, _HANDSHAKE_MS),
        ):
            socket.setsockopt(option, value)
        self.address = address
        self.socket = socket
        self.monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | _FAILURES)
        socket.connect(address)

    def send(self, body: bytes) -> bool:
        """Hand one request to ZeroMQ; False when the connection is gone or its queue is full."""
        try:
            self.socket.send(body, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def readable(self) -> bool:
        """Tell whether a reply waits; also takes in what edge-triggered descriptors no longer show."""
        return bool(cast("int", self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)

    def receive(self) -> Iterator[bytes]:
        """Yield the replies that wait."""
        receive = self.socket.recv
        try:
            for number in count():
                # One reply is the usual case, and an exception costs three times a look.
                if number == 1 and not self.readable():
                    return
                body = receive(zmq.NOBLOCK)
                if self.socket.getsockopt(zmq.RCVMORE):
                    self.socket.recv_multipart(zmq.NOBLOCK)
                    continue
                yield body
        except zmq.Again:
            return

    def changes(self) -> Iterator[LinkState]:
        """Yield what became of the connection since the last call, in order."""
        try:
            while True:
                event, _ = _EVENT.unpack(self.monitor.recv_multipart(zmq.NOBLOCK)[0])
                yield LinkState.UP if event == zmq.EVENT_HANDSHAKE_SUCCEEDED else LinkState.DOWN
        except zmq.Again:
            return

    def close(self) -> None:
        """Close both sockets."""
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)
