"""Engine keys as people read them: ``space/partition/key``, such as ``32672d92/12/user:1``."""

from __future__ import annotations

from struct import Struct

from kvbus.core.keyspace import ENGINE_HEAD_BYTES

_HEAD = Struct(">IH")


def engine_key_text(key: bytes, most: int | None = None) -> str:
    """Return the keyspace's number in hexadecimal, the partition and the user key; what is no text is escaped.

    A key that is cut off inside its head, as a separator may be, is given in hexadecimal. With ``most`` the text has
    at most so many characters and ends in … where it was longer.
    """
    if len(key) < ENGINE_HEAD_BYTES:
        text = f"0x{key.hex()}"
    else:
        space, partition = _HEAD.unpack_from(key)
        text = f"{space:08x}/{partition}/{escaped(key[ENGINE_HEAD_BYTES:])}"
    return text if most is None or len(text) <= most else f"{text[: most - 1]}…"


def escaped(data: bytes) -> str:
    r"""Return bytes as text that says exactly which they are: ``\xNN`` for what is no UTF-8, ``\\`` for a backslash."""
    return "".join(map(_shown, data.decode("utf-8", "surrogateescape")))


def _shown(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character == "\\":
        return "\\\\"
    return character if character.isprintable() else character.encode("unicode_escape").decode()
