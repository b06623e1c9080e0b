"""The transport as a driver sees it.

Delivery assumption: between a link's ``up`` and its next ``down`` frames arrive in order, each at most once; what was
under way when a link went down may be lost, and nothing tells. Nothing blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kvbus.core.request import Call, NodeRequest
from kvbus.core.tick import Tick
from kvbus.core.types import NodeIndex


class Transport(Protocol):
    """Sockets, real or simulated, of one node."""

    def receive(self, tick: Tick) -> None:
        """Move all that arrived into ``tick``, up to a bound; an empty tick means that nothing was left."""
        ...

    def reply(self, call: Call) -> None:
        """Answer a client; a client that has gone, or reads too slowly, loses its reply."""
        ...

    def send_peer(self, peer: NodeIndex, frames: Sequence[bytes]) -> bool:
        """Send one multipart message; False when the link is down or over its budget, and nothing was sent."""
        ...

    def publish(self, topic: bytes, frame: bytes) -> None:
        """Publish ``frame`` to the nodes that subscribe to ``topic``; a node subscribes to its own name."""
        ...

    def obey(self, request: NodeRequest) -> None:
        """Break or mend links on purpose as a client asks, and answer it; PROTOCOL.md, "Faults"."""
        ...

    def close(self) -> None:
        """Close every socket; what was not sent yet is dropped."""
        ...
