"""Contexts as bytes, for the usual case that they are a plain version vector without single dots.

A coordinator that overwrites what it has just been shown, and a replica that takes the result, only ever replace one
entry by its successor. These functions do that in place; they answer None wherever it is not so simple, and the
caller decodes. Source: RECORD.md, "Context".
"""

from __future__ import annotations

from struct import Struct

from kvbus_modes.ap.causality import ACTOR_BYTES, ENTRY_BYTES, VECTOR_OF_ONE

_HEAD_BYTES = len(VECTOR_OF_ONE)
_count = Struct("<xI").unpack_from
_counter = Struct("<Q").unpack_from
_epoch = Struct("<4xQ").unpack_from


def is_vector(context: bytes) -> bool:
    """Say whether a canonical, non-empty context has no single dots."""
    size: int = _HEAD_BYTES + ENTRY_BYTES * _count(context)[0]
    return len(context) == size


def entry_at(context: bytes, actor: bytes) -> int:
    """Return where the actor's entry begins in a vector's bytes, or -1."""
    at = context.find(actor, _HEAD_BYTES)
    while at >= 0 and (at - _HEAD_BYTES) % ENTRY_BYTES:
        at = context.find(actor, at + 1)
    return at


def counter_at(context: bytes, at: int) -> int:
    """Return the counter of the entry that begins at ``at``; 0 for no entry (-1)."""
    return 0 if at < 0 else int(_counter(context, at + ACTOR_BYTES)[0])


def with_next(context: bytes, dot: bytes) -> bytes | None:
    """Return the vector ``context`` with ``dot`` in place of the entry that it follows; None where it follows none."""
    if not context or not is_vector(context):
        return None
    at = entry_at(context, dot[:ACTOR_BYTES])
    if at < 0 or counter_at(context, at) + 1 != _counter(dot, ACTOR_BYTES)[0]:
        return None
    return context[:at] + dot + context[at + ENTRY_BYTES :]


def own_entry_at(context: bytes, server: bytes, floor: int, next_epoch: int) -> int:
    """Return where the newest entry of ``server`` begins, if every later epoch it names is one of this hold; else -1.

    ``server`` is the short id's four bytes. Entries ascend by server and epoch, so the last one is the newest.
    """
    found = -1
    for at in range(_HEAD_BYTES, len(context), ENTRY_BYTES):
        if context.startswith(server, at):
            found = at
    if found >= 0 and not floor <= _epoch(context, found)[0] < next_epoch:
        return -1
    return found
