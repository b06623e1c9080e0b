"""A whole mode, the template for a third: a partition's first owner holds the only copy; a token counts its writes."""

from collections.abc import Sequence

from kvbus.core.columns import pack_column, unpack_column
from kvbus.core.request import Call, RequestColumns
from kvbus.core.ring import key_hash, partition_of
from kvbus.core.tick import Effects, Tick
from kvbus.core.types import Lsn, NodeIndex
from kvbus.errors import ClientError, Conflict, NoQuorum, PeerProtocolError, RequestTimeout, error_from_map
from kvbus.ports.mode import ModeContext
from kvbus.wire.cbor import decode_map, dumps
from kvbus.wire.client_replies import error_map
from kvbus.wire.peer_frames import HEAD_BYTES, pack_head, unpack_head

READ, WRITE, ANSWER = 0x20, 0x21, 0x22


class PrimaryMode:
    token_name = "ctx"

    def __init__(self, context: ModeContext) -> None:
        self._node, self._last = context, context.incarnation << 40
        self._open: dict[int, tuple[Call, int, float]] = {}
        self._answers: list[tuple[Lsn, NodeIndex, bytes]] = []

    def step(self, tick: Tick, out: Effects) -> None:
        if tick.append_failed:  # What waits for the disk will never be answered: its callers time out.
            self._answers = [answer for answer in self._answers if answer[0] <= self._node.engine.durable_lsn]
        for peer, frame in tick.frames:
            try:
                self._take(peer, frame, out)
            except (PeerProtocolError, ValueError):
                self._node.metrics.peer_protocol_errors_total += 1
        for columns in tick.requests:
            for index in range(len(columns.keys)):
                self._ask(columns, index, tick.now, out)
        while self._answers and self._answers[0][0] <= self._node.engine.durable_lsn:
            self._send(*self._answers.pop(0)[1:], out)
        for number, (_, _, deadline) in list(self._open.items()):
            if tick.now >= deadline:
                late = RequestTimeout("the owner did not answer", details={"cause": "deadline"})
                self._finish(number, None, None, late, out)
            else:
                out.wake(deadline)

    def _ask(self, columns: RequestColumns, index: int, now: float, out: Effects) -> None:
        node, key, self._last = self._node, columns.keys[index], self._last + 1
        keyspace, deadline = node.keyspaces[columns.keyspace], now + columns.options.deadline_ms * 0.0009
        partition = partition_of(key_hash(keyspace.name, key), node.topology.shift)
        owner, kind = node.topology.owners[partition][0], READ if columns.kind == "get" else WRITE
        self._open[self._last] = (columns.calls[index], columns.slots[index], deadline)
        if not node.links.reachable() >> owner & 1:
            away = NoQuorum("the key's owner cannot be reached", details={"required": 1, "alive": 0})
            return self._finish(self._last, None, None, away, out)
        change = [None, None] if kind == READ else [columns.values[index], columns.contexts[index]]
        head = pack_head(kind, space=keyspace.space, batch=self._last, epoch=node.topology.epoch)
        return self._send(owner, head + pack_column([keyspace.engine_head(partition) + key, *change]), out)

    def _send(self, peer: NodeIndex, frame: bytes, out: Effects) -> None:
        self._take(peer, frame, out) if peer == self._node.me else out.send_peer(peer, frame)

    def _take(self, peer: NodeIndex, frame: bytes, out: Effects) -> None:
        head, (items, _) = unpack_head(frame), unpack_column(frame, HEAD_BYTES)
        if head.kind == ANSWER:
            token, value, error = items
            failure = error_from_map(decode_map(error)) if error else None
            return self._finish(head.batch, token, value, failure, out)
        try:
            answer = self._serve(head.kind, *items, out=out)
        except ClientError as error:
            answer = [None, None, dumps(error_map(error))]
        reply = pack_head(ANSWER, space=head.space, batch=head.batch, epoch=self._node.topology.epoch)
        return self._answers.append((self._node.engine.applied_lsn, peer, reply + pack_column(answer)))
