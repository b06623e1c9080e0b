"""From batches to answered calls: tokens, errors, degraded marks, receipts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from kvbus.core.keyspace import Keyspace
from kvbus.core.links import Links
from kvbus.core.metrics import Metrics
from kvbus.core.request import Call, ClientOrigin, Receipt, RequestColumns
from kvbus.core.tick import Effects
from kvbus.core.topology import Topology
from kvbus.core.types import NodeIndex
from kvbus.errors import ClientError, error_from_map
from kvbus.wire.client_replies import encode_reply
from kvbus.wire.peer_frames import pack_head
from kvbus_modes.ap.batch import Batch
from kvbus_modes.ap.frames import FORWARD_ANSWER

MODE = "ap"
TOKEN = "ctx"


class Answers:
    """Settles operations; a call whose last operation is settled leaves as a reply.

    ``pending`` counts the operations taken and not yet settled.
    """

    def __init__(self, links: Links, topology: Topology, reply_bytes: int, metrics: Metrics) -> None:
        self._links = links
        self._me = links.me
        self._topology = topology
        self._reply_bytes = reply_bytes
        self._metrics = metrics
        self.pending = 0

    def finish(self, call: Call, out: Effects) -> None:
        """Send a call's reply to the client, or to the peer that forwarded it."""
        origin = call.origin
        if isinstance(origin, ClientOrigin):
            out.reply(call)
            return
        head = pack_head(FORWARD_ANSWER, space=0, batch=origin.batch, epoch=self._topology.epoch)
        out.send_peer(NodeIndex(origin.peer), head + encode_reply(call, self._reply_bytes))

    def settle(
        self,
        batch: Batch,
        tokens: Sequence[bytes | None],
        values: Sequence[list[bytes]] | None,
        keyspace: Keyspace,
        now: float,
        out: Effects,
    ) -> None:
        """Answer every open operation of ``batch`` with its token and, for reads, its values."""
        columns = batch.columns
        self._observe(columns.kind, "ok", now - batch.started, len(columns.calls))
        self.mark(batch, keyspace, now)
        call = columns.calls[0] if columns.calls else None
        if call is not None and call is columns.calls[-1] and len(call.tokens) == len(columns.calls):
            # The batch is one whole call, which came in one frame: its columns are the answer as they are.
            call.tokens = list(tokens)
            if values is not None:
                call.values = list(values)
            call.remaining = 0
            self.finish(call, out)
            return
        if values is None:
            for call, slot, token in zip(columns.calls, columns.slots, tokens, strict=True):
                call.tokens[slot] = token
                call.remaining -= 1
                if not call.remaining:
                    self.finish(call, out)
            return
        for call, slot, token, found in zip(columns.calls, columns.slots, tokens, values, strict=True):
            call.tokens[slot] = token
            call.values[slot] = found
            call.remaining -= 1
            if not call.remaining:
                self.finish(call, out)

    def fail(self, columns: RequestColumns, error: ClientError, waited: float, out: Effects) -> None:
        """Answer every operation of ``columns`` with the same error."""
        self._observe(columns.kind, error.code, waited, len(columns.calls))
        if error.code in ("no_quorum", "timeout"):
            self._metrics.quorum_failed(error.code, len(columns.calls))
        for call, slot in zip(columns.calls, columns.slots, strict=True):
            self._fail_slot(call, slot, error, out)

    def fail_one(self, columns: RequestColumns, index: int, error: ClientError, out: Effects) -> None:
        """Answer one operation of ``columns`` with an error."""
        self._observe(columns.kind, error.code, 0.0, 1)
        self._fail_slot(columns.calls[index], columns.slots[index], error, out)

    def relay(self, columns: RequestColumns, reply: Mapping[str, object], waited: float, out: Effects) -> None:
        """Answer forwarded operations with what their coordinator replied: tokens, errors, degraded, receipt."""
        tokens = cast("list[bytes | None]", reply[TOKEN + "s"])
        named = cast("list[tuple[int, dict[str, object]]]", reply["errors"])
        errors = {index: error_from_map(error) for index, error in named}
        for index, error in errors.items():
            columns.calls[index].errors.append((columns.slots[index], error))
            self._observe(columns.kind, error.code, waited, 1)
        if len(errors) < len(columns.calls):
            self._observe(columns.kind, "ok", waited, len(columns.calls) - len(errors))
        receipt = cast("dict[str, Any]", reply.get("receipt"))
        for call, slot, token in zip(columns.calls, columns.slots, tokens, strict=True):
            if reply.get("degraded"):
                call.note_degraded(cast("int", reply["acks"]))
            if receipt:
                call.note_receipt(Receipt(**receipt))
            if call.settle(slot, token):
                self.finish(call, out)

    def guarantee(self, batch: Batch, keyspace: Keyspace) -> str:
        """Say what the reply is worth: ``quorum`` only where primaries were demanded and must overlap.

        A put with ``pw`` meets every later read with ``pr`` = the keyspace's R when pw + R > N; likewise a get.
        """
        options, n = batch.columns.options, len(batch.replicas.nodes)
        if options.pw is not None and options.pw + keyspace.r > n:
            return "quorum"
        if options.pr is not None and options.pr + keyspace.w > n:
            return "quorum"
        return "eventual"

    def mark(self, batch: Batch, keyspace: Keyspace, now: float) -> None:
        """Note in each call what ``batch`` is worth: degraded, the receipt.

        A demand below the keyspace's own R or W is degraded where this side could not have met those either.
        """
        acks = batch.answered.bit_count()
        degraded = not batch.requirement.met_by(batch.answered)
        if batch.requirement.demanded:
            target = keyspace.r if batch.columns.kind in ("get", "scan") else keyspace.w
            alive = (self._links.responsive(now) & batch.replicas.mask).bit_count()
            degraded = max(acks, alive) < min(target, len(batch.replicas.nodes))
        if not degraded and not batch.columns.options.receipt:
            return
        receipt = Receipt(
            mode=MODE,
            node=self._topology.members[self._me].name,
            epoch=self._topology.epoch,
            acks=acks,
            primary=acks,
            hinted=0,
            replicas=self._topology.names(batch.answered),
            guarantee=self.guarantee(batch, keyspace),
        )
        for call in batch.columns.calls:
            if degraded:
                call.note_degraded(acks)
            if batch.columns.options.receipt:
                call.note_receipt(receipt)

    def _observe(self, kind: str, outcome: str, seconds: float, count: int) -> None:
        self.pending -= count
        self._metrics.requests(kind, MODE, outcome).observe(seconds, count)

    def _fail_slot(self, call: Call, slot: int, error: ClientError, out: Effects) -> None:
        if call.refuse(slot, error):
            self.finish(call, out)
