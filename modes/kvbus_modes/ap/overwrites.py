"""The usual overwrite, a column at a time: a version that has seen all that is stored, by the actor that wrote last.

Nearly every put of a client that reads before it writes is one, and so is every record that its coordinator sends on.
Neither needs decoding: the request's context is the stored one with the stored dot's entry moved on, and that is seen
from the bytes. Whatever is not so simple is left to :mod:`siblings` and :mod:`acceptance`, which know every case; the
unit tests hold both ways against each other. Source: RECORD.md, "Record" and "Context".
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import gt, itemgetter
from struct import Struct, pack

from kvbus_modes.ap.causality import ACTOR_BYTES, ENTRY, ENTRY_BYTES, VECTOR_OF_ONE
from kvbus_modes.ap.record import (
    DOT_BEGIN,
    DOT_END,
    EXPIRING,
    EXPIRY,
    EXPIRY_BYTES,
    ONE_BYTES,
    ONE_SIBLING,
    TOMBSTONE,
    VALUE,
)
from kvbus_modes.ap.siblings import MAX_COUNTER, Hold

_HEAD_BYTES = len(VECTOR_OF_ONE)
_AFTER_EXPIRY = ONE_BYTES + EXPIRY_BYTES
_ONE_ENTRY_BYTES = _HEAD_BYTES + ENTRY_BYTES
_MAX_ACTORS = 8
_VECTOR_HEADS = {
    _HEAD_BYTES + count * ENTRY_BYTES: VECTOR_OF_ONE[:1] + count.to_bytes(4, "little")
    for count in range(1, _MAX_ACTORS + 1)
}
"""By a context's length: the head that makes it a plain vector."""

_peek = Struct("<3sIQQ8xBI13xQ").unpack_from
"""Of a record of one sibling: head, server, epoch, counter, flags, context length; and of what is at the context's
place, as one vector entry: its epoch."""
_peek_bytes = Struct("<3s12sQ8xBII5s12sQ").unpack_from
"""The same with the actor as bytes, the value's length, and of the entry: its head, its actor as bytes, its counter."""
_PEEK_BYTES = ONE_BYTES + _ONE_ENTRY_BYTES
_head = Struct("<3s12sQ8xBII").unpack_from
_pack = Struct("<3sIQQQBII").pack
_actor = Struct("<IQ").unpack


MANY = 16
"""From so many records on it is cheaper to compare them by columns than one by one."""

_FIXED = [
    (begin + at, bytes((byte,)))
    for begin, what in (
        (0, ONE_SIBLING),
        (DOT_END + 8, bytes((VALUE,)) + _ONE_ENTRY_BYTES.to_bytes(4, "little")),
        (ONE_BYTES, VECTOR_OF_ONE),
    )
    for at, byte in enumerate(what)
]
"""Of a record of one live value with a context of one entry: the bytes that all have, by offset."""
_VALUE_BYTES_AT = ONE_BYTES - 4
_front = itemgetter(slice(0, _PEEK_BYTES))
_counters = Struct("<15xQ34xQ").iter_unpack
"""Of joined fronts: the counter of each dot and that of its context."""


def all_usual(records: Sequence[bytes]) -> bool:
    """Say whether all of ``records`` are canonical, as live versions that have seen one actor, with a lower counter.

    False says nothing. All bytes at one offset are compared at once, as a stride over the joined fronts of the records:
    0.2 µs a record where there are hundreds.
    """
    count = len(records)
    fronts = b"".join(map(_front, records))
    if not count or len(fronts) != count * _PEEK_BYTES:
        return False
    for at, byte in _FIXED:
        if fronts[at::_PEEK_BYTES] != byte * count:
            return False
    value_bytes = pack(f"<{count}I", *[len(record) - _PEEK_BYTES for record in records])
    for at in range(4):
        if fronts[_VALUE_BYTES_AT + at :: _PEEK_BYTES] != value_bytes[at::4]:
            return False
    counters, seen = zip(*_counters(fronts), strict=True)
    return min(seen) > 0 and all(map(gt, counters, seen))


def overwrite(
    currents: Sequence[bytes | None],
    contexts: Sequence[bytes | None],
    values: Sequence[bytes | None],
    expiry_ms: int | None,
    timestamp: int,
    hold: Hold,
) -> tuple[list[bytes], list[bytes | None], list[int]]:
    """Make the versions that are usual overwrites in this ``hold``: their records, and the contexts to answer with.

    Arguments as for :func:`~kvbus_modes.ap.siblings.coordinate`, as columns; no key may come twice. The third result
    lists the indices of all others, whose records are empty.
    """
    server, floor, next_epoch = hold.server, hold.floor, hold.next_epoch
    own = server.to_bytes(4, "little")
    expiry = b"" if expiry_ms is None else EXPIRY.pack(expiry_ms)
    live = VALUE if expiry_ms is None else EXPIRING
    records: list[bytes] = []
    tokens: list[bytes | None] = []
    others: list[int] = []
    for current, context, value in zip(currents, contexts, values, strict=True):
        if current is not None and context and len(current) >= _PEEK_BYTES and not (value is None and expiry):
            head, last_server, epoch, counter, flags, stored, seen_epoch = _peek(current)
            if head == ONE_SIBLING and last_server == server and floor <= epoch < next_epoch and counter < MAX_COUNTER:
                if (
                    seen_epoch == epoch
                    and stored == _ONE_ENTRY_BYTES
                    and flags != EXPIRING
                    and context == VECTOR_OF_ONE + current[DOT_BEGIN:DOT_END]
                ):
                    before, after = VECTOR_OF_ONE, b""
                else:
                    at = _moved_on_at(current, flags, stored, context)
                    before, after = context[:at], context[at + ENTRY_BYTES :]
                    if at < 0 or after.startswith(own):
                        before = b""
                if before:
                    size = len(context)
                    if value is None:
                        fixed = _pack(ONE_SIBLING, server, epoch, counter + 1, timestamp, TOMBSTONE, size, 0)
                        records.append(fixed + context)
                    else:
                        fixed = _pack(ONE_SIBLING, server, epoch, counter + 1, timestamp, live, size, len(value))
                        records.append(fixed + expiry + context + value if expiry else fixed + context + value)
                    tokens.append(before + fixed[DOT_BEGIN:DOT_END] + after)
                    continue
        others.append(len(records))
        records.append(b"")
        tokens.append(None)
    return records, tokens, others


def takes_place(record: bytes, present: bytes | None) -> bool:
    """Say whether ``record``, from another node, is canonical and may stand where ``present``, this node's own, is.

    True for a usual overwrite and, where nothing is present, for a record of one sibling that has seen nothing or the
    versions of a few actors. False says nothing: the record may be any other one, and may be damaged.
    """
    if present is None or len(record) < _PEEK_BYTES or len(present) < _PEEK_BYTES:
        return _takes_place(record, present)
    head, actor, counter, flags, context_bytes, value_bytes, context_head, seen_actor, seen = _peek_bytes(record)
    if (
        head == ONE_SIBLING
        and flags == VALUE
        and context_bytes == _ONE_ENTRY_BYTES
        and len(record) == _PEEK_BYTES + value_bytes
        and context_head == VECTOR_OF_ONE
        and actor == seen_actor
    ):
        head, last_actor, last_counter, flags, stored, _, context_head, _, _ = _peek_bytes(present)
        if (
            actor == last_actor
            and seen == last_counter < counter
            and head == ONE_SIBLING
            and flags == VALUE
            and stored == _ONE_ENTRY_BYTES
            and context_head == VECTOR_OF_ONE
        ):
            return True
    return _takes_place(record, present)


def _takes_place(record: bytes, present: bytes | None) -> bool:
    size = len(record)
    if size < ONE_BYTES:
        return False
    head, actor, counter, flags, context_bytes, value_bytes = _head(record)
    begin = _AFTER_EXPIRY if flags == EXPIRING else ONE_BYTES
    value_begin = begin + context_bytes
    if (
        head != ONE_SIBLING
        or flags > EXPIRING
        or size != value_begin + value_bytes
        or (flags == TOMBSTONE and value_bytes)
    ):
        return False
    context = record[begin:value_begin]
    if present is None:
        return counter > 0 and (not context_bytes or _is_vector_without(context, actor, counter))
    # Its dot cannot lie in the present context: a vector's entry of the same actor ends below the present dot.
    head, last_actor, last_counter, flags, stored, _ = _head(present)
    if head != ONE_SIBLING or actor != last_actor or counter <= last_counter:
        return False
    return _moved_on_at(present, flags, stored, context) >= 0


def _moved_on_at(current: bytes, flags: int, stored: int, context: bytes) -> int:
    """Return where in ``context`` the dot of ``current``'s sibling is, if all else is its stored context; else -1.

    ``flags`` and ``stored`` are the sibling's flags and the length of its context.
    """
    size = len(context)
    head = _VECTOR_HEADS.get(size)
    at = context.find(current[DOT_BEGIN:DOT_END], _HEAD_BYTES)
    if head is None or at < 0 or (at - _HEAD_BYTES) % ENTRY_BYTES or not context.startswith(head):
        return -1
    if stored != size:
        return at if not stored and size == _ONE_ENTRY_BYTES else -1
    begin, end = _AFTER_EXPIRY if flags == EXPIRING else ONE_BYTES, at + ENTRY_BYTES
    same = current.startswith(context[: at + ACTOR_BYTES], begin) and current.startswith(context[end:], begin + end)
    return at if same else -1


def _is_vector_without(context: bytes, actor: bytes, counter: int) -> bool:
    """Say whether ``context`` is a short canonical vector that does not hold the dot ``(actor, counter)``."""
    head = _VECTOR_HEADS.get(len(context))
    if head is None or not context.startswith(head):
        return False
    last = (-1, -1)
    for server, epoch, upto in ENTRY.iter_unpack(context[_HEAD_BYTES:]):
        if (server, epoch) <= last or not upto:
            return False
        last = (server, epoch)
        if upto >= counter and last == _actor(actor):
            return False
    return True
