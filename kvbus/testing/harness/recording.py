"""A client that writes down what it asks and what it is told, as a history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar, Unpack

from kvbus.client.blocking import BlockingOperations
from kvbus.client.options import ReadOptions, WriteOptions
from kvbus.client.replies import GetReply, PutReply
from kvbus.errors import ClientError
from kvbus.testing.recorder import Recorder

_SEPARATOR = b"\x1f"
R = TypeVar("R", GetReply, PutReply)


class RecordingClient:
    """Wraps a blocking client. Two kinds of use, each with its model:

    - ``put``, ``get`` and ``delete`` record a register;
    - ``add`` and ``elements`` record a set that is kept in one key: concurrent adds become siblings, whose union the
      next add writes. Elements are text without the character U+001F.

    ``clock`` gives seconds, ``number`` is the client's in the history, ``node`` the one that it asks.
    """

    def __init__(
        self,
        client: BlockingOperations,
        recorder: Recorder,
        clock: Callable[[], float],
        number: int,
        node: str | None = None,
    ) -> None:
        self.client = client
        self._recorder = recorder
        self._clock = clock
        self._number = number
        self._node = node

    def put(self, key: bytes, value: bytes, *, ctx: bytes | None = None, **options: Unpack[WriteOptions]) -> PutReply:
        """Put, as :meth:`kvbus.Client.put`."""
        entry = self._recorder.begin(
            self._clock(), self._number, "put", _text(key), value=_text(value), node=self._node
        )
        return self._ended(entry, lambda: self.client.put(key, value, ctx=ctx, **options))

    def get(self, key: bytes, *, final: bool = False, **options: Unpack[ReadOptions]) -> GetReply:
        """Get, as :meth:`kvbus.Client.get`; ``final`` marks a read when everything is healed."""
        entry = self._recorder.begin(self._clock(), self._number, "get", _text(key), node=self._node, final=final)
        return self._ended(entry, lambda: self.client.get(key, **options), found=lambda reply: reply.values)

    def delete(self, key: bytes, *, ctx: bytes | None = None, **options: Unpack[WriteOptions]) -> PutReply:
        """Delete, as :meth:`kvbus.Client.delete`."""
        entry = self._recorder.begin(self._clock(), self._number, "delete", _text(key), node=self._node)
        return self._ended(entry, lambda: self.client.delete(key, ctx=ctx, **options))

    def add(self, key: bytes, element: bytes, **options: Unpack[WriteOptions]) -> PutReply:
        """Add an element to the set at ``key``: read its siblings, write their union and the element."""
        entry = self._recorder.begin(
            self._clock(), self._number, "add", _text(key), element=_text(element), node=self._node
        )

        def union(found: list[bytes]) -> bytes:
            return _SEPARATOR.join(sorted({*_elements(found), element}))

        return self._ended(entry, lambda: self.client.modify(key, union, **options))

    def elements(self, key: bytes, *, final: bool = False, **options: Unpack[ReadOptions]) -> list[bytes]:
        """Return the sorted elements of the set at ``key``; ``final`` marks a read when everything is healed."""
        entry = self._recorder.begin(self._clock(), self._number, "read", _text(key), node=self._node, final=final)
        reply = self._ended(entry, lambda: self.client.get(key, **options), found=lambda got: _elements(got.values))
        return _elements(reply.values)

    def close(self) -> None:
        """Close the client."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ended(self, entry: int, ask: Callable[[], R], found: Callable[[R], Sequence[bytes]] | None = None) -> R:
        try:
            reply = ask()
        except ClientError as error:
            self._recorder.end(entry, self._clock(), "failed" if error.definite else "unknown", error=error.code)
            raise
        values = None if found is None else [_text(value) for value in found(reply)]
        self._recorder.end(entry, self._clock(), "ok", found=values, degraded=reply.degraded)
        return reply


def _elements(values: Sequence[bytes]) -> list[bytes]:
    return sorted({element for value in values for element in value.split(_SEPARATOR)})


def _text(data: bytes) -> str:
    return data.replace(b"\\", b"\\\\").decode(errors="backslashreplace")
