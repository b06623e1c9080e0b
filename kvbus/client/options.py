"""What a caller may ask for beside keys and values, and the checks that need no node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypedDict

from kvbus.core.request import MAX_DEADLINE_MS
from kvbus.errors import BadRequest

Options = tuple[tuple[str, object], ...]
"""Request fields in a fixed order; hashable, so that operations that share them can share a frame."""

PLAIN: Options = ()


class WriteOptions(TypedDict, total=False):
    """Options of put and delete; None means the keyspace's default.

    ``w``, ``pw``: how many replicas (``pw``: primaries) must acknowledge. ``cl``: a level instead (``one``, ``quorum``,
    ``all``, ``local_one``, ``local_quorum``, ``each_quorum``). ``ttl_ms``: expiry, from now (not for delete).
    ``receipt``: tell what the reply is worth. ``deadline_ms``: how long to wait. ``keyspace``: another one than the
    client's own.
    """

    w: int | None
    pw: int | None
    cl: str | None
    ttl_ms: int | None
    receipt: bool
    deadline_ms: int | None
    keyspace: str | None


class ReadOptions(TypedDict, total=False):
    """Options of get and scan; None means the keyspace's default.

    ``r``, ``pr``: how many replicas (``pr``: primaries) must answer. ``cl``: a level instead, as in
    :class:`WriteOptions`. ``receipt``: tell what the reply is worth. ``explain``: tell the request's way.
    ``deadline_ms``: how long to wait. ``keyspace``: another one than the client's own.
    """

    r: int | None
    pr: int | None
    cl: str | None
    receipt: bool
    explain: bool
    deadline_ms: int | None
    keyspace: str | None


class NodeOptions(TypedDict, total=False):
    """Options of requests about a node; ``deadline_ms``: how long to wait."""

    deadline_ms: int | None


class Terms(NamedTuple):
    """The keyspace, the deadline and the further request fields of one operation."""

    keyspace: str
    deadline_ms: int
    options: Options

    def beside(self, fields: Options) -> Terms:
        """Return these terms with further request fields."""
        return Terms(self.keyspace, self.deadline_ms, (*self.options, *fields)) if fields else self


def terms(own: Terms, asked: Mapping[str, object], allowed: frozenset[str], operation: str) -> Terms:
    """Return ``own`` with what the caller asked for; ``allowed`` names the options of ``operation``.

    Raises:
        TypeError: an option has a name that the operation does not take, or a value of the wrong type.
        BadRequest: a number is none that a request can carry.
    """
    for name in asked:
        if name not in allowed:
            raise TypeError(f"{operation}() takes no option {name!r}; it takes {', '.join(sorted(allowed))}")
    keyspace = asked.get("keyspace") or own.keyspace
    deadline_ms = asked.get("deadline_ms")
    if deadline_ms is None:
        deadline_ms = own.deadline_ms
    if type(keyspace) is not str or type(deadline_ms) is not int or deadline_ms < 1:
        raise TypeError("keyspace must be a str and deadline_ms a positive int")
    if deadline_ms > MAX_DEADLINE_MS:
        raise BadRequest(f"deadline_ms must be an integer from 1 to {MAX_DEADLINE_MS}")
    for name, value in asked.items():
        if type(value) is int and not 0 <= value < 1 << 64:
            raise BadRequest(f"{name} must be an unsigned integer of 64 bits")
    fields = [
        (name, value)
        for name, value in sorted(asked.items())
        if value is not None and value is not False and name not in ("keyspace", "deadline_ms")
    ]
    return Terms(keyspace, deadline_ms, (*own.options, *fields))


def bytes_only(value: object, what: str) -> bytes:
    """Return ``value`` if it is bytes.

    Raises:
        TypeError: it is not; a str must be encoded by who knows its encoding.
    """
    if type(value) is bytes:
        return value
    mend = "; encode it first, such as text.encode()" if isinstance(value, str) else ""
    raise TypeError(f"{what} must be bytes, not {type(value).__name__}{mend}")


WRITE_OPTIONS = frozenset(WriteOptions.__annotations__)
DELETE_OPTIONS = WRITE_OPTIONS - {"ttl_ms"}
READ_OPTIONS = frozenset(ReadOptions.__annotations__)
NODE_OPTIONS = frozenset(NodeOptions.__annotations__)
