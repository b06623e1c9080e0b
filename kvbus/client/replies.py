"""Reply bodies to typed replies. Source: PROTOCOL.md, "Reply"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import repeat
from typing import NamedTuple, cast

from kvbus.client.failures import Siblings
from kvbus.errors import ClientError, error_from_map

Fields = Mapping[str, object]


class PutReply(NamedTuple):
    """A put or delete that was acknowledged.

    ``ctx`` covers the write; hand it to the next put of the same key. ``degraded`` tells that fewer replicas than the
    configured W took it, ``acks`` then how many did. ``receipt`` is there when it was asked for.
    """

    ctx: bytes | None
    degraded: bool = False
    acks: int | None = None
    receipt: Fields | None = None


class GetReply(NamedTuple):
    """What a key holds: no value, one, or several siblings.

    ``ctx`` covers all that was read, deletions too. ``degraded`` tells that fewer replicas than the configured R
    answered, ``acks`` then how many did. ``receipt`` and ``explain`` are there when they were asked for.
    """

    values: list[bytes]
    ctx: bytes | None
    degraded: bool = False
    acks: int | None = None
    receipt: Fields | None = None
    explain: Fields | None = None

    @property
    def value(self) -> bytes | None:
        """Return the one value, or None when there is none.

        Raises:
            Siblings: there are several.
        """
        if len(self.values) > 1:
            raise Siblings(self.values, self.ctx)
        return self.values[0] if self.values else None


class ScanEntry(NamedTuple):
    """A key that a scan met; ``values`` is empty unless values were asked for.

    ``degraded`` tells that too few replicas answered for its page to be surely complete.
    """

    key: bytes
    values: list[bytes]
    degraded: bool = False


Outcome = PutReply | GetReply | Fields | ClientError


# A named tuple's own constructor is a Python function around this one, twice as slow.
_put_reply = cast("Callable[[tuple[object, ...]], PutReply]", partial(tuple[object, ...].__new__, PutReply))
_get_reply = cast("Callable[[tuple[object, ...]], GetReply]", partial(tuple[object, ...].__new__, GetReply))


class MalformedReply(ValueError):
    """A node sent a reply that PROTOCOL.md does not allow."""


def error_of(error: object) -> ClientError:
    """Return the typed error of an error map.

    Raises:
        MalformedReply: it is no map.
    """
    if not isinstance(error, Mapping):
        raise MalformedReply("an error is not a map")
    return error_from_map(cast("Fields", error))


def outcomes(kind: str, count: int, packed: bool, reply: Fields) -> list[Outcome]:
    """Return one outcome for each of the ``count`` operations that a frame held, in their order.

    ``packed`` tells a batch (``mget``, ``mput``) from a single operation; ``reply`` is the decoded body.

    Raises:
        MalformedReply: the reply does not have the shape of an answer to this frame.
    """
    if reply.get("ok") is not True:
        return [error_of(reply.get("error")) for _ in range(count)]
    if kind == "get":
        return _got(count, packed, reply)
    if kind in ("put", "delete"):
        return _written(count, packed, reply)
    return [{name: value for name, value in reply.items() if name not in ("id", "ok")}]


def _written(count: int, packed: bool, reply: Fields) -> list[Outcome]:
    degraded, acks, receipt = _worth(reply)
    if not packed:
        return [PutReply(_token(reply.get("ctx")), degraded, acks, receipt)]
    contexts = cast("list[bytes | None]", _column(reply, "ctxs", count))
    found: list[Outcome] = list(map(_put_reply, zip(contexts, repeat(degraded), repeat(acks), repeat(receipt))))
    return _with_errors(found, reply)


def _got(count: int, packed: bool, reply: Fields) -> list[Outcome]:
    degraded, acks, receipt = _worth(reply)
    explain = cast("Fields | None", reply.get("explain"))
    if not packed:
        values = reply.get("values")
        if type(values) is not list:
            raise MalformedReply("values is not an array")
        return [GetReply(cast("list[bytes]", values), _token(reply.get("ctx")), degraded, acks, receipt, explain)]
    columns = cast("list[list[bytes]]", _column(reply, "values", count))
    contexts = cast("list[bytes | None]", _column(reply, "ctxs", count))
    worth = (repeat(degraded), repeat(acks), repeat(receipt), repeat(explain))
    found: list[Outcome] = list(map(_get_reply, zip(columns, contexts, *worth, strict=False)))
    return _with_errors(found, reply)


def _worth(reply: Fields) -> tuple[bool, int | None, Fields | None]:
    degraded = reply.get("degraded") is True
    return degraded, cast("int | None", reply.get("acks")), cast("Fields | None", reply.get("receipt"))


def _token(token: object) -> bytes | None:
    if token is None or type(token) is bytes:
        return token
    raise MalformedReply("ctx is not bytes")


def _column(reply: Fields, name: str, count: int) -> list[object]:
    """Return a batch's column; a mode without contexts sends none."""
    column = reply.get(name)
    if column is None and name == "ctxs":
        return [None] * count
    if type(column) is not list or len(cast("list[object]", column)) != count:
        raise MalformedReply(f"{name} is not an array of {count}")
    return cast("list[object]", column)


def _with_errors(found: list[Outcome], reply: Fields) -> list[Outcome]:
    errors = reply.get("errors")
    if not errors:
        return found
    if type(errors) is not list:
        raise MalformedReply("errors is not an array")
    for entry in cast("list[object]", errors):
        pair = cast("list[object]", entry) if type(entry) is list else []
        index = pair[0] if len(pair) == 2 else None
        if type(index) is not int or not 0 <= index < len(found):
            raise MalformedReply("errors holds something else than [index, error]")
        found[index] = error_of(pair[1])
    return found
