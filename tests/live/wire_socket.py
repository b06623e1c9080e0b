"""A bare DEALER and CBOR: what a client in another language has, and what an attacker has."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from time import monotonic
from types import TracebackType
from typing import Self, cast

import zmq
from cbor2 import dumps, loads

Reply = dict[str, object]

_context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()


class WireSocket:
    """One socket to one port. ``kind`` is DEALER or REQ; high-water marks are off, so that nothing is lost here."""

    def __init__(self, address: str, *, kind: int = zmq.DEALER, routing_id: bytes | None = None) -> None:
        self.socket = _context.socket(kind)
        for option, value in ((zmq.LINGER, 0), (zmq.SNDHWM, 0), (zmq.RCVHWM, 0), (zmq.HEARTBEAT_IVL, 500)):
            self.socket.setsockopt(option, value)
        if routing_id is not None:
            self.socket.setsockopt(zmq.ROUTING_ID, routing_id)
        self.socket.connect(address)
        self._ids = count(1)

    def send(self, **fields: object) -> object:
        """Send one request; return its id, which is the next number where none is given."""
        fields.setdefault("id", next(self._ids))
        self.socket.send(dumps(fields))
        return fields["id"]

    def send_frames(self, frames: Sequence[bytes]) -> None:
        """Send any frames as one message."""
        self.socket.send_multipart(frames)

    def receive(self, timeout_seconds: float = 10.0) -> Reply:
        """Return the next reply; every one must be a map in one frame."""
        frames = self.receive_frames(timeout_seconds)
        assert len(frames) == 1, f"a reply of {len(frames)} frames"
        reply: object = loads(frames[0])
        assert isinstance(reply, dict)
        return cast("Reply", reply)

    def receive_frames(self, timeout_seconds: float = 10.0) -> list[bytes]:
        """Return the next message's frames."""
        assert self.socket.poll(int(timeout_seconds * 1000)), f"no reply within {timeout_seconds} s"
        return self.socket.recv_multipart()

    def is_silent(self, timeout_seconds: float) -> bool:
        """Say whether nothing arrives for that long."""
        return not self.socket.poll(int(timeout_seconds * 1000))

    def ask(self, **fields: object) -> Reply:
        """Send one request and return its reply; others that come meanwhile are dropped."""
        request_id = self.send(**fields)
        give_up = monotonic() + 15
        while True:
            reply = self.receive(give_up - monotonic())
            if reply.get("id") == request_id:
                return reply

    def code(self, **fields: object) -> str:
        """Send one request; return "ok" or the error's code."""
        return code_of(self.ask(**fields))

    def close(self) -> None:
        """Close the socket."""
        self.socket.close(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def code_of(reply: Reply) -> str:
    """Return "ok" or the error's code of a well-formed reply."""
    if reply["ok"] is True:
        return "ok"
    assert reply["ok"] is False
    error = cast("dict[str, object]", reply["error"])
    assert isinstance(error["message"], str)
    assert isinstance(error["definite"], bool)
    return cast("str", error["code"])
