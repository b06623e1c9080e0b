"""The version algebra on record bytes: merge, supersede, coordinate, read.

Rules:
  - A sibling is obsolete iff some sibling's context contains its dot; ``merge`` is union by dot, minus the obsolete.
  - A dot is given once, and its context never changes afterwards. So an epoch is continued only within the hold that
    issued it: a record read in a later hold may lack dots that were given and lost.
  - A put answers with the request's context plus its own dot, never with more: its client saw no more.

Every operation runs these functions, so each has a fast path on raw bytes for records of one sibling. A fast path only
ever gives what the general path gives; the unit tests hold one against the other. Request contexts may be anything;
records are well-formed: whoever takes one from outside has passed it through ``record.spans`` or ``decode_record``.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from kvbus.errors import BadRequest, KvbusError, TooManySiblings
from kvbus_modes.ap.causality import (
    ACTOR_BYTES,
    EMPTY,
    ENTRY,
    ENTRY_BYTES,
    SINGLE_DOT,
    VECTOR_OF_ONE,
    Context,
    Dot,
    covers,
    join_all,
)
from kvbus_modes.ap.record import (
    DOT_BEGIN,
    DOT_END,
    EXPIRING,
    EXPIRY,
    EXPIRY_BYTES,
    ONE_BYTES,
    ONE_SIBLING,
    SIBLING_BYTES,
    TOMBSTONE,
    assemble,
    encode_one,
    spans,
)
from kvbus_modes.ap.vectors import counter_at, own_entry_at, with_next

MAX_COUNTER = 0xFFFF_FFFF_FFFF_FFFF

_peek = Struct("<3x12sQ8xBI").unpack_from
"""Of a record of one sibling: its dot's actor (bytes) and counter, its flags and the length of its context."""

_peek_usual = Struct("<3s12sQ8xBI4x5s12sQ").unpack_from
"""The same behind the head, and of the context, as one vector entry, its head, actor and counter."""

_AFTER_EXPIRY = ONE_BYTES + EXPIRY_BYTES
_ACTOR_END = DOT_BEGIN + ACTOR_BYTES
_ONE_ENTRY_CONTEXT_BYTES = len(VECTOR_OF_ONE) + ENTRY_BYTES
_USUAL_BYTES = ONE_BYTES + _ONE_ENTRY_CONTEXT_BYTES


class EpochsUsedUp(KvbusError):
    """The hold's durable block of epochs is used up; lease the next block and coordinate the put again."""


class Hold:
    """One uninterrupted possession of a partition by a server; it alone may continue the epochs it issued.

    ``next_epoch`` … ``last_epoch`` is a block that the node has durably leased: no epoch of it was ever issued.
    """

    __slots__ = ("floor", "last_epoch", "next_epoch", "server")

    def __init__(self, server: int, next_epoch: int, last_epoch: int) -> None:
        self.server = server
        self.next_epoch = next_epoch
        self.last_epoch = last_epoch
        # Epochs from floor up to next_epoch (exclusive) were issued in this hold.
        self.floor = next_epoch

    def mint(self) -> int:
        """Issue the next epoch.

        Raises:
            EpochsUsedUp: the block is used up; nothing was issued.
        """
        epoch = self.next_epoch
        if epoch > self.last_epoch:
            raise EpochsUsedUp(f"server {self.server} has used its epochs up to {self.last_epoch}; lease a new block")
        self.next_epoch = epoch + 1
        return epoch

    def lease(self, next_epoch: int, last_epoch: int) -> None:
        """Go on with a later durable block in the same hold; what is left of the old one is never issued."""
        assert next_epoch >= self.next_epoch, "a block of epochs was leased twice"
        self.next_epoch = next_epoch
        self.last_epoch = last_epoch

    def end(self) -> None:
        """End the hold and begin the next: every later put starts a new epoch.

        Due at an unclean start, a failed append, a quarantine or repair of the store, and at gaining or
        dropping the partition.
        """
        self.floor = self.next_epoch

    def continues(self, record: bytes) -> bool:
        """Say whether a put over ``record`` may continue an epoch of this hold.

        Raises:
            ValueError: a context inside the record is malformed.
        """
        _, token = read(record, 0)
        dots = Context.from_bytes(token).dots()
        return any(server == self.server and self.floor <= epoch for (server, epoch), _, _ in dots)


def sibling_count(record: bytes) -> int:
    """Return the number of siblings, tombstones and expired ones included."""
    return record[1] | record[2] << 8


def merge(a: bytes, b: bytes) -> bytes:
    """Return the canonical union of two records: commutative, associative, idempotent.

    Raises:
        ValueError: a context inside a record is malformed.
    """
    if a == b:
        return a
    if a.startswith(ONE_SIBLING) and b.startswith(ONE_SIBLING):
        if _one_supersedes(a, b):
            return a
        if _one_supersedes(b, a):
            return b
    return _merge_any(a, b)


def supersedes(new: bytes, old: bytes) -> bool:
    """Say whether ``merge(new, old) == new``: nothing in ``old`` is news to ``new``.

    Raises:
        ValueError: a context inside a record is malformed.
    """
    if new.startswith(ONE_SIBLING) and old.startswith(ONE_SIBLING):
        return _one_supersedes(new, old)
    return _merge_any(new, old) == new


def coordinate(
    current: bytes | None,
    context: bytes | None,
    value: bytes | None,
    expiry_ms: int | None,
    timestamp: int,
    hold: Hold,
    cap: int,
) -> tuple[bytes, bytes]:
    """Add one version to ``current`` (None: the key is absent); return the new record and the reply's context.

    ``value`` None is a delete, ``context`` the request's (None or empty: it saw nothing), ``expiry_ms`` absolute,
    ``timestamp`` from the hybrid logical clock, ``cap`` the most siblings that a put may leave (at least 1).

    Raises:
        BadRequest: the context is malformed or forged, or a delete has an expiry.
        TooManySiblings: the put would leave more than ``cap`` siblings, and more than there are.
        EpochsUsedUp: the hold needs its next block.
    """
    if value is None and expiry_ms is not None:
        raise BadRequest("a delete takes no time to live; send it without ttl_ms")
    if current is None:
        if not context:
            entry = ENTRY.pack(hold.server, hold.mint(), 1)
            return encode_one(entry, b"", timestamp, expiry_ms, value), VECTOR_OF_ONE + entry
    elif context is not None and context == joined_vector(current):
        # The request saw all there is: this server's entry moves on.
        at = own_entry_at(context, hold.server.to_bytes(4, "little"), hold.floor, hold.next_epoch)
        counter = counter_at(context, at)
        if 0 < counter < MAX_COUNTER:
            next_entry = context[at : at + ACTOR_BYTES] + (counter + 1).to_bytes(8, "little")
            record = encode_one(next_entry, context, timestamp, expiry_ms, value)
            return record, context[:at] + next_entry + context[at + ENTRY_BYTES :]
    return _coordinate_any(current, context, value, expiry_ms, timestamp, hold, cap)


def read(record: bytes, wall_ms: int) -> tuple[list[bytes], bytes]:
    """Return the values that are neither deleted nor expired at ``wall_ms``, in dot order, and the record's context.

    The context joins every sibling's context and dot, tombstones and expired ones included.
    """
    columns, contexts = read_column((record,), wall_ms)
    return columns[0], contexts[0]


def read_column(records: Sequence[bytes | None], wall_ms: int) -> tuple[list[list[bytes]], list[bytes]]:
    """Read a column: for each record its values and its context; an absent record gives [] and the empty context."""
    values: list[list[bytes]] = []
    contexts: list[bytes] = []
    peek, peek_usual = _peek, _peek_usual
    for record in records:
        if record is None:
            values.append([])
            contexts.append(b"")
            continue
        if len(record) >= _USUAL_BYTES:
            head, last, counter, flags, size, seen_head, seen_last, seen = peek_usual(record)
            if (
                seen_last == last
                and seen == counter - 1
                and not flags
                and size == _ONE_ENTRY_CONTEXT_BYTES
                and seen_head == VECTOR_OF_ONE
                and head == ONE_SIBLING
            ):
                values.append([record[_USUAL_BYTES:]])
                contexts.append(VECTOR_OF_ONE + record[DOT_BEGIN:DOT_END])
                continue
        if not record.startswith(ONE_SIBLING):
            found, context = _read_any(record, wall_ms)
            values.append(found)
            contexts.append(context)
            continue
        actor, counter, flags, size = peek(record)
        begin = ONE_BYTES
        if not flags:
            values.append([record[begin + size :]])
        elif flags == TOMBSTONE or EXPIRY.unpack_from(record, begin)[0] <= wall_ms:
            values.append([])
        else:
            values.append([record[begin + EXPIRY_BYTES + size :]])
        if flags == EXPIRING:
            begin = _AFTER_EXPIRY
        if not size:
            contexts.append((VECTOR_OF_ONE if counter == 1 else SINGLE_DOT) + record[DOT_BEGIN:DOT_END])
        elif size == _ONE_ENTRY_CONTEXT_BYTES and record.startswith(
            VECTOR_OF_ONE + actor + (counter - 1).to_bytes(8, "little"), begin
        ):
            contexts.append(VECTOR_OF_ONE + record[DOT_BEGIN:DOT_END])
        else:
            contexts.append(joined_vector(record) or _joined(record).to_bytes())
    return values, contexts


def joined_vector(record: bytes) -> bytes | None:
    """Return the join of a record of one sibling whose dot follows an entry of its own plain vector; else None."""
    if not record.startswith(ONE_SIBLING):
        return None
    _, _, flags, size = _peek(record)
    begin = _AFTER_EXPIRY if flags == EXPIRING else ONE_BYTES
    return with_next(record[begin : begin + size], record[DOT_BEGIN:DOT_END])


def _read_any(record: bytes, wall_ms: int) -> tuple[list[bytes], bytes]:
    values: list[bytes] = []
    for span in spans(record):
        if span.flags == TOMBSTONE:
            continue
        if span.flags == EXPIRING and EXPIRY.unpack_from(record, span.begin + SIBLING_BYTES)[0] <= wall_ms:
            continue
        values.append(record[span.value_begin : span.end])
    return values, _joined(record).to_bytes()


def _coordinate_any(
    current: bytes | None,
    context: bytes | None,
    value: bytes | None,
    expiry_ms: int | None,
    timestamp: int,
    hold: Hold,
    cap: int,
) -> tuple[bytes, bytes]:
    seen = _request_context(context, hold)
    dot = _next_dot(EMPTY if current is None else _joined(current), seen, hold)
    (server, epoch), counter = dot
    record = encode_one(ENTRY.pack(server, epoch, counter), context or b"", timestamp, expiry_ms, value)
    if current is not None:
        try:
            record = merge(record, current)
        except ValueError as cause:
            raise TooManySiblings(f"{cause}; read, resolve, write with the context") from cause
        count = sibling_count(record)
        if count > cap and count > sibling_count(current):
            raise TooManySiblings(
                f"the put would leave {count} siblings, over the cap of {cap}; read, resolve, write with the context",
                details={"siblings": count, "cap": cap},
            )
    return record, seen.with_dot(dot).to_bytes()


def _request_context(context: bytes | None, hold: Hold) -> Context:
    try:
        seen = Context.from_bytes(context or b"")
    except ValueError as cause:
        raise BadRequest(f"malformed context ({cause}); send ctx exactly as an earlier reply gave it") from cause
    for (server, epoch), _ in seen.latest():
        if server == hold.server and epoch >= hold.next_epoch:
            raise BadRequest(
                f"the context names epoch {epoch} of server {server}, which was never issued here; read the key again"
            )
    return seen


def _next_dot(known: Context, seen: Context, hold: Hold) -> Dot:
    """Continue the newest epoch that this hold issued for the record, else start a new one.

    A forged context, in the request or taken by another coordinator, may claim dots that were never given: none of
    those is given now, because the new version would be obsolete from the start.
    """
    epoch, counter = max(
        (
            (epoch, counter)
            for (server, epoch), counter in known.latest()
            if server == hold.server and hold.floor <= epoch < hold.next_epoch
        ),
        default=(0, 0),
    )
    if 0 < counter < MAX_COUNTER:
        dot = ((hold.server, epoch), counter + 1)
        if not seen.contains(dot):
            return dot
    while known.contains(dot := ((hold.server, hold.mint()), 1)):
        pass
    return dot


def _one_supersedes(new: bytes, old: bytes) -> bool:
    actor, counter, flags, size = _peek(new)
    old_actor, old_counter, old_flags, old_size = _peek(old)
    if counter == old_counter and actor == old_actor:
        return new >= old
    if not size:
        return False
    begin = _AFTER_EXPIRY if flags == EXPIRING else ONE_BYTES
    # The first test is the usual chain of overwrites, which need not search the context.
    if not new.startswith(VECTOR_OF_ONE + old[DOT_BEGIN:DOT_END], begin) and not covers(
        new, begin, begin + size, old_actor, old_counter
    ):
        return False
    if not old_size:
        return True
    begin = _AFTER_EXPIRY if old_flags == EXPIRING else ONE_BYTES
    if actor == old_actor and counter > old_counter and old_size == _ONE_ENTRY_CONTEXT_BYTES and old[begin + 1]:
        # A lone vector entry ends below its own sibling's dot, so below the new one too.
        return True
    return not covers(old, begin, begin + old_size, actor, counter)


def _merge_any(a: bytes, b: bytes) -> bytes:
    siblings: dict[Dot, bytes] = {}
    contexts: dict[bytes, None] = {}
    for record in (a, b):
        for span in spans(record):
            sibling = record[span.begin : span.end]
            # One dot with two contents is a broken promise somewhere; all replicas still settle on the same one.
            siblings[span.dot] = max(sibling, siblings.get(span.dot, b""))
            contexts[record[span.context_begin : span.value_begin]] = None
    seen = join_all(map(Context.from_bytes, contexts))
    return assemble([siblings[dot] for dot in sorted(siblings) if not seen.contains(dot)])


def _joined(record: bytes) -> Context:
    found = spans(record)
    contexts = {record[span.context_begin : span.value_begin]: None for span in found}
    return join_all(map(Context.from_bytes, contexts), (span.dot for span in found))
