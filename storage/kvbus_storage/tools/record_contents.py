"""What one record of the log says, for people.

Source: FORMATS.md, "Log record".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kvbus.core.key_text import engine_key_text
from kvbus.ports.engine_tools import Cell
from kvbus_storage.format_error import FormatError
from kvbus_storage.log.format import Kind, LogRecord
from kvbus_storage.log.payload import (
    decode_applied,
    decode_batch,
    decode_entries,
    decode_keys,
    decode_range,
    decode_state,
)

_BOUND_CHARACTERS = 40
_NAMES = {kind.value: kind.name for kind in Kind}


class Contents(NamedTuple):
    """The ``keys`` that a record is about and what stands at each: a record's bytes, or a word. ``words`` is short."""

    keys: Sequence[bytes]
    standing: Sequence[Cell]
    words: str


def kind_name(kind: int) -> str:
    """Return the name of a record's kind."""
    return _NAMES.get(kind, f"kind {kind}")


def contents_of(record: LogRecord) -> Contents:
    """Decode a record's payload.

    Raises:
        FormatError: it is not what its kind says.
    """
    if record.kind == Kind.RECORD:
        keys, records = decode_batch(record.payload)
        return Contents(keys, list(map(len, records)), _first(keys))
    if record.kind == Kind.APPLIED:
        applied = decode_applied(record.payload)
        keys = applied.batch.keys
        words = f"group {applied.group} up to {applied.last}: {_first(keys)}"
        return Contents(keys, list(map(len, applied.batch.records)), words)
    if record.kind == Kind.PURGE:
        keys = decode_keys(record.payload)
        return Contents(keys, ["purged"] * len(keys), _first(keys))
    if record.kind == Kind.DROP_RANGE:
        return Contents((), (), range_text(*decode_range(record.payload)))
    if record.kind == Kind.RAFT_ENTRY:
        entries = decode_entries(record.payload)
        last, term = entries.first + len(entries.terms) - 1, entries.terms[-1] if entries.terms else 0
        return Contents((), (), f"group {entries.group}, entries {entries.first} to {last}, term {term}")
    if record.kind == Kind.RAFT_STATE:
        state = decode_state(record.payload)
        if state.is_forgotten:
            return Contents((), (), f"group {state.group} is forgotten")
        return Contents((), (), f"group {state.group}, term {state.term}, vote {state.vote}, behind {state.offset}")
    if record.kind == Kind.SEAL:
        if record.payload:
            raise FormatError(f"a SEAL is empty, this one has {len(record.payload)} bytes")
        return Contents((), (), "")
    raise FormatError(f"a record of kind {record.kind}: a newer kvbus wrote it; look at it with that version")


def range_text(start: bytes, end: bytes) -> str:
    """Return a range of keys, half open, in few characters."""
    return f"{engine_key_text(start, _BOUND_CHARACTERS)} up to {engine_key_text(end, _BOUND_CHARACTERS)}"


def _first(keys: Sequence[bytes]) -> str:
    return engine_key_text(keys[0]) if keys else ""
