"""Writes that this node holds no copy of, or a damaged one, go to another replica: one hop, one client request a batch.

A forwarded batch has been sent to somebody, so a failure on the way is ``timeout``; it is never tried
again elsewhere. What the coordinator refuses, definitely, is passed on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from kvbus.core.links import Links
from kvbus.core.quorum import ReplicaSet
from kvbus.core.request import Receipt, RequestColumns
from kvbus.core.tick import Effects
from kvbus.core.types import BatchId, Epoch, NodeIndex
from kvbus.errors import NoQuorum, PeerProtocolError, RequestTimeout, error_from_map
from kvbus.ports.mode import Limits
from kvbus.wire.cbor import CborError, decode_map, dumps
from kvbus.wire.peer_frames import pack_head
from kvbus_modes.ap.alarm import LOOK_SECONDS, Alarm, on_grid
from kvbus_modes.ap.answers import TOKEN, Answers
from kvbus_modes.ap.frames import FORWARD

_HEAD_BYTES = 512
_ITEM_OVERHEAD_BYTES = 5
_STEP_SHARE = 0.02
_DEADLINE_SHARE = 0.95
"""More than the coordinator's own share, so that its answer to its own deadline can still be relayed."""


@dataclass(slots=True)
class ForwardedBatch:
    """Operations that ``peer`` coordinates for this node."""

    peer: NodeIndex
    columns: RequestColumns
    started: float
    deadline: float


class Forwarding:
    """All batches that wait for another node's coordination."""

    def __init__(self, *, links: Links, answers: Answers, alarm: Alarm, epoch: Epoch) -> None:
        self._links = links
        self._alarm = alarm
        self._answers = answers
        self._epoch = epoch
        self.open: dict[BatchId, ForwardedBatch] = {}
        self._turn = 0

    def start(self, batch_id: BatchId, replicas: ReplicaSet, columns: RequestColumns, now: float, out: Effects) -> None:
        """Send the operations to a replica that can be reached."""
        self._turn += 1
        candidates = self._links.candidates(replicas, self._turn, now)
        if not candidates:
            error = NoQuorum("no replica of the key can be reached", details={"required": 1, "alive": 0})
            self._answers.fail(columns, error, 0.0, out)
            return
        peer = candidates[-1]
        seconds = columns.options.deadline_ms * (_DEADLINE_SHARE / 1000)
        deadline = on_grid(now + seconds, min(seconds * _STEP_SHARE, LOOK_SECONDS))
        self.open[batch_id] = ForwardedBatch(peer, columns, now, deadline)
        self._alarm.by(deadline)
        head = pack_head(FORWARD, space=0, batch=batch_id, epoch=self._epoch)
        out.send_peer(peer, head + _request_body(batch_id, columns))
        self._links.sent(peer, now)

    def answered(self, node: NodeIndex, batch_id: BatchId, body: bytes, now: float, out: Effects) -> None:
        """Relay the coordinator's reply.

        Raises:
            PeerProtocolError: the reply is not one to this batch.
        """
        batch = self.open.get(batch_id)
        if batch is None or batch.peer != node:
            return
        try:
            reply = decode_map(body)
        except CborError as error:
            raise PeerProtocolError(f"FORWARD_ANSWER: {error}") from error
        columns = batch.columns
        if not _answers(reply, len(columns.calls)):
            raise PeerProtocolError(f"FORWARD_ANSWER does not answer {len(columns.calls)} operations")
        del self.open[batch_id]
        self._links.settled(node)
        if not reply.get("ok"):
            error_map = cast("dict[str, object]", reply["error"])
            self._answers.fail(columns, error_from_map(error_map), now - batch.started, out)
            return
        self._answers.relay(columns, reply, now - batch.started, out)

    def links_lost(self, nodes: Sequence[NodeIndex], now: float, out: Effects) -> None:
        """Give up what ``nodes`` were asked to do."""
        for batch_id, batch in list(self.open.items()):
            if batch.peer in nodes:
                self._give_up(batch_id, batch, "the coordinator's link was lost", now, out)

    def sweep(self, now: float, out: Effects) -> None:
        """Give up what is past its deadline."""
        for batch_id, batch in list(self.open.items()):
            if now >= batch.deadline:
                self._links.forgiven(batch.peer)
                self._give_up(batch_id, batch, "the deadline passed", now, out)
            else:
                self._alarm.by(batch.deadline)

    def _give_up(self, batch_id: BatchId, batch: ForwardedBatch, cause: str, now: float, out: Effects) -> None:
        del self.open[batch_id]
        error = RequestTimeout(f"{cause}; the write may still be applied", details={"cause": cause})
        self._answers.fail(batch.columns, error, now - batch.started, out)


def portions(columns: RequestColumns, limits: Limits) -> Iterator[RequestColumns]:
    """Cut the operations of one tick into requests that keep the limits of one."""
    chosen: list[int] = []
    room = limits.request_bytes - _HEAD_BYTES
    for index, texts in enumerate(zip(columns.keys, columns.values, columns.contexts, strict=True)):
        size = sum(len(text) + _ITEM_OVERHEAD_BYTES for text in texts if text)
        if chosen and (size > room or len(chosen) == limits.batch_keys):
            yield columns.select(chosen)
            chosen, room = [], limits.request_bytes - _HEAD_BYTES
        chosen.append(index)
        room -= size
    if chosen:
        yield columns.select(chosen)


def _answers(reply: Mapping[str, object], count: int) -> bool:
    """Say whether a coordinator's reply has the shape that :meth:`Answers.relay` takes."""
    if reply.get("ok") is not True:
        return isinstance(reply.get("error"), dict)
    tokens, errors, receipt = reply.get(TOKEN + "s"), reply.get("errors"), reply.get("receipt")
    if type(tokens) is not list or len(cast("list[object]", tokens)) != count or type(errors) is not list:
        return False
    if any(token is not None and type(token) is not bytes for token in cast("list[object]", tokens)):
        return False
    for error in cast("list[object]", errors):
        match error:
            case [int(index), dict()] if 0 <= index < count:
                continue
            case _:
                return False
    if reply.get("degraded") and type(reply.get("acks")) is not int:
        return False
    if receipt is None:
        return True
    if not isinstance(receipt, dict) or set(Receipt._fields) != receipt.keys():
        return False
    return type(cast("dict[str, object]", receipt)["acks"]) is int


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
