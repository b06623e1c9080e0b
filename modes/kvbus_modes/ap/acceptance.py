"""Records that another node sent: checked, and merged with what is here.

The version algebra takes records as well-formed, so nothing from outside reaches it unchecked. The usual records pass
on their fixed offsets alone; all others are decoded by every rule of RECORD.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from kvbus_modes.ap.causality import ACTOR_BYTES, ENTRY, ENTRY_BYTES, VECTOR_OF_ONE
from kvbus_modes.ap.record import DOT_BEGIN, ONE, ONE_BYTES, ONE_SIBLING, TOMBSTONE, decode_record
from kvbus_modes.ap.siblings import joined_vector, merge
from kvbus_modes.ap.vectors import counter_at, entry_at

_LINK = Struct("<3s12sQ8xBII5s12sQ")
"""One sibling whose context is one entry: head, actor, counter, flags, lengths, the context's head, its entry."""
_LINK_BYTES = _LINK.size
_ENTRY_BEGIN = ONE_BYTES + len(VECTOR_OF_ONE)
_ONE_ENTRY_BYTES = len(VECTOR_OF_ONE) + ENTRY_BYTES
_FLAGS_AT = DOT_BEGIN + ENTRY_BYTES + 8
_EMPTY_CONTEXT = (0).to_bytes(4, "little")
_ONE_ENTRY_CONTEXT = _ONE_ENTRY_BYTES.to_bytes(4, "little")


def check(record: bytes) -> None:
    """See that ``record`` is canonical.

    Raises:
        ValueError: it is not.
    """
    if not _is_plain(record):
        decode_record(record)


def all_sound(records: Iterable[bytes | None]) -> bool:
    """Say whether every record that is there is canonical."""
    try:
        for record in records:
            if record is not None:
                check(record)
    except ValueError:
        return False
    return True


def accept(record: bytes, present: bytes | None) -> bytes:
    """Return ``record`` merged with ``present``, this node's own; the very ``record`` where it is new or supersedes.

    Raises:
        ValueError: ``record`` is not canonical.
    """
    if present is None:
        check(record)
        return record
    if _follows(record, present) or _follows_all(record, present):
        return record
    check(record)
    return merge(record, present)


def _follows(record: bytes, present: bytes) -> bool:
    """Say whether this is the usual overwrite: sound, by the same actor, of exactly the one sibling that is here."""
    if len(record) < _LINK_BYTES:
        return False
    head, actor, counter, flags, context_bytes, value_bytes, context_head, seen_actor, seen = _LINK.unpack_from(record)
    if (
        head != ONE_SIBLING
        or context_bytes != _ONE_ENTRY_BYTES
        or context_head != VECTOR_OF_ONE
        or actor != seen_actor
        or not 0 < seen < counter
        or flags > TOMBSTONE
        or (flags and value_bytes)
        or len(record) != _LINK_BYTES + value_bytes
        or not present.startswith(ONE_SIBLING)
        or not present.startswith(record[_ENTRY_BEGIN:_LINK_BYTES], DOT_BEGIN)
        or present[_FLAGS_AT] > TOMBSTONE
    ):
        return False
    # The present sibling's own context ends below its dot, if it is of this actor at all, so below the new dot too.
    length = present[_FLAGS_AT + 1 : _FLAGS_AT + 5]
    return length == _EMPTY_CONTEXT or (length == _ONE_ENTRY_CONTEXT and present.startswith(VECTOR_OF_ONE, ONE_BYTES))


def _follows_all(record: bytes, present: bytes) -> bool:
    """Say the same of an overwrite whose context has several actors: it is the present record's join."""
    if len(record) < ONE_BYTES or not record.startswith(ONE_SIBLING):
        return False
    _, _, _, _, counter, _, flags, context_bytes, value_bytes = ONE.unpack_from(record)
    if flags > TOMBSTONE or (flags and value_bytes) or len(record) != ONE_BYTES + context_bytes + value_bytes:
        return False
    context = record[ONE_BYTES : ONE_BYTES + context_bytes]
    if not context or context != joined_vector(present):
        return False
    # What is here lies inside that context, so it cannot contain the new dot unless the context does.
    seen: bool = counter <= counter_at(context, entry_at(context, record[DOT_BEGIN : DOT_BEGIN + ACTOR_BYTES]))
    return not seen


def _is_plain(record: bytes) -> bool:
    """Say whether this is the usual, sound record: one sibling, whose context is empty or one vector entry."""
    size = len(record)
    if size < ONE_BYTES or not record.startswith(ONE_SIBLING):
        return False
    _, _, server, epoch, counter, _, flags, context_bytes, value_bytes = ONE.unpack_from(record)
    if not counter or flags > TOMBSTONE or (flags and value_bytes) or size != ONE_BYTES + context_bytes + value_bytes:
        return False
    if not context_bytes:
        return True
    if context_bytes != _ONE_ENTRY_BYTES or not record.startswith(VECTOR_OF_ONE, ONE_BYTES):
        return False
    seen_server, seen_epoch, seen = ENTRY.unpack_from(record, _ENTRY_BEGIN)
    other_actor: bool = seen_server != server or seen_epoch != epoch
    return seen > 0 and (other_actor or seen < counter)
