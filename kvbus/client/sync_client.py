"""The blocking shell: send, poll, receive. No thread, no event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from random import getrandbits
from threading import Lock
from time import monotonic
from types import TracebackType
from typing import Self, Unpack, cast

import zmq

from kvbus.client import requests
from kvbus.client.connection import Connection
from kvbus.client.introduction import PROTOCOL_VERSION
from kvbus.client.machine import SWEEP_SECONDS, ClientMachine, Routing
from kvbus.client.operation import Operation
from kvbus.client.options import PLAIN, NodeOptions, ReadOptions, Terms, WriteOptions
from kvbus.client.pipeline import Pipeline
from kvbus.client.replies import Fields, GetReply, Outcome, PutReply, ScanEntry
from kvbus.client.requests import Item
from kvbus.client.scanning import Scan
from kvbus.client.url import DEFAULT_KEYSPACE, parse_addresses, parse_url
from kvbus.client.wiring import Wiring
from kvbus.errors import ClientError

_CLIENT_NAME = "kvbus-python/blocking"
_SWEEP_MS = int(SWEEP_SECONDS * 1000)
_CHUNK = 8192
"""How many operations of one get_many or put_many are open at a time."""


class Client:
    """A blocking client of one cluster; safe to share between threads, which then take turns.

    ``addresses``: one or more nodes, ``tcp://host:port``; the others are learnt from them. ``keyspace``: used where an
    operation names none. ``deadline_ms``: how long an operation may take where it says nothing else. ``routing``:
    "topology" sends each request to a replica, "direct" all to the first address that can be reached. ``packing``:
    whether operations that are issued together share frames.

    ::

        with Client(["tcp://127.0.0.1:7400"]) as client:
            reply = client.put(b"cart", b"apple")
            client.put(b"cart", b"apple,pear", ctx=reply.ctx)
            client.get(b"cart").value  # b"apple,pear"

    Every operation raises a :class:`kvbus.errors.ClientError`; its ``definite`` tells whether surely nothing was
    applied.
    """

    def __init__(
        self,
        addresses: str | Sequence[str],
        *,
        keyspace: str = DEFAULT_KEYSPACE,
        deadline_ms: int = 5000,
        routing: Routing = "topology",
        packing: bool = True,
    ) -> None:
        self._terms = Terms(keyspace, deadline_ms, PLAIN)
        self._machine = ClientMachine(
            parse_addresses(addresses),
            routing=routing,
            packing=packing,
            client_name=_CLIENT_NAME,
            first_home=getrandbits(16),
        )
        self._poller = zmq.Poller()
        self._takers: dict[zmq.Socket[bytes], tuple[Callable[[Connection], None], Connection]] = {}
        self._wiring = Wiring(self._machine, self._watch, self._unwatch)
        self._lock = Lock()
        self._closed = False

    @classmethod
    def from_url(
        cls, url: str, *, deadline_ms: int = 5000, routing: Routing = "topology", packing: bool = True
    ) -> Self:
        """Open a client of the cluster at ``kvbus://host:port,host:port/keyspace``.

        Raises:
            ConfigError: the URL has another form.
        """
        addresses, keyspace = parse_url(url)
        return cls(addresses, keyspace=keyspace, deadline_ms=deadline_ms, routing=routing, packing=packing)

    def put(self, key: bytes, value: bytes, *, ctx: bytes | None = None, **options: Unpack[WriteOptions]) -> PutReply:
        """Write one value; ``ctx`` of an earlier reply replaces all that this reply had covered.

        Options: :class:`~kvbus.client.options.WriteOptions`.
        """
        return cast("PutReply", self._one(requests.put(Operation, self._terms, key, value, ctx, options)))

    def get(self, key: bytes, **options: Unpack[ReadOptions]) -> GetReply:
        """Read one key. Options: :class:`~kvbus.client.options.ReadOptions`."""
        return cast("GetReply", self._one(requests.get(Operation, self._terms, key, options)))

    def delete(self, key: bytes, *, ctx: bytes | None = None, **options: Unpack[WriteOptions]) -> PutReply:
        """Delete what ``ctx`` covers. Options: :class:`~kvbus.client.options.WriteOptions` without ``ttl_ms``."""
        return cast("PutReply", self._one(requests.delete(Operation, self._terms, key, ctx, options)))

    def get_many(self, keys: Iterable[bytes], **options: Unpack[ReadOptions]) -> list[GetReply | ClientError]:
        """Read many keys; each has its own reply or error, in the order of ``keys``."""
        operations = requests.gets(Operation, self._terms, keys, options)
        return cast("list[GetReply | ClientError]", self._many(operations))

    def put_many(self, items: Iterable[Item], **options: Unpack[WriteOptions]) -> list[PutReply | ClientError]:
        """Write many items, ``(key, value)`` or ``(key, value, ctx)``; each has its own reply or error, in order."""
        operations = requests.puts(Operation, self._terms, items, options)
        return cast("list[PutReply | ClientError]", self._many(operations))

    def modify(self, key: bytes, merge: Callable[[list[bytes]], bytes], **options: Unpack[WriteOptions]) -> PutReply:
        """Read the siblings of ``key``, write what ``merge`` makes of them with their context.

        ``merge`` gets no value where the key is absent. A concurrent write stays as a sibling: the next call merges it.

        ::

            client.modify(b"cart", lambda found: b",".join(sorted({*found, b"pear"})))
        """
        found = self.get(
            key,
            cl=options.get("cl"),
            deadline_ms=options.get("deadline_ms"),
            keyspace=options.get("keyspace"),
        )
        return self.put(key, merge(found.values), ctx=found.ctx, **options)

    def scan(
        self,
        prefix: bytes = b"",
        *,
        with_values: bool = False,
        page_keys: int | None = None,
        **options: Unpack[ReadOptions],
    ) -> Iterator[ScanEntry]:
        """Iterate over the keys with ``prefix``, partition by partition; ``page_keys`` (≤ 1000) are fetched at a time.

        ::

            for key, values, degraded in client.scan(b"user:", with_values=True):
                ...
        """
        scan = Scan(self._terms, prefix, with_values, page_keys, options)
        return self._pages(scan)

    def pipeline(self) -> Pipeline:
        """Collect operations and send them together at the end of the block.

        ::

            with client.pipeline() as batch:
                written = batch.put(b"a", b"1")
                read = batch.get(b"b")
            written.result().ctx, read.result().values
        """
        return Pipeline(self._terms, self._many)

    def ping(self, **options: Unpack[NodeOptions]) -> None:
        """Ask any node for a sign of life."""
        self._about_node("ping", PLAIN, options)

    def hello(self, **options: Unpack[NodeOptions]) -> Fields:
        """Return a node's name, cluster, version, keyspaces and limits."""
        return self._about_node("hello", (("client", _CLIENT_NAME), ("v", PROTOCOL_VERSION)), options)

    def topology(self, **options: Unpack[NodeOptions]) -> Fields:
        """Return the nodes and the owners of each partition, as a node knows them."""
        return self._about_node("topology", PLAIN, options)

    def stats(self, **options: Unpack[NodeOptions]) -> Fields:
        """Return a node's counters and gauges by name."""
        return cast("Fields", self._about_node("stats", PLAIN, options).get("stats", {}))

    def close(self) -> None:
        """Close every connection; the client cannot be used afterwards."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._wiring.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _pages(self, scan: Scan) -> Iterator[ScanEntry]:
        while not scan.finished:
            yield from scan.take(cast("Fields", self._one(scan.next_page(Operation))))

    def _about_node(self, kind: str, fields: tuple[tuple[str, object], ...], options: NodeOptions) -> Fields:
        return cast("Fields", self._one(requests.about_node(Operation, self._terms, kind, fields, options)))

    def _one(self, operation: Operation) -> Outcome:
        self._run([operation])
        outcome = operation.outcome
        if isinstance(outcome, ClientError):
            raise outcome
        return cast("Outcome", outcome)

    def _many(self, operations: Sequence[Operation]) -> list[Outcome]:
        rest = iter(operations)
        while chunk := list(islice(rest, _CHUNK)):
            self._run(chunk)
        return [cast("Outcome", operation.outcome) for operation in operations]

    def _run(self, operations: Sequence[Operation]) -> None:
        """Submit the operations and turn until all are settled."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed; open a new one")
            # What happened to the connections since the last call decides where requests go.
            self._turn(0)
            for operation in operations:
                self._machine.submit(operation)
            for operation in operations:
                while operation.outcome is None:
                    self._wiring.transmit()
                    self._turn(_SWEEP_MS)

    def _turn(self, wait_ms: int) -> None:
        self._wiring.follow()
        for socket, _ in self._poller.poll(wait_ms):
            take, connection = self._takers[socket]
            take(connection)
        self._machine.sweep(monotonic())

    def _watch(self, connection: Connection) -> None:
        for socket, take in (
            (connection.socket, self._wiring.take_replies),
            (connection.monitor, self._wiring.take_changes),
        ):
            self._takers[socket] = (take, connection)
            self._poller.register(socket, zmq.POLLIN)

    def _unwatch(self, connection: Connection) -> None:
        for socket in (connection.socket, connection.monitor):
            del self._takers[socket]
            self._poller.unregister(socket)
