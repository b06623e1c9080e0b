"""One loop turn of a node: everything that arrived, and everything to be done about it."""

from __future__ import annotations

from kvbus.core.request import Call, NodeRequest, RequestColumns, ScanRequest
from kvbus.core.types import Lsn, NodeIndex
from kvbus.errors import ClientError


class Tick:
    """What arrived since the last step.

    ``now`` is a monotonic time in seconds, ``wall_ms`` the wall clock in ms since 1970. ``links`` holds
    ``(peer, is_up)`` in order; ``frames`` holds each peer's frames in the order they were sent. ``persisted`` is the
    engine's durable log number, or None when no commit ended; ``append_failed`` says that a commit failed and that
    nothing behind ``persisted`` will become durable. ``fell_silent``, which the node finds out, says that a peer may
    have done so since the last tick.
    """

    __slots__ = (
        "append_failed",
        "fell_silent",
        "frames",
        "links",
        "node_requests",
        "now",
        "persisted",
        "requests",
        "scans",
        "wall_ms",
    )

    def __init__(self, now: float, wall_ms: int) -> None:
        self.now = now
        self.wall_ms = wall_ms
        self.links: list[tuple[NodeIndex, bool]] = []
        self.frames: list[tuple[NodeIndex, bytes]] = []
        self.requests: list[RequestColumns] = []
        self.scans: list[ScanRequest] = []
        self.node_requests: list[NodeRequest] = []
        self.persisted: Lsn | None = None
        self.append_failed = self.fell_silent = False

    def __bool__(self) -> bool:
        return bool(
            self.frames or self.requests or self.links or self.node_requests or self.scans or self.persisted is not None
        )


class Effects:
    """What the world is asked to do, collected in one step and performed after it.

    ``peer_frames`` maps a peer to the frames of its one multipart message. ``fault_requests`` ask the world to break or
    mend links on purpose, and to answer. ``commit`` asks for a group commit, whose end is told by ``Tick.persisted``.
    ``wake_at`` is the earliest time at which a step is wanted without any arrival.
    """

    __slots__ = ("commit", "fault_requests", "peer_frames", "published", "replies", "traces", "wake_at")

    def __init__(self) -> None:
        self.replies: list[Call] = []
        self.fault_requests: list[NodeRequest] = []
        self.peer_frames: dict[NodeIndex, list[bytes]] = {}
        self.published: list[tuple[bytes, bytes]] = []
        self.traces: list[tuple[str, dict[str, object]]] = []
        self.commit = False
        self.wake_at: float | None = None

    def send_peer(self, peer: NodeIndex, frame: bytes) -> None:
        """Add ``frame`` to the peer's multipart message of this tick."""
        frames = self.peer_frames.get(peer)
        if frames is None:
            self.peer_frames[peer] = [frame]
        else:
            frames.append(frame)

    def reply(self, call: Call) -> None:
        """Answer ``call``; all its operations have an outcome."""
        self.replies.append(call)

    def fail(self, call: Call, error: ClientError) -> None:
        """Answer all of ``call`` with ``error``."""
        call.fail(error)
        self.replies.append(call)

    def trace(self, event: str, **fields: object) -> None:
        """Tell the log what happened; never keys or values."""
        self.traces.append((event, fields))

    def wake(self, at: float) -> None:
        """Ask for a step at ``at`` (monotonic seconds) at the latest."""
        if self.wake_at is None or at < self.wake_at:
            self.wake_at = at
