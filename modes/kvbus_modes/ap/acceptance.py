"""Records that another node sent: checked, and merged with what is here.

The version algebra takes records as well-formed, so nothing from outside reaches it unchecked. The usual records pass
on their fixed offsets alone; all others are decoded by every rule of RECORD.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvbus_modes.ap.causality import ACTOR_BYTES
from kvbus_modes.ap.overwrites import MANY, all_usual, takes_place
from kvbus_modes.ap.record import DOT_BEGIN, HEAD_BYTES, ONE, ONE_BYTES, ONE_SIBLING, TOMBSTONE, decode_record
from kvbus_modes.ap.siblings import joined_vector, merge
from kvbus_modes.ap.vectors import counter_at, entry_at

_MAX_SIBLINGS = 4096
"""Four times the highest cap: what honest replicas come to together, and far from what takes long to read."""


def check(record: bytes) -> None:
    """See that ``record`` is canonical, and not longer than honest nodes make them.

    Raises:
        ValueError: it is not.
    """
    if takes_place(record, None):
        return
    if int.from_bytes(record[1:HEAD_BYTES], "little") > _MAX_SIBLINGS:
        raise ValueError(f"a record from another node may have {_MAX_SIBLINGS} siblings")
    decode_record(record)


def check_all(records: Sequence[bytes]) -> None:
    """See that all of ``records`` are canonical.

    Raises:
        ValueError: one is not.
    """
    if len(records) < MANY or not all_usual(records):
        for record in records:
            check(record)


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
    if takes_place(record, present) or _follows_all(record, present):
        return record
    check(record)
    return merge(record, present)


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
