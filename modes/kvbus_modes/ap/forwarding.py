"""Writes that this node holds no copy of go to one that does: one hop, as one client request a batch.

A forwarded batch has been sent to somebody, so its only failure is ``timeout``; it is never tried again elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from kvbus.core.links import Links
from kvbus.core.locator import Located
from kvbus.core.request import RequestColumns
from kvbus.core.tick import Effects
from kvbus.core.types import BatchId, Epoch, NodeIndex
from kvbus.errors import NoQuorum, PeerProtocolError, RequestTimeout, error_from_map
from kvbus.wire.cbor import CborError, decode_map, dumps
from kvbus.wire.peer_frames import pack_head
from kvbus_modes.ap.answers import TOKEN, Answers
from kvbus_modes.ap.frames import FORWARD


@dataclass(slots=True)
class ForwardedBatch:
    """Operations that ``peer`` coordinates for this node."""

    peer: NodeIndex
    columns: RequestColumns
    started: float
    deadline: float


class Forwarding:
    """All batches that wait for another node's coordination."""

    def __init__(self, *, links: Links, answers: Answers, epoch: Epoch) -> None:
        self._links = links
        self._answers = answers
        self._epoch = epoch
        self._open: dict[BatchId, ForwardedBatch] = {}
        self._turn = 0

    def start(self, batch_id: BatchId, located: Located, now: float, out: Effects) -> None:
        """Send the operations to a replica that can be reached."""
        columns = located.columns
        self._turn += 1
        candidates = self._links.candidates(located.replicas, self._turn, now)
        if not candidates:
            error = NoQuorum("no replica of the key can be reached", details={"required": 1, "alive": 0})
            self._answers.fail(columns, error, 0.0, out)
            return
        peer = candidates[-1]
        deadline = now + columns.options.deadline_ms / 1000
        self._open[batch_id] = ForwardedBatch(peer, columns, now, deadline)
        head = pack_head(FORWARD, space=0, batch=batch_id, epoch=self._epoch)
        out.send_peer(peer, head + _request_body(batch_id, columns))
        self._links.sent(peer, now)

    def answered(self, node: NodeIndex, batch_id: BatchId, body: bytes, now: float, out: Effects) -> None:
        """Relay the coordinator's reply.

        Raises:
            PeerProtocolError: the reply is not one to this batch.
        """
        batch = self._open.get(batch_id)
        if batch is None or batch.peer != node:
            return
        try:
            reply = decode_map(body)
        except CborError as error:
            raise PeerProtocolError(f"FORWARD_ANSWER: {error}") from error
        del self._open[batch_id]
        self._links.settled(node)
        columns = batch.columns
        if not reply.get("ok"):
            error_map = cast("dict[str, object]", reply.get("error", {}))
            self._answers.fail(columns, error_from_map(error_map), now - batch.started, out)
            return
        tokens = reply.get(TOKEN + "s")
        if type(tokens) is not list or len(cast("list[object]", tokens)) != len(columns.calls):
            raise PeerProtocolError(f"FORWARD_ANSWER does not answer {len(columns.calls)} operations")
        self._answers.relay(columns, reply, now - batch.started, out)

    def link_lost(self, node: NodeIndex, now: float, out: Effects) -> None:
        """Give up what ``node`` was asked to do."""
        for batch_id, batch in list(self._open.items()):
            if batch.peer == node:
                self._give_up(batch_id, batch, "the coordinator's link was lost", now, out)

    def sweep(self, now: float, out: Effects) -> None:
        """Give up what is past its deadline."""
        for batch_id, batch in list(self._open.items()):
            if now >= batch.deadline:
                self._links.forgiven(batch.peer)
                self._give_up(batch_id, batch, "the deadline passed", now, out)

    def __len__(self) -> int:
        return len(self._open)

    def _give_up(self, batch_id: BatchId, batch: ForwardedBatch, cause: str, now: float, out: Effects) -> None:
        del self._open[batch_id]
        error = RequestTimeout(f"{cause}; the write may still be applied", details={"cause": cause})
        self._answers.fail(batch.columns, error, now - batch.started, out)


def _request_body(batch_id: BatchId, columns: RequestColumns) -> bytes:
    """Encode the operations as an ``mput``; a null value is a delete."""
    fields: dict[str, object] = {
        "id": 0,
        "op": "mput",
        "ks": columns.keyspace,
        "keys": columns.keys,
        "values": columns.values,
        "ctxs": columns.contexts,
    }
    for name in ("w", "pw", "cl", "ttl_ms", "deadline_ms", "receipt"):
        value = getattr(columns.options, name)
        if value:
            fields[name] = value
    return dumps(fields)
