"""Strict CBOR: one map in, one map out.

Refused: every tag but 64 (JavaScript's typed arrays, read as bytes), indefinite lengths, duplicate keys, nesting
deeper than 16, keys that are neither text nor bytes, bytes behind the item.
Source: RFC 8949; PROTOCOL.md, "Body".
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from itertools import chain
from threading import local
from typing import cast

from cbor2 import CBORDecodeError, CBORDecoder, CBORTag, dumps

__all__ = ["MAX_DEPTH", "CborError", "decode_map", "dumps", "with_lists_of_one"]

MAX_DEPTH = 16

# cbor2 decodes these tags itself and never shows them to tag_hook, so each needs a decoder that refuses it.
_BUILT_IN_TAGS = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)
_TYPED_ARRAY_TAG = 64
_BYTES, _ARRAY = 0x40, 0x80


class CborError(ValueError):
    """The bytes are not one strict CBOR map."""


def _refuse_value(value: object, immutable: bool) -> object:
    raise CborError("tags other than 64 are not allowed")


def _refuse_tag(tag: CBORTag, immutable: bool) -> object:
    raise CborError(f"tag {tag.tag} is not allowed")


def _typed_array(value: object, immutable: bool) -> object:
    if not isinstance(value, bytes):
        raise CborError("tag 64 must hold a byte string")
    return value


class _Decoders(local):
    """One decoder a thread, used again for every body: making one costs more than a small body's decoding."""

    def __init__(self) -> None:
        self.decoder = CBORDecoder(
            BytesIO(),
            tag_hook=_refuse_tag,
            semantic_decoders=dict.fromkeys(_BUILT_IN_TAGS, _refuse_value) | {_TYPED_ARRAY_TAG: _typed_array},
            max_depth=MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )


_decoders = _Decoders()


def decode_map(body: bytes) -> dict[str, object]:
    """Decode one CBOR map with text keys; byte-string keys become text.

    Raises:
        CborError: the bytes are anything else.
    """
    stream = BytesIO(body)
    decoder = _decoders.decoder
    decoder.fp = stream
    try:
        decoded: object = decoder.decode()
    except CBORDecodeError as error:
        raise CborError(str(error).split("\n", 1)[0]) from error
    if stream.tell() != len(body):
        raise CborError(f"{len(body) - stream.tell()} bytes behind the map")
    if type(decoded) is not dict:
        raise CborError("the body must be a map")
    fields = cast("dict[str | bytes, object]", decoded)
    for name in fields:
        if type(name) is bytes:
            return _with_text_keys(fields)
    return cast("dict[str, object]", fields)


def _with_text_keys(fields: dict[str | bytes, object]) -> dict[str, object]:
    texts: dict[str, object] = {}
    for name, value in fields.items():
        try:
            text = name.decode() if isinstance(name, bytes) else name
        except UnicodeDecodeError as error:
            raise CborError("a map key is not UTF-8") from error
        if text in texts:
            raise CborError(f"duplicate map key {text!r}")
        texts[text] = value
    return texts


def with_lists_of_one(fields: Mapping[str, object], name: str, lists: list[list[bytes]]) -> bytes:
    """Encode the map ``fields`` (at most 22) with one more field, ``lists``, most of which hold one byte string.

    The encoder takes 0.8 µs for such a list; heads that lists of one length share take 0.2 µs.
    """
    try:
        strings = [only for (only,) in lists]
    except ValueError:
        return dumps({**fields, name: lists})
    rest, column = dumps(fields), chain.from_iterable(zip(map(_head_in_list, map(len, strings)), strings, strict=True))
    return b"".join([bytes((rest[0] + 1,)), rest[1:], dumps(name), _head(_ARRAY, len(lists)), *column])


@lru_cache(maxsize=4096)
def _head_in_list(size: int) -> bytes:
    return _head(_ARRAY, 1) + _head(_BYTES, size)


def _head(major: int, size: int) -> bytes:
    """Return an item's head: major type (upper three bits) and size. Source: RFC 8949, section 3."""
    if size < 24:
        return bytes((major + size,))
    for low, width in ((24, 1), (25, 2), (26, 4)):
        if size < 1 << 8 * width:
            return bytes((major + low,)) + size.to_bytes(width, "big")
    return bytes((major + 27,)) + size.to_bytes(8, "big")
