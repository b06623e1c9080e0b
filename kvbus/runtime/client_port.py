"""The socket that clients talk to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import cast

import zmq

from kvbus.core.request import Call, ClientOrigin
from kvbus.errors import Overloaded
from kvbus.runtime.held_requests import HeldRequest, HeldRequests
from kvbus.wire.client_replies import encode_reply
from kvbus.wire.client_requests import RETRY_AFTER_MS, Intake

_MESSAGES_A_TICK = 512
# What a tick takes goes to each peer as one frame; one over 32 MiB would end the link. Shorter ticks let this node, its
# peers and the client work at the same time; much shorter ones would sync too often.
_OPERATIONS_A_TICK = 256
_BYTES_A_TICK = 8 << 20
# ZeroMQ tells when a reply is gone, and so all before it, but that costs a thread's turn: it is asked once in so much.
_TRACKED_BYTES = 256 << 10
_UNREAD_BYTES = 16 << 20
# What ZeroMQ has taken in beyond a tick is held here, because its own queue has no bound (see sockets.py).
_HOLDING_SECONDS = 0.004
_LOOKS_AT_THE_CLOCK = 32
_MAX_IDLE_BACKLOGS = 1024
# Plain integers: combining pyzmq's flag enums costs more than a frame's send.
_AT_ONCE = int(zmq.NOBLOCK)
_AT_ONCE_WITH_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_READABLE = int(zmq.POLLIN)


class _Backlog:
    """Replies to one client that ZeroMQ may still hold: its high-water mark knows no bytes.

    ``fresh_bytes`` counts those behind the last tracked one, ``tracked`` holds each tracked one with the bytes that
    are gone when it is.
    """

    __slots__ = ("fresh_bytes", "tracked")

    def __init__(self) -> None:
        self.fresh_bytes = 0
        self.tracked: deque[tuple[zmq.MessageTracker, int]] = deque()

    def unread_bytes(self) -> int:
        """Return how many bytes are not known to be gone."""
        tracked = self.tracked
        while tracked and tracked[0][0].done:
            tracked.popleft()
        return self.fresh_bytes + sum(waiting for _, waiting in tracked)


class ClientPort:
    """A ROUTER: requests in, replies out, in the shape the client used (REQ's empty delimiter or none)."""

    def __init__(self, socket: zmq.Socket[bytes], intake: Intake, reply_bytes: int) -> None:
        socket.copy_threshold = 0
        # What tracks replies has a thread and sockets of its own; a large reply may find no more files for them.
        zmq.Frame(b"-", track=True, copy=False, copy_threshold=0)
        self._socket = socket
        self._intake = intake
        self._reply_bytes = reply_bytes
        self._backlogs: dict[bytes, _Backlog] = {}
        self._held = HeldRequests()
        self._holding_at = 0.0
        self.dropped_replies_total = 0

    def receive(self) -> bool:
        """Hand waiting requests to the intake, up to a bound; say whether more may be waiting."""
        if len(self._held):
            drained = self._hold_what_waits()
            self._take_held()
            return len(self._held) > 0 or not drained
        socket = self._socket
        if not int(socket.getsockopt(zmq.EVENTS)) & _READABLE:
            return False
        intake = self._intake
        receive, more, add = socket.recv, socket.getsockopt, intake.add
        size = 0
        try:
            for number in range(_MESSAGES_A_TICK):
                routing_id = receive(_AT_ONCE)
                frame = receive(_AT_ONCE)  # A ROUTER never has a routing id alone.
                if more(zmq.RCVMORE):
                    size += self._take_frames(routing_id, frame, add)
                else:
                    add(ClientOrigin(routing_id, False), frame)
                    size += len(frame)
                if intake.operations >= _OPERATIONS_A_TICK or size >= _BYTES_A_TICK:
                    break
                # One message is the usual case, and an exception costs three times a look.
                if number == 0 and not int(more(zmq.EVENTS)) & _READABLE:
                    return False
        except zmq.Again:
            return False
        drained = self._hold_what_waits()
        return len(self._held) > 0 or not drained

    def _hold_what_waits(self) -> bool:
        """Take over what ZeroMQ has received, for a bounded time; say whether that was all."""
        socket, hold = self._socket, self._hold
        if not int(socket.getsockopt(zmq.EVENTS)) & _READABLE:
            return True
        self._holding_at = begun = monotonic()
        try:
            while self._holding_at - begun < _HOLDING_SECONDS:
                for _ in range(_LOOKS_AT_THE_CLOCK):
                    routing_id = socket.recv(_AT_ONCE)
                    frame = socket.recv(_AT_ONCE)
                    if socket.getsockopt(zmq.RCVMORE):
                        self._take_frames(routing_id, frame, hold)
                    else:
                        hold(ClientOrigin(routing_id, False), frame)
                self._holding_at = monotonic()
        except zmq.Again:
            return True
        return False

    def _hold(self, origin: ClientOrigin, body: bytes) -> None:
        if not self._held.hold(HeldRequest(origin, body, self._holding_at)):
            self._intake.shed(origin, body)

    def _take_held(self) -> None:
        """Hand what was held to the intake, up to a tick's bound."""
        held, intake, now = self._held, self._intake, monotonic()
        size = 0
        for _ in range(min(len(held), _MESSAGES_A_TICK)):
            if intake.operations >= _OPERATIONS_A_TICK or size >= _BYTES_A_TICK:
                return
            request = held.take()
            size += len(request.body)
            intake.add(request.origin, request.body, round((now - request.since) * 1000))

    def reply(self, call: Call) -> None:
        """Send the reply; a client that has gone or does not read loses it."""
        origin = cast("ClientOrigin", call.origin)
        body = encode_reply(call, self._reply_bytes)
        backlog = self._backlogs.get(origin.routing_id) or self._new_backlog(origin.routing_id)
        fresh_bytes = backlog.fresh_bytes + len(body)
        tracked = fresh_bytes >= _TRACKED_BYTES
        if tracked and backlog.unread_bytes() + len(body) > _UNREAD_BYTES and call.kind in ("get", "scan"):
            body, tracked, fresh_bytes = self._overloaded(call), False, backlog.fresh_bytes
        send = self._socket.send
        try:
            send(origin.routing_id, _AT_ONCE_WITH_MORE)
            if origin.delimited:
                send(b"", _AT_ONCE_WITH_MORE)
            if tracked:
                backlog.tracked.append((send(body, _AT_ONCE, copy=False, track=True), fresh_bytes))
                backlog.fresh_bytes = 0
            else:
                send(body, _AT_ONCE)
                backlog.fresh_bytes = fresh_bytes
        except zmq.ZMQError as error:
            self.dropped_replies_total += 1
            if error.errno == zmq.EHOSTUNREACH:
                self._backlogs.pop(origin.routing_id, None)

    def _overloaded(self, call: Call) -> bytes:
        call.fail(
            Overloaded(
                f"{_UNREAD_BYTES >> 20} MiB of replies wait for this client; read them, then ask again",
                details={"retry_after_ms": RETRY_AFTER_MS},
            )
        )
        return encode_reply(call, self._reply_bytes)

    def _new_backlog(self, routing_id: bytes) -> _Backlog:
        if len(self._backlogs) >= _MAX_IDLE_BACKLOGS:
            # Clients come and go; ZeroMQ does not say which ones went.
            known = self._backlogs.items()
            self._backlogs = {name: backlog for name, backlog in known if backlog.unread_bytes() and backlog.tracked}
        backlog = self._backlogs[routing_id] = _Backlog()
        return backlog

    def _take_frames(self, routing_id: bytes, first: bytes, take: Callable[[ClientOrigin, bytes], None]) -> int:
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
            take(ClientOrigin(routing_id, True), rest[0])
        else:
            self._intake.refuse_frames(ClientOrigin(routing_id, first == b"" and count > 1), count)
        return size
