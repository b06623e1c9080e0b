"""The fields of a client's request, checked against their types and limits; an error names the mend.

A whole column is checked at once, and item by item only to say what is wrong with it.

Source: PROTOCOL.md, "Request fields" and "Limits and safety".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from kvbus.errors import BadRequest, TooLarge
from kvbus.ports.mode import Limits

MAX_ID = 1 << 53
MAX_ID_BYTES = 16
MAX_CONTEXT_BYTES = 1 << 16
_SHOWN_CHARACTERS = 64
_ID_FIRST = b"\x62id"
_BYTES = {bytes}
_BYTES_OR_NONE = {bytes, type(None)}


def request_id(fields: Mapping[str, object]) -> int | bytes:
    """Return a request's id."""
    found = fields.get("id")
    if type(found) is int and 0 <= found < MAX_ID:
        return found
    if type(found) is bytes and len(found) <= MAX_ID_BYTES:
        return found
    raise BadRequest(f"id must be an unsigned integer below 2^53 or at most {MAX_ID_BYTES} bytes")


def leading_id(body: bytes) -> int | bytes | None:
    """Return the id of a body in which it stands first, as most clients write it, without decoding the rest."""
    # Some encoders write every map's length in one or two bytes of its own, behind B8 or B9.
    begin = {0xB8: 2, 0xB9: 3}.get(body[0], 1) if body else 1
    if len(body) < begin + 4 or not 0xA1 <= body[0] <= 0xB9 or body[begin : begin + 3] != _ID_FIRST:
        return None
    body = body[begin - 1 : begin + MAX_ID_BYTES + 4]
    head = body[4]
    if head < 24:
        return head
    is_number = 0x18 <= head <= 0x1B
    if not is_number and not 0x40 <= head <= 0x40 + MAX_ID_BYTES:
        return None
    size = 1 << head - 0x18 if is_number else head - 0x40
    found = body[5 : 5 + size]
    if len(found) < size:
        return None
    number = int.from_bytes(found, "big")
    return found if not is_number else number if number < MAX_ID else None


def clipped(name: object) -> str:
    """Show a name from outside: an error must not be as long as a request may be."""
    shown = repr(name[:_SHOWN_CHARACTERS] if isinstance(name, str) else type(name).__name__)
    return shown + "…" if isinstance(name, str) and len(name) > _SHOWN_CHARACTERS else shown


def key(found: object, limits: Limits) -> bytes:
    """Return the key of one operation."""
    if type(found) is not bytes:
        raise BadRequest("key must be bytes")
    if not 1 <= len(found) <= limits.key_bytes:
        if not found:
            raise BadRequest("key must not be empty")
        raise TooLarge(f"a key may have {limits.key_bytes} bytes, this one has {len(found)}")
    return found


def keys(found: object, limits: Limits) -> list[bytes]:
    """Return the keys of a batch."""
    if type(found) is not list:
        raise BadRequest("keys must be an array of bytes")
    items = cast("list[bytes]", found)
    if len(items) > limits.batch_keys:
        raise TooLarge(f"a batch may have {limits.batch_keys} keys, this one has {len(items)}")
    if not items:
        raise BadRequest("keys must not be empty")
    if set(map(type, items)) == _BYTES and min(map(len, items)) and max(map(len, items)) <= limits.key_bytes:
        return items
    return [key(item, limits) for item in items]


def value(found: object, limits: Limits) -> bytes:
    """Return the value of one put."""
    if type(found) is not bytes:
        raise BadRequest("value must be bytes")
    if len(found) > limits.value_bytes:
        raise TooLarge(f"a value may have {limits.value_bytes} bytes, this one has {len(found)}")
    return found


def values(found: object, count: int, limits: Limits, *, from_peer: bool) -> list[bytes | None]:
    """Return the values of a batch of ``count`` puts; only a peer that forwards deletes may send null ones."""
    if type(found) is not list or len(cast("list[object]", found)) != count:
        raise BadRequest(f"values must be an array of {count} byte strings, one for each key")
    items = cast("list[bytes | None]", found)
    if set(map(type, items)) == _BYTES and max(map(len, filter(None, items)), default=0) <= limits.value_bytes:
        return items
    return [None if item is None and from_peer else value(item, limits) for item in items]


def context(found: object) -> bytes | None:
    """Return the context of one write; None where there is none."""
    if found is None:
        return None
    if type(found) is not bytes:
        raise BadRequest("ctx must be the bytes of an earlier reply")
    if len(found) > MAX_CONTEXT_BYTES:
        raise TooLarge(f"a ctx may have {MAX_CONTEXT_BYTES} bytes, this one has {len(found)}")
    return found


def contexts(found: object, count: int) -> list[bytes | None]:
    """Return the contexts of a batch of ``count`` writes."""
    if found is None:
        return [None] * count
    if type(found) is not list or len(cast("list[object]", found)) != count:
        raise BadRequest(f"ctxs must be an array of {count} contexts, one for each key (null where there is none)")
    items = cast("list[bytes | None]", found)
    if set(map(type, items)) <= _BYTES_OR_NONE and max(map(len, filter(None, items)), default=0) <= MAX_CONTEXT_BYTES:
        return items
    return [context(item) for item in items]


def uint(fields: Mapping[str, object], name: str, low: int, high: int) -> int | None:
    """Return an optional integer from ``low`` to ``high``."""
    value = fields.get(name)
    if value is None:
        return None
    if type(value) is not int or not low <= value <= high:
        raise BadRequest(f"{name} must be an integer from {low} to {high}")
    return value


def flag(fields: Mapping[str, object], name: str) -> bool:
    """Return an optional flag; it is false where it is absent."""
    value = fields.get(name, False)
    if type(value) is not bool:
        raise BadRequest(f"{name} must be true or false")
    return value
