"""A caller's arguments to operations, checked once for both shells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from kvbus.client.operation import Operation
from kvbus.client.options import (
    DELETE_OPTIONS,
    NODE_OPTIONS,
    READ_OPTIONS,
    WRITE_OPTIONS,
    Options,
    Terms,
    bytes_only,
    terms,
)

Item = tuple[bytes, bytes] | tuple[bytes, bytes, bytes | None]
"""Key, value and, where there is one, the context of an earlier reply."""

Asked = Mapping[str, object]
Request = TypeVar("Request", bound=Operation)
Make = Callable[[str, Terms, bytes | None, bytes | None, bytes | None], Request]
"""A shell's own kind of operation."""


def put(make: Make[Request], own: Terms, key: object, value: object, ctx: object, asked: Asked) -> Request:
    """Return a put."""
    if asked:
        own = terms(own, asked, WRITE_OPTIONS, "put")
    if type(key) is not bytes or type(value) is not bytes:
        key, value = bytes_only(key, "key"), bytes_only(value, "value")
    return make("put", own, key, value, None if ctx is None else bytes_only(ctx, "ctx"))


def get(make: Make[Request], own: Terms, key: object, asked: Asked) -> Request:
    """Return a get."""
    if asked:
        own = terms(own, asked, READ_OPTIONS, "get")
    return make("get", own, bytes_only(key, "key"), None, None)


def delete(make: Make[Request], own: Terms, key: object, ctx: object, asked: Asked) -> Request:
    """Return a delete."""
    if asked:
        own = terms(own, asked, DELETE_OPTIONS, "delete")
    return make("delete", own, bytes_only(key, "key"), None, None if ctx is None else bytes_only(ctx, "ctx"))


def puts(make: Make[Request], own: Terms, items: Iterable[Item], asked: Asked) -> list[Request]:
    """Return a put for each item, in order."""
    agreed = terms(own, asked, WRITE_OPTIONS, "put_many") if asked else own
    return [put(make, agreed, item[0], item[1], item[2] if len(item) > 2 else None, {}) for item in items]


def gets(make: Make[Request], own: Terms, keys: Iterable[bytes], asked: Asked) -> list[Request]:
    """Return a get for each key, in order."""
    agreed = terms(own, asked, READ_OPTIONS, "get_many") if asked else own
    return [get(make, agreed, key, {}) for key in keys]


def about_node(make: Make[Request], own: Terms, kind: str, fields: Options, asked: Asked) -> Request:
    """Return a request about a node: ``ping``, ``hello``, ``topology``, ``stats``."""
    agreed = terms(own, asked, NODE_OPTIONS, kind) if asked else own
    return make(kind, agreed.beside(fields), None, None, None)
