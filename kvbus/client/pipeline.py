"""Operations of the blocking client that are sent together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar, Unpack, cast

from kvbus.client import requests
from kvbus.client.operation import Operation
from kvbus.client.options import ReadOptions, Terms, WriteOptions
from kvbus.client.replies import GetReply, Outcome, PutReply
from kvbus.errors import ClientError

R = TypeVar("R", PutReply, GetReply)


class Ticket(Generic[R]):
    """The reply to come of one operation of a pipeline."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation

    def result(self) -> R:
        """Return the reply.

        Raises:
            ClientError: the operation failed.
            RuntimeError: the pipeline's block has not ended, or was left by an exception and nothing was sent.
        """
        outcome = self._operation.outcome
        if outcome is None:
            raise RuntimeError("nothing was sent yet; ask for the result behind the pipeline's block")
        if isinstance(outcome, ClientError):
            raise outcome
        return cast("R", outcome)


class Pipeline:
    """Collects operations; the end of the ``with`` block sends all and waits for all. Order between keys is free.

    An exception inside the block means that nothing is sent.
    """

    def __init__(self, own: Terms, run: Callable[[Sequence[Operation]], list[Outcome]]) -> None:
        self._terms = own
        self._run = run
        self._operations: list[Operation] = []

    def put(
        self, key: bytes, value: bytes, *, ctx: bytes | None = None, **options: Unpack[WriteOptions]
    ) -> Ticket[PutReply]:
        """Put, as :meth:`Client.put`."""
        return self._add(requests.put(Operation, self._terms, key, value, ctx, options))

    def get(self, key: bytes, **options: Unpack[ReadOptions]) -> Ticket[GetReply]:
        """Get, as :meth:`Client.get`."""
        operation = requests.get(Operation, self._terms, key, options)
        self._operations.append(operation)
        return Ticket(operation)

    def delete(self, key: bytes, *, ctx: bytes | None = None, **options: Unpack[WriteOptions]) -> Ticket[PutReply]:
        """Delete, as :meth:`Client.delete`."""
        return self._add(requests.delete(Operation, self._terms, key, ctx, options))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        operations, self._operations = self._operations, []
        if kind is None and operations:
            self._run(operations)

    def _add(self, operation: Operation) -> Ticket[PutReply]:
        self._operations.append(operation)
        return Ticket(operation)
