"""Bugs planted by somebody who has not written the code: a tired engineer's, and known ones of other stores."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from kvbus.client import machine
from kvbus.client.failures import Unreachable
from kvbus.client.machine import ClientMachine
from kvbus.core import quorum
from kvbus.core.durably import Durably
from kvbus.core.locator import Located, Locator
from kvbus.core.quorum import Requirement
from kvbus.core.request import Call
from kvbus.core.tick import Effects, Tick
from kvbus.core.types import BatchId, Lsn
from kvbus.ports.disk import ReadFile
from kvbus.wire import client_replies
from kvbus.wire.cbor import decode_map, dumps
from kvbus_modes.ap import record as records
from kvbus_modes.ap import siblings
from kvbus_modes.ap.causality import Context
from kvbus_modes.ap.forwarding import Forwarding
from kvbus_modes.ap.mode import ApMode
from kvbus_modes.ap.reads import ReadBatch, Reads
from kvbus_modes.ap.record import ONE, ONE_SIBLING, SIBLING, TOMBSTONE, assemble, spans
from kvbus_modes.ap.scans import Scans
from kvbus_modes.ap.siblings import Hold
from kvbus_storage.log import format as log_format
from kvbus_storage.log import reader as log_reader
from kvbus_storage.memtable import Memtable
from tests.mutants.planting import Mutant, replace_function, replace_method

_CONTEXT_ENTRIES = 4


def demand_as_target() -> None:
    """A quorum that a request demands is met halfway, as the keyspace's own would be."""
    original = quorum.requirement

    def requirement(**given: Any) -> Requirement:
        return original(**given)._replace(demanded=False)

    replace_function(original, requirement)


def columns_cut_askew() -> None:
    """Operations that one tick brought for several replica sets get each other's keys."""
    original = Locator.locate

    def locate(self: Locator, columns: Any) -> list[Located]:
        parts = original(self, columns)
        keys = [key for part in parts for key in part.engine_keys]
        return [part._replace(engine_keys=keys[: len(part.engine_keys)]) for part in parts]

    replace_method(Locator, "locate", locate)


def one_batch_early() -> None:
    """What waits for the log's next batch is told that it is durable, too."""
    original = Durably.take

    def take(self: Durably, tick: Tick, out: Effects) -> None:
        tick.persisted = None if tick.persisted is None else Lsn(tick.persisted + 1)
        original(self, tick, out)

    replace_method(Durably, "take", take)


def answered_before_sync() -> None:
    """A step ends with all answers that should have waited for its commit."""
    original = ApMode.step

    def step(self: ApMode, tick: Tick, out: Effects) -> None:
        original(self, tick, out)
        take: Any = self._replica.take
        waiting = take.__self__._waiting
        while waiting:
            waiting.popleft()[1](True, tick.now, out)

    replace_method(ApMode, "step", step)


def degraded_unsaid() -> None:
    """No reply says that it missed its targets."""
    original = client_replies.encode_reply

    def encode_reply(call: Call, reply_bytes: int) -> bytes:
        call.degraded = False
        return original(call, reply_bytes)

    replace_function(original, encode_reply)


def packed_reply_out_of_order() -> None:
    """A batch's answers come in the order in which their parts were done: the last key's first."""
    original = client_replies._fill_batch

    def fill_batch(reply: dict[str, object], call: Call, reply_bytes: int) -> None:
        call.tokens.reverse()
        call.values.reverse()
        original(reply, call, reply_bytes)

    replace_function(original, fill_batch)


def timeout_said_definite() -> None:
    """A timeout promises that nothing was applied (an etcd client of old: a retry after it ran twice)."""
    original = client_replies.error_map
    replace_function(original, lambda error: {**original(error), "definite": True})


def batch_number_reused() -> None:
    """A batch takes the lowest number that is free, and a late answer counts for whoever has it now."""

    def new_batch(self: ApMode) -> BatchId:
        taken = {**self._writes.open, **self._reads.open, **self._scans.open, **self._forwarding.open}
        return next(BatchId(number) for number in count(1) if BatchId(number) not in taken)

    replace_method(ApMode, "_new_batch", new_batch)


def hold_outlives_failed_append() -> None:
    """A node whose append failed goes on with its epochs, also after the clean stop and start that mend it."""
    replace_method(Hold, "end", lambda self: None)


def epoch_continued_after_crash() -> None:
    """A node continues whatever epoch of its own it finds in a record (riak_kv issue 679)."""
    original = Hold.__init__

    def begin(self: Hold, *block: int) -> None:
        original(self, *block)
        self.floor = 0

    replace_method(Hold, "__init__", begin)


def tombstone_is_absent() -> None:
    """A merge takes a deletion for nothing (Cassandra, with a grace of zero seconds)."""
    original = siblings.merge

    def is_deletion(record: bytes) -> bool:
        return record.startswith(ONE_SIBLING) and ONE.unpack_from(record)[6] == TOMBSTONE

    def merge(a: bytes, b: bytes) -> bytes:
        if is_deletion(a) != is_deletion(b):
            return b if is_deletion(a) else a
        return original(a, b)

    replace_function(original, merge)


def newer_timestamp_wins() -> None:
    """A merge keeps the newest of concurrent versions (Cassandra's rule in a store that promises siblings)."""
    original = records.assemble

    def newest(parts: list[bytes]) -> bytes:
        return original([max(parts, key=lambda part: SIBLING.unpack_from(part)[3])])

    replace_function(original, newest)


def cap_drops_siblings() -> None:
    """A put over the cap of siblings drops the first ones and is acknowledged."""
    original = siblings._coordinate_any

    def coordinate_any(current: Any, context: Any, value: Any, expiry: Any, stamp: int, hold: Hold, cap: int) -> Any:
        record, token = original(current, context, value, expiry, stamp, hold, 1 << 16)
        kept = [record[span.begin : span.end] for span in spans(record)][-cap:]
        return assemble(kept), token

    replace_function(original, coordinate_any)


def delete_takes_all() -> None:
    """A delete removes all that its coordinator holds, not what its client had seen."""
    original = siblings.coordinate

    def coordinate(current: bytes | None, context: bytes | None, value: bytes | None, *rest: Any) -> Any:
        if value is None and current is not None:
            context = siblings._joined(current).join(Context.from_bytes(context or b"")).to_bytes()
        return original(current, context, value, *rest)

    replace_function(original, coordinate)


def context_cut() -> None:
    """Contexts that grow too long lose their oldest entries wherever they are written down (Riak, pruning early)."""
    original = Context.to_bytes

    def to_bytes(self: Context) -> bytes:
        newest = sorted(self.events.items(), key=lambda entry: entry[0][1])[-_CONTEXT_ENTRIES:]
        return original(Context(dict(newest)))

    replace_method(Context, "to_bytes", to_bytes)


def forward_answered_early() -> None:
    """A write is answered when it has been forwarded."""
    original = Forwarding.start

    def start(self: Forwarding, batch_id: BatchId, replicas: Any, columns: Any, now: float, out: Effects) -> None:
        original(self, batch_id, replicas, columns, now, out)
        if self.open.pop(batch_id, None) is not None:
            reply: dict[str, object] = {"ctxs": [None] * len(columns.keys), "errors": []}
            self._answers.relay(columns, reply, 0.0, out)

    replace_method(Forwarding, "start", start)


def deadline_never_fires() -> None:
    """What was forwarded and never answered is kept for ever."""
    replace_method(Forwarding, "sweep", lambda self, now, out: None)


def hedge_counts_twice() -> None:
    """A replica that is slow counts as soon as another one is asked in its place."""
    original = Reads._ask_next

    def ask_next(self: Reads, batch: ReadBatch, now: float, wall_ms: int, out: Effects) -> None:
        if batch.answers and now > batch.started:
            slow = batch.awaited & ~(1 << self._me)
            batch.awaited &= ~slow
            batch.answered |= slow
        original(self, batch, now, wall_ms, out)

    replace_method(Reads, "_ask_next", ask_next)


def page_begins_too_late() -> None:
    """A scan takes a key and a byte of ones for the next key's place, and misses the longer keys in between."""
    original = Scans._answer

    def answer(self: Scans, batch: Any, resume_at: bytes | None, now: float, out: Effects) -> None:
        original(self, batch, None if resume_at is None else resume_at[:-1] + b"\xff", now, out)

    replace_method(Scans, "_answer", answer)


def torn_tail_accepted() -> None:
    """Nobody checks the log's checksums."""
    replace_function(log_format._record_crc, lambda segment, offset, head, payload: 0)


def last_record_not_replayed() -> None:
    """Replay stops one record short of the newest segment's end."""
    original = log_reader.read_records

    def read_records(file: ReadFile, segment: int, end: int) -> Iterator[log_format.LogRecord]:
        records = list(original(file, segment, end))
        yield from records[:-1] if end == file.size else records

    replace_function(original, read_records)


def failed_append_kept() -> None:
    """What the full disk refused stays in memory and is read."""
    replace_method(Memtable, "take_back", lambda self, undo: None)


def unknown_write_resent() -> None:
    """A client sends a write again when its connection was lost before the answer."""

    def lost(self: ClientMachine, address: str, now: float) -> None:
        for request_id in [number for number, request in self._open.items() if request.address == address]:
            self._waiting += self._close(request_id).frame.operations

    replace_method(ClientMachine, "_lost", lost)


def lost_connection_said_definite() -> None:
    """A client takes a lost connection for a write that nobody got."""
    replace_function(machine._unknown, lambda what, cause: Unreachable(what))


def reply_by_order() -> None:
    """A client takes each reply for that to its oldest request."""
    original = ClientMachine.received

    def received(self: ClientMachine, address: str, body: bytes, now: float) -> None:
        oldest = next((number for number, request in self._open.items() if request.address == address), 0)
        original(self, address, dumps({**decode_map(body), "id": oldest}), now)

    replace_method(ClientMachine, "received", received)


MUTANTS = [
    Mutant("demand-as-target", "a demanded quorum may be missed", demand_as_target),
    Mutant("columns-cut-askew", "operations of one tick get each other's keys", columns_cut_askew),
    Mutant("one-batch-early", "a batch that the log refused counts as durable", one_batch_early),
    Mutant("answered-before-sync", "answers leave before the commit", answered_before_sync),
    Mutant("degraded-unsaid", "replies hide that they are degraded", degraded_unsaid),
    Mutant("packed-reply-out-of-order", "a batch's answers are in another order", packed_reply_out_of_order),
    Mutant("timeout-said-definite", "a timeout says that nothing was applied", timeout_said_definite),
    Mutant("batch-number-reused", "late answers count for another batch", batch_number_reused),
    Mutant("hold-outlives-failed-append", "a failed append does not end the version hold", hold_outlives_failed_append),
    Mutant("epoch-continued-after-crash", "epochs of an earlier life are continued", epoch_continued_after_crash),
    Mutant("tombstone-is-absent", "a merge takes a deletion for nothing", tombstone_is_absent),
    Mutant("newer-timestamp-wins", "of concurrent versions the newest is kept", newer_timestamp_wins),
    Mutant("cap-drops-siblings", "a put over the cap drops siblings", cap_drops_siblings),
    Mutant("delete-takes-all", "a delete removes what its client never saw", delete_takes_all),
    Mutant("context-cut", "long contexts lose their oldest entries", context_cut),
    Mutant("forward-answered-early", "a forwarded write is answered at once", forward_answered_early),
    Mutant("deadline-never-fires", "what was forwarded is never given up", deadline_never_fires),
    Mutant("hedge-counts-twice", "a slow replica and its substitute both count", hedge_counts_twice),
    Mutant("page-begins-too-late", "a scan's next page leaves keys out", page_begins_too_late),
    Mutant("torn-tail-accepted", "the log's checksums are not checked", torn_tail_accepted),
    Mutant("last-record-not-replayed", "replay stops a record short", last_record_not_replayed),
    Mutant("failed-append-kept", "memory keeps what the log refused", failed_append_kept),
    Mutant("unknown-write-resent", "a client repeats a write that may have arrived", unknown_write_resent),
    Mutant("lost-connection-said-definite", "a client says failed for unknown", lost_connection_said_definite),
    # Its client is handed what it cannot take, before a history could show it.
    Mutant("reply-by-order", "a client matches replies by their order", reply_by_order, by=("machine",)),
]
