"""Request bodies that break a rule, by the rule they break. The same seed gives the same bodies."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf, nan
from random import Random

from cbor2 import CBORTag, dumps

REQUEST_ID = 77

READS = {"r": 1, "pr": 1, "cl": "one", "deadline_ms": 1000, "ks": "default", "receipt": True}
WRITES = {"w": 1, "pw": 1, "cl": "one", "deadline_ms": 1000, "ks": "default", "receipt": True, "ttl_ms": 60_000}
FIELDS: dict[str, dict[str, object]] = {
    "hello": {"v": 1, "client": "hostile", "deadline_ms": 1000},
    "ping": {"deadline_ms": 1000},
    "topology": {"deadline_ms": 1000},
    "stats": {"deadline_ms": 1000},
    "get": {"key": b"fuzz", "explain": True, **READS},
    "mget": {"keys": [b"fuzz", b"fuzz2"], **READS},
    "put": {"key": b"fuzz", "value": b"v", "ctx": b"", **WRITES},
    "mput": {"keys": [b"fuzz", b"fuzz2"], "values": [b"v", b"w"], "ctxs": [None, b""], **WRITES},
    "delete": {"key": b"fuzz", "ctx": b"", **{k: v for k, v in WRITES.items() if k != "ttl_ms"}},
    "scan": {"prefix": b"fuzz", "limit": 5, "cursor": b"\x00\x00", "with_values": True, **READS},
}
"""Every operation with every field that it has."""

WRONG: tuple[object, ...] = (
    *(-1, -(1 << 63), (1 << 64) - 1, 1.5, nan, inf, -0.0),
    *("text", "", b"\xff" * 2000, b"", [], [[]], {}, {"a": 1}, True, False),
)
"""At most one of these has the type and the range that a field wants."""

_NEEDED = ("v", "key", "keys", "value", "values", "prefix")
_WELL_FILLED: dict[int, object] = {
    **{0: "2013-03-21T20:04:00Z", 1: 0, 2: b"\x05", 3: b"\x05", 4: [1, 2], 5: [1, 2], 25: 0, 28: "ping", 29: 0},
    **{30: [1, 2], 35: "a", 36: "Content-Type: text/plain\n\na", 37: b"\x00" * 16, 52: b"\x7f\x00\x00\x01"},
    **{54: b"\x00" * 16, 100: 0, 256: ["a"], 258: [1, 2], 260: b"\x7f\x00\x00\x01", 261: {b"\x7f\x00\x00\x00": 8}},
    **{1004: "2013-10-09", 43_000: [1.0, 2.0], 55_799: b"bytes", 1 << 32: b"", (1 << 64) - 1: b""},
}
"""The tags that a decoder may know by itself, each around what belongs into it."""


def body(kind: str, **changed: object) -> bytes:
    """Return a request with the fewest options; ``changed`` adds or replaces fields."""
    plain = {name: value for name, value in FIELDS[kind].items() if name in _NEEDED}
    return dumps({"id": REQUEST_ID, "op": kind, **plain, **changed})


def valid_bodies() -> list[bytes]:
    """Return one plain request for each operation, and some with options."""
    return [body(op) for op in FIELDS] + [body("put", w=1, receipt=True), body("scan", limit=3, with_values=True)]


def cut_short() -> Iterator[bytes]:
    """Yield every proper beginning of the valid bodies, also with one byte too many behind the whole."""
    for whole in valid_bodies():
        for size in range(len(whole)):
            yield whole[:size]
        yield whole + b"\x00"
        yield whole + whole


def flipped(random: Random, count: int) -> Iterator[bytes]:
    """Yield valid bodies with one to four bits flipped."""
    wholes = valid_bodies()
    for _ in range(count):
        mutant = bytearray(random.choice(wholes))
        for _ in range(random.randrange(1, 5)):
            mutant[random.randrange(len(mutant))] ^= 1 << random.randrange(8)
        yield bytes(mutant)


def noise(random: Random, count: int) -> Iterator[bytes]:
    """Yield random bytes, short and long, half of them behind the head of a map."""
    for number in range(count):
        size = random.randrange(64) if number % 50 else random.randrange(1 << 14)
        yield (bytes([0xA0 | random.randrange(16)]) if number % 2 else b"") + random.randbytes(size)


def wrong_types() -> Iterator[tuple[str, str, object, bytes]]:
    """Yield (op, field, value, body) for every field of every operation with every wrong value."""
    for op, fields in FIELDS.items():
        for name in ("id", "op", *fields):
            for value in WRONG:
                yield op, name, value, body(op, **{name: value})


def tagged() -> Iterator[bytes]:
    """Yield every tag 0 … 300 and the built-in ones above, but 64, in every position of a request."""
    for tag, content in _WELL_FILLED.items():
        yield body("get", key=CBORTag(tag, content))
        yield body("mget", keys=[CBORTag(tag, content)])
        yield body("get", id=CBORTag(tag, content))
    for tag in (*range(301), *_WELL_FILLED):
        if tag != 64:
            yield dumps(CBORTag(tag, {"id": REQUEST_ID, "op": "ping"}))
            yield dumps({"id": REQUEST_ID, "op": CBORTag(tag, "ping")})
            yield dumps({"id": CBORTag(tag, REQUEST_ID), "op": "ping"})
            yield body("get", key=CBORTag(tag, b"fuzz"))
            yield body("mget", keys=[b"fuzz", CBORTag(tag, [1, 2])])
            head = b"\xa3" + dumps("id") + dumps(REQUEST_ID) + dumps("op") + dumps("ping")
            yield head + dumps(CBORTag(tag, b"x")) + b"\x00"


def unstructured() -> Iterator[bytes]:
    """Yield indefinite lengths, duplicate names, deep nesting, lengths that lie, odd names, text that is none."""
    head = b"\xa3" + dumps("id") + dumps(REQUEST_ID) + dumps("op") + dumps("get") + dumps("key")
    yield head + b"\x5f\x42ab\x42cd\xff"
    yield head + b"\x7f\x62ab\xff"
    yield head + b"\x9f\x41a\xff"
    yield b"\xbf" + head[1:] + dumps(b"a") + b"\xff"
    yield head + b"\xff"
    for again in (dumps("op") + dumps("ping"), dumps(b"op") + dumps("ping"), dumps("id") + dumps(REQUEST_ID)):
        yield b"\xa3" + dumps("id") + dumps(REQUEST_ID) + dumps("op") + dumps("ping") + again
    for opener in (
        b"\x81",
        b"\x9f",
        b"\xa1\x00",
        b"\xa1\x61k",
        b"\xbf\x61k",
        b"\xc1",
        b"\xd8\x40",
        b"\xd8\x1c",
        b"\xd9\x01\x02",
    ):
        yield opener * 100_000 + b"\x00"
        yield head + opener * 100_000 + b"\x00"
        yield head + opener * 17 + b"\x00"
    for major in range(8):
        for low in range(24, 32):
            for tail in (b"", b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x00\x00\x00\x02" + b"\x00" * 4, b"\x00" * 8):
                yield bytes([major << 5 | low]) + tail
                yield head + bytes([major << 5 | low]) + tail
    for odd_key in (1, -1, 1.5, True, None, (1, 2)):
        yield dumps({"id": REQUEST_ID, "op": "ping", odd_key: 1})
    yield head + b"\x63\xff\xfe\xfd"
    yield b"\xa2" + dumps("id") + dumps(REQUEST_ID) + b"\x62\xff\xfe" + dumps("ping")
    yield b"\xa2" + dumps("id") + dumps(REQUEST_ID) + b"\x42\xff\xfe" + dumps("ping")
    yield from map(dumps, (None, [], {}, [1, 2], "text", b"bytes", 0, -1, nan, True))
