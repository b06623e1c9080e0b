"""A blocking client's operations, whatever carries them: the shells derive from this."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Self, Unpack, cast

from kvbus.client import requests
from kvbus.client.introduction import PROTOCOL_VERSION
from kvbus.client.operation import Operation
from kvbus.client.options import PLAIN, NodeOptions, ReadOptions, Terms, WriteOptions
from kvbus.client.pipeline import Pipeline
from kvbus.client.replies import Fields, GetReply, Outcome, PutReply, ScanEntry
from kvbus.client.requests import Item
from kvbus.client.scanning import Scan
from kvbus.errors import ClientError

CLIENT_NAME = "kvbus-python/blocking"
_CHUNK = 8192
"""How many operations of one get_many or put_many are open at a time."""


class BlockingOperations(ABC):
    """Every operation raises a :class:`kvbus.errors.ClientError`; its ``definite`` tells whether surely nothing was
    applied.
    """

    def __init__(self, own: Terms) -> None:
        self._terms = own

    @abstractmethod
    def close(self) -> None:
        """Close every connection; the client cannot be used afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _run(self, operations: Sequence[Operation]) -> None:
        """Submit the operations and wait until all are settled."""

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
        return self._about_node("hello", (("client", CLIENT_NAME), ("v", PROTOCOL_VERSION)), options)

    def topology(self, **options: Unpack[NodeOptions]) -> Fields:
        """Return the nodes and the owners of each partition, as a node knows them."""
        return self._about_node("topology", PLAIN, options)

    def stats(self, **options: Unpack[NodeOptions]) -> Fields:
        """Return a node's counters and gauges by name."""
        return cast("Fields", self._about_node("stats", PLAIN, options).get("stats", {}))

    def admin(self, operation: str, fields: Fields | None = None, **options: Unpack[NodeOptions]) -> Fields:
        """Send ``admin.OPERATION`` with these request fields to one node; return its reply.

        It concerns the node that is asked: name it as the only address, with ``routing="direct"``.
        Source: PROTOCOL.md, "Faults".
        """
        return self._about_node(f"admin.{operation}", tuple((fields or {}).items()), options)

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
