"""A node of one thread: the server's own parser and reply encoder around a dictionary.

Several share one ``FakeStore`` and so stand for a cluster whose replicas agree at once. ``silent`` swallows requests,
``refusal`` answers every request about keys with that error.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event, Thread
from types import TracebackType
from typing import Self

import zmq

from kvbus.core.request import Call, ClientOrigin, NodeRequest, RequestColumns, ScanRequest
from kvbus.core.tick import Tick
from kvbus.errors import ClientError
from kvbus.ports.mode import Limits
from kvbus.wire.client_replies import encode_reply
from kvbus.wire.client_requests import Intake, ServedKeyspace

PARTITIONS = 8
_OPERATIONS = {
    "get": frozenset({"r", "pr", "cl"}),
    "put": frozenset({"w", "pw", "cl", "ttl_ms", "ctx"}),
    "delete": frozenset({"w", "pw", "cl", "ctx"}),
    "scan": frozenset({"r", "pr", "cl"}),
}


class FakeStore:
    """Siblings by key. A context is the number of writes that its reader has seen."""

    def __init__(self) -> None:
        self.siblings: dict[bytes, list[tuple[int, bytes]]] = {}
        self.writes = 0

    def get(self, key: bytes) -> tuple[list[bytes], bytes]:
        """Return values and context."""
        held = self.siblings.get(key, [])
        return [value for _, value in held], max((number for number, _ in held), default=0).to_bytes(8)

    def put(self, key: bytes, value: bytes | None, context: bytes | None) -> bytes:
        """Replace what the context covers; None deletes. Return the new context."""
        self.writes += 1
        seen = 0 if context is None else int.from_bytes(context)
        kept = [(number, held) for number, held in self.siblings.get(key, []) if number > seen]
        self.siblings[key] = kept if value is None else [*kept, (self.writes, value)]
        return self.writes.to_bytes(8)


class FakeNode:
    """Serve ``store`` at a free loopback port until the block ends; ``frames`` lists (op, operations) as they came."""

    def __init__(self, store: FakeStore, *, limits: Limits | None = None, address: str = "tcp://127.0.0.1:*") -> None:
        self.store = store
        self.silent = False
        self.refusal: ClientError | None = None
        self.frames: list[tuple[str, int]] = []
        self.members: Sequence[str] = ()
        self.owners: list[list[int]] = []
        self._limits = limits or Limits()
        self._intake = Intake({"default": ServedKeyspace("ap", "ctx", _OPERATIONS)}, self._limits)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(address)
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._stopping = Event()
        self._thread = Thread(target=self._serve, name=f"fake node {self.address}")
        self._thread.start()

    def join_cluster(self, members: Sequence[str], replicas: int) -> None:
        """Tell clients that these nodes share the partitions, ``replicas`` consecutive ones each."""
        self.members = members
        count = len(members)
        self.owners = [[(partition + i) % count for i in range(replicas)] for partition in range(PARTITIONS)]

    def stop(self) -> None:
        """Close the socket; clients lose their connection."""
        self._stopping.set()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            if self._socket.poll(5):
                routing_id, body = self._socket.recv_multipart()
                if not self.silent:
                    self._intake.add(ClientOrigin(routing_id, False), body)
                    self._take_turn()
        self._socket.close(0)
        self._context.term()

    def _take_turn(self) -> None:
        tick = Tick(0.0, 0)
        for call in self._intake.hand_over(tick):
            self._note(call, 0)
            self._reply(call)
        for columns in tick.requests:
            self._note(columns.calls[0], len(columns.keys))
            for index in range(len(columns.keys)):
                self._operate(columns, index)
            self._reply(columns.calls[0])
        for scan in tick.scans:
            self._scan(scan)
        for request in tick.node_requests:
            self._about_node(request)

    def _operate(self, columns: RequestColumns, index: int) -> None:
        call, slot, key = columns.calls[index], columns.slots[index], columns.keys[index]
        if self.refusal is not None:
            call.error = self.refusal
        elif columns.kind == "get":
            call.values[slot], call.tokens[slot] = self.store.get(key)
        else:
            call.tokens[slot] = self.store.put(key, columns.values[index], columns.contexts[index])

    def _scan(self, scan: ScanRequest) -> None:
        behind = scan.cursor or b""
        keys = [key for key in sorted(self.store.siblings) if key.startswith(scan.prefix) and key > behind]
        page = keys[: scan.limit]
        fields: dict[str, object] = {"keys": page, "cursor": page[-1] if len(keys) > len(page) else None}
        if scan.with_values:
            fields["values"] = [self.store.get(key)[0] for key in page]
        scan.call.fields = fields
        self._note(scan.call, 1)
        self._reply(scan.call)

    def _about_node(self, request: NodeRequest) -> None:
        call = request.call
        self._note(call, 1)
        if call.op == "hello":
            call.fields = {"v": 1, "node": self.address, "limits": {"batch_keys": self._limits.batch_keys}}
        elif call.op == "topology":
            call.fields = {
                "epoch": 1,
                "hash": "mmh3_x64_128",
                "partitions": PARTITIONS,
                "nodes": [{"name": address, "client": address} for address in self.members],
                "owners": self.owners,
            }
        elif call.op == "stats":
            call.fields = {"stats": {"writes": self.store.writes}}
        self._reply(call)

    def _note(self, call: Call, count: int) -> None:
        self.frames.append((call.op, count))

    def _reply(self, call: Call) -> None:
        origin = call.origin
        assert isinstance(origin, ClientOrigin)
        self._socket.send_multipart([origin.routing_id, encode_reply(call, self._limits.reply_bytes)])
