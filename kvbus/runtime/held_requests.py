"""Requests that wait for their turn: a queue for each client, and the clients take turns.

The room is for all clients together. When it is used up, a client that has little in it may still add to its own: one
that floods the node does not shut the others out. That ends at twice the room: a new connection is a new client.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from kvbus.core.request import ClientOrigin

ROOM_REQUESTS = 16_384
ROOM_BYTES = 64 << 20
OWN_REQUESTS = 8
OWN_BYTES = 1 << 20


class HeldRequest(NamedTuple):
    """A request's body, whose it is, and when it came (monotonic seconds)."""

    origin: ClientOrigin
    body: bytes
    since: float


class HeldRequests:
    """All requests that were received and not yet begun; each client with a queue stands in the turns once."""

    def __init__(self) -> None:
        self._queues: dict[bytes, deque[HeldRequest]] = {}
        self._turns: deque[bytes] = deque()
        self._count = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._count

    def hold(self, request: HeldRequest) -> bool:
        """Take a request in; False: there is no room for it."""
        client, size = request.origin.routing_id, len(request.body)
        queue = self._queues.get(client)
        if self._count >= ROOM_REQUESTS or self._bytes + size > ROOM_BYTES:
            if self._count >= 2 * ROOM_REQUESTS or self._bytes + size > 2 * ROOM_BYTES:
                return False
            waiting = queue or ()
            if len(waiting) >= OWN_REQUESTS or sum(len(each.body) for each in waiting) + size > OWN_BYTES:
                return False
        if queue is None:
            queue = self._queues[client] = deque()
            self._turns.append(client)
        queue.append(request)
        self._count += 1
        self._bytes += size
        return True

    def take(self) -> HeldRequest:
        """Return the oldest request of the client whose turn it is; there must be one."""
        client = self._turns.popleft()
        queue = self._queues[client]
        request = queue.popleft()
        if queue:
            self._turns.append(client)
        else:
            del self._queues[client]
        self._count -= 1
        self._bytes -= len(request.body)
        return request
