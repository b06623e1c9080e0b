"""What a world did: one hash over every effect of every step, and the last events in words."""

from __future__ import annotations

from collections import deque
from hashlib import blake2b
from struct import Struct

from kvbus.core.tick import Effects
from kvbus.core.types import NodeIndex

_HEAD = Struct("<Hd?d")
_KEPT_EVENTS = 2000


class Trace:
    """``story`` holds the last events: (instant in seconds, node, event, fields)."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self.steps = 0
        self.story: deque[tuple[float, str, str, dict[str, object]]] = deque(maxlen=_KEPT_EVENTS)

    def step(self, node: NodeIndex, now: float, out: Effects) -> None:
        """Add one step's effects; replies are added as bytes by :meth:`reply`."""
        self.steps += 1
        parts = [_HEAD.pack(node, now, out.commit, -1.0 if out.wake_at is None else out.wake_at)]
        for peer, frames in out.peer_frames.items():
            parts.append(b"%d:%d" % (peer, len(frames)))
            parts += frames
        self._hash.update(b"".join(parts))

    def reply(self, body: bytes) -> None:
        """Add one reply's body."""
        self._hash.update(body)

    def tell(self, now: float, node: str, event: str, fields: dict[str, object]) -> None:
        """Add an event in words."""
        self.story.append((now, node, event, fields))
        self._hash.update(repr((now, node, event, fields)).encode())

    def hexdigest(self) -> str:
        """Return the hash of all that happened so far."""
        return self._hash.hexdigest()
