"""The demo's data: the Unicode character database that Python carries, one JSON record a named character."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator

_LAST_CODE_POINT = 0x10FFFF
# These two blocks are named by rule, not by hand: a hundred thousand records that differ in a number.
_BY_RULE = ("CJK UNIFIED IDEOGRAPH-", "HANGUL SYLLABLE ")


def records() -> Iterator[tuple[bytes, bytes]]:
    """Yield ``(key, value)`` of every character with a name of its own: ``U+0041`` and a small JSON record."""
    for point in range(_LAST_CODE_POINT + 1):
        character = chr(point)
        name = unicodedata.name(character, "")
        if name and not name.startswith(_BY_RULE):
            yield f"U+{point:04X}".encode(), json.dumps(_fields(character, name), separators=(",", ":")).encode()


def _fields(character: str, name: str) -> dict[str, object]:
    fields: dict[str, object] = {"name": name, "category": unicodedata.category(character)}
    optional = {
        "bidirectional": unicodedata.bidirectional(character),
        "decomposition": unicodedata.decomposition(character),
        "combining": unicodedata.combining(character),
        "numeric": unicodedata.numeric(character, None),
        "upper": character.upper() if character.upper() != character else "",
    }
    fields.update((label, value) for label, value in optional.items() if value)
    return fields
