"""The asyncio shell: ZeroMQ's descriptors in the event loop, one flush a turn, one future an operation, no task.

``zmq.asyncio`` costs a task and a future a message, a third of the throughput. ZeroMQ's descriptors are
edge-triggered: whoever wakes up drains until nothing is left, and whoever sends looks again. A full frame does not
wait for its turn's end: the nodes work while the caller issues more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from random import getrandbits
from time import monotonic
from types import TracebackType
from typing import Self, Unpack, cast

from kvbus.client import requests
from kvbus.client.connection import Connection
from kvbus.client.failures import Unreachable
from kvbus.client.introduction import PROTOCOL_VERSION
from kvbus.client.machine import SWEEP_SECONDS, ClientMachine, Routing
from kvbus.client.operation import Operation
from kvbus.client.options import PLAIN, NodeOptions, ReadOptions, Terms, WriteOptions
from kvbus.client.replies import Fields, GetReply, Outcome, PutReply, ScanEntry
from kvbus.client.requests import Item
from kvbus.client.scanning import Scan
from kvbus.client.url import DEFAULT_KEYSPACE, parse_addresses, parse_url
from kvbus.client.wiring import Wiring
from kvbus.errors import ClientError

_CLIENT_NAME = "kvbus-python/asyncio"
_CHUNK = 8192
"""How many operations of one get_many or put_many are open at a time."""


class _Awaited(Operation):
    """An operation with a future of its own."""

    __slots__ = ("future",)

    future: asyncio.Future[Outcome]

    def settle(self, outcome: Outcome) -> None:
        """Resolve the future, unless its owner cancelled it."""
        future = self.future
        if future.done():
            return
        if isinstance(outcome, ClientError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


class _Gathering:
    """Many operations with one future, which is resolved when ``left`` of them have become none."""

    __slots__ = ("future", "left")

    def __init__(self, future: asyncio.Future[None], left: int) -> None:
        self.future = future
        self.left = left


class _Gathered(Operation):
    """An operation of a gathering."""

    __slots__ = ("gathering",)

    gathering: _Gathering

    def settle(self, outcome: Outcome) -> None:
        """Keep the outcome; the last one wakes the caller."""
        self.outcome = outcome
        gathering = self.gathering
        gathering.left -= 1
        if not gathering.left and not gathering.future.done():
            gathering.future.set_result(None)


class AsyncClient:
    """An asyncio client of one cluster; for one event loop, standard or uvloop.

    Arguments as for :class:`kvbus.client.Client`. Single operations return a future and start at once: what is issued
    in one turn of the loop shares frames. A cancelled operation may still be applied.

    ::

        async with AsyncClient(["tcp://127.0.0.1:7400"]) as client:
            reply = await client.put(b"cart", b"apple")
            pear, plum = client.get(b"pear"), client.get(b"plum")  # under way together
            print((await pear).values, (await plum).values)
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
        self._wiring = Wiring(self._machine, self._watch, self._unwatch)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flush_scheduled = False
        self._sweep_timer: asyncio.TimerHandle | None = None
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

    def put(
        self, key: bytes, value: bytes, *, ctx: bytes | None = None, **options: Unpack[WriteOptions]
    ) -> asyncio.Future[PutReply]:
        """Write one value; ``ctx`` of an earlier reply replaces all that this reply had covered.

        Options: :class:`~kvbus.client.options.WriteOptions`.
        """
        operation = requests.put(_Awaited, self._terms, key, value, ctx, options)
        return cast("asyncio.Future[PutReply]", self._start(operation))

    def get(self, key: bytes, **options: Unpack[ReadOptions]) -> asyncio.Future[GetReply]:
        """Read one key. Options: :class:`~kvbus.client.options.ReadOptions`."""
        operation = requests.get(_Awaited, self._terms, key, options)
        return cast("asyncio.Future[GetReply]", self._start(operation))

    def delete(
        self, key: bytes, *, ctx: bytes | None = None, **options: Unpack[WriteOptions]
    ) -> asyncio.Future[PutReply]:
        """Delete what ``ctx`` covers. Options: :class:`~kvbus.client.options.WriteOptions` without ``ttl_ms``."""
        operation = requests.delete(_Awaited, self._terms, key, ctx, options)
        return cast("asyncio.Future[PutReply]", self._start(operation))

    async def get_many(self, keys: Iterable[bytes], **options: Unpack[ReadOptions]) -> list[GetReply | ClientError]:
        """Read many keys; each has its own reply or error, in the order of ``keys``."""
        operations = requests.gets(_Gathered, self._terms, keys, options)
        return cast("list[GetReply | ClientError]", await self._gather(operations))

    async def put_many(self, items: Iterable[Item], **options: Unpack[WriteOptions]) -> list[PutReply | ClientError]:
        """Write many items, ``(key, value)`` or ``(key, value, ctx)``; each has its own reply or error, in order."""
        operations = requests.puts(_Gathered, self._terms, items, options)
        return cast("list[PutReply | ClientError]", await self._gather(operations))

    async def modify(
        self, key: bytes, merge: Callable[[list[bytes]], bytes], **options: Unpack[WriteOptions]
    ) -> PutReply:
        """Read the siblings of ``key``, write what ``merge`` makes of them with their context.

        ``merge`` gets no value where the key is absent. A concurrent write stays as a sibling: the next call merges it.
        """
        found = await self.get(
            key,
            cl=options.get("cl"),
            deadline_ms=options.get("deadline_ms"),
            keyspace=options.get("keyspace"),
        )
        return await self.put(key, merge(found.values), ctx=found.ctx, **options)

    async def scan(
        self,
        prefix: bytes = b"",
        *,
        with_values: bool = False,
        page_keys: int | None = None,
        **options: Unpack[ReadOptions],
    ) -> AsyncIterator[ScanEntry]:
        """Iterate over the keys with ``prefix``, partition by partition; ``page_keys`` (≤ 1000) are fetched at a time.

        ::

            async for key, values, degraded in client.scan(b"user:", with_values=True):
                ...
        """
        scan = Scan(self._terms, prefix, with_values, page_keys, options)
        while not scan.finished:
            for entry in scan.take(cast("Fields", await self._start(scan.next_page(_Awaited)))):
                yield entry

    async def ping(self, **options: Unpack[NodeOptions]) -> None:
        """Ask any node for a sign of life."""
        await self._about_node("ping", PLAIN, options)

    async def hello(self, **options: Unpack[NodeOptions]) -> Fields:
        """Return a node's name, cluster, version, keyspaces and limits."""
        return await self._about_node("hello", (("client", _CLIENT_NAME), ("v", PROTOCOL_VERSION)), options)

    async def topology(self, **options: Unpack[NodeOptions]) -> Fields:
        """Return the nodes and the owners of each partition, as a node knows them."""
        return await self._about_node("topology", PLAIN, options)

    async def stats(self, **options: Unpack[NodeOptions]) -> Fields:
        """Return a node's counters and gauges by name."""
        return cast("Fields", (await self._about_node("stats", PLAIN, options)).get("stats", {}))

    async def admin(self, operation: str, fields: Fields | None = None, **options: Unpack[NodeOptions]) -> Fields:
        """Send ``admin.OPERATION`` with these request fields to one node; return its reply.

        It concerns the node that is asked: name it as the only address, with ``routing="direct"``.
        Source: PROTOCOL.md, "Faults".
        """
        return await self._about_node(f"admin.{operation}", tuple((fields or {}).items()), options)

    async def close(self) -> None:
        """Close every connection; the client cannot be used afterwards."""
        if self._closed:
            return
        self._closed = True
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._wiring.close()
        self._loop = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _about_node(self, kind: str, fields: tuple[tuple[str, object], ...], options: NodeOptions) -> Fields:
        operation = requests.about_node(_Awaited, self._terms, kind, fields, options)
        return cast("Fields", await self._start(operation))

    def _start(self, operation: _Awaited) -> asyncio.Future[Outcome]:
        loop = self._loop or self._bind()
        future: asyncio.Future[Outcome] = loop.create_future()
        operation.future = future
        full = self._machine.submit(operation)
        if not self._flush_scheduled:
            self._schedule_flush(loop)
        if full:
            self._send(loop)
        return future

    async def _gather(self, operations: Sequence[_Gathered]) -> list[Outcome]:
        loop = self._loop or self._bind()
        for start in range(0, len(operations), _CHUNK):
            if self._closed:
                for operation in operations[start:]:
                    operation.outcome = Unreachable("the client was closed before the request was sent")
                break
            chunk = operations[start : start + _CHUNK]
            future: asyncio.Future[None] = loop.create_future()
            gathering = _Gathering(future, len(chunk))
            for operation in chunk:
                operation.gathering = gathering
                if self._machine.submit(operation):
                    self._send(loop)
            self._schedule_flush(loop)
            await future
        return [cast("Outcome", operation.outcome) for operation in operations]

    def _bind(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise RuntimeError("the client is closed; open a new one")
        self._loop = asyncio.get_running_loop()
        return self._loop

    def _schedule_flush(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._closed:
            return
        self._wiring.follow()
        for connection in self._wiring.transmit():
            if connection.readable():
                self._take_replies(connection)
        if self._sweep_timer is None and self._machine.busy:
            self._arm()

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send within the caller's turn; replies that the sending came upon are taken behind it."""
        for connection in self._wiring.transmit():
            if connection.readable():
                loop.call_soon(self._look_again, connection)

    def _look_again(self, connection: Connection) -> None:
        if not connection.socket.closed:
            self._take_replies(connection)

    def _take_replies(self, connection: Connection) -> None:
        self._wiring.take_replies(connection)
        self._go_on()

    def _take_changes(self, connection: Connection) -> None:
        if connection.socket.closed:
            return
        self._wiring.take_changes(connection)
        self._go_on()

    def _go_on(self) -> None:
        if self._loop is not None and (self._machine.sendable or self._machine.links.changed):
            self._schedule_flush(self._loop)

    def _sweep(self) -> None:
        self._sweep_timer = None
        self._machine.sweep(monotonic())
        self._go_on()
        if self._machine.busy:
            self._arm()

    def _arm(self) -> None:
        if self._loop is not None:
            self._sweep_timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def _watch(self, connection: Connection) -> None:
        if self._loop is not None:
            self._loop.add_reader(connection.socket.fileno(), self._take_replies, connection)
            self._loop.add_reader(connection.monitor.fileno(), self._take_changes, connection)
            # A descriptor tells of news only after a first look that found none.
            self._loop.call_soon(self._take_changes, connection)

    def _unwatch(self, connection: Connection) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(connection.socket.fileno())
            self._loop.remove_reader(connection.monitor.fileno())
