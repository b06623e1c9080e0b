"""What a world did: one hash over every effect of every step, and the last events in words."""

from __future__ import annotations

from collections import deque
from hashlib import blake2b
from struct import Struct

from kvbus.core.tick import Effects
from kvbus.core.types import NodeIndex

_HEAD = Struct("<Hd?d")
_KEPT_EVENTS = 2000
_PARTS_TOGETHER = 512


class Trace:
    """``story`` holds the last events: (instant in seconds, node, event, fields)."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        # Hashed together: a call for each costs more than its bytes.
        self._parts: list[bytes] = []
        self.steps = 0
        self.story: deque[tuple[float, str, str, dict[str, object]]] = deque(maxlen=_KEPT_EVENTS)

    def step(self, node: NodeIndex, now: float, out: Effects) -> None:
        """Add one step's effects; replies are added as bytes by :meth:`reply`."""
        self.steps += 1
        parts = self._parts
        parts.append(_HEAD.pack(node, now, out.commit, -1.0 if out.wake_at is None else out.wake_at))
        for peer, frames in out.peer_frames.items():
            parts.append(b"%d:%d" % (peer, len(frames)))
            parts += frames
        if len(parts) > _PARTS_TOGETHER:
            self._flush()

    def reply(self, body: bytes) -> None:
        """Add one reply's body."""
        self._parts.append(body)

    def tell(self, now: float, node: str, event: str, fields: dict[str, object]) -> None:
        """Add an event in words."""
        self.story.append((now, node, event, fields))
        self._parts.append(repr((now, node, event, fields)).encode())

    def hexdigest(self) -> str:
        """Return the hash of all that happened so far."""
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        self._hash.update(b"".join(self._parts))
        self._parts.clear()
