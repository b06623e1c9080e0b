"""A whole mode, a template for a third: a key's first replica holds the only copy; a token counts the key's writes."""

from collections.abc import Mapping

from kvbus.core.columns import pack_column, unpack_column
from kvbus.core.locator import Locator
from kvbus.core.request import RequestColumns
from kvbus.core.tick import Effects, Tick
from kvbus.core.types import Epoch, Lsn, NodeIndex
from kvbus.errors import ClientError, Conflict, PeerProtocolError, ReadOnly, RequestTimeout
from kvbus.ports.mode import ModeContext
from kvbus.wire.peer_frames import HEAD_BYTES, pack_head, unpack_head

GET, WRITE, ANSWER = 0x20, 0x21, 0x22
VALUE = b"\1"
STALE = Conflict("the key was written since; read it again and write with its token")
LATE = RequestTimeout("the key's owner did not answer", details={"cause": "deadline"})
Column = list[bytes | None]


class PrimaryMode:
    token_name = "ctx"

    def __init__(self, context: ModeContext) -> None:
        self._node, self._last = context, context.incarnation << 40
        self._locators = {name: Locator(context.topology, keyspace) for name, keyspace in context.keyspaces.items()}
        self._open: dict[int, tuple[RequestColumns, float]] = {}
        self._unsynced: list[tuple[Lsn, NodeIndex, bytes]] = []

    def step(self, tick: Tick, out: Effects) -> None:
        engine, me, arrived = self._node.engine, self._node.me, list(tick.frames)
        for located in (part for columns in tick.requests for part in self._locators[columns.keyspace].locate(columns)):
            columns, owner, self._last = located.columns, located.replicas.nodes[0], self._last + 1
            self._open[self._last] = (columns, tick.now + columns.options.deadline_ms * 0.0009)
            none: Column = [None] * len(columns.keys)
            head = pack_head(GET if columns.kind == "get" else WRITE, space=0, batch=self._last, epoch=Epoch(1))
            asked = pack_column(located.engine_keys) + pack_column(columns.values or none)
            arrived += self._send(owner, head + asked + pack_column(columns.contexts or none), out)
        if tick.append_failed:  # What the disk will never have is not answered: the callers time out.
            self._unsynced = [answer for answer in self._unsynced if answer[0] <= engine.durable_lsn]
        for peer, frame in arrived:
            try:
                self._take(peer, frame, out)
            except (PeerProtocolError, ReadOnly, ValueError):
                self._node.metrics.peer_protocol_errors_total += 1
        while self._unsynced and self._unsynced[0][0] <= engine.durable_lsn:
            for _, answer in self._send(*self._unsynced.pop(0)[1:], out):
                self._take(me, answer, out)
        for number, (columns, deadline) in list(self._open.items()):
            out.wake(deadline)
            if tick.now >= deadline:
                self._finish(number, [None] * len(columns.keys), [None] * len(columns.keys), LATE, out)

    def _send(self, peer: NodeIndex, frame: bytes, out: Effects) -> list[tuple[NodeIndex, bytes]]:
        if peer == self._node.me:
            return [(peer, frame)]
        out.send_peer(peer, frame)
        return []

    def _take(self, peer: NodeIndex, frame: bytes, out: Effects) -> None:
        head, (first, end) = unpack_head(frame), unpack_column(frame, HEAD_BYTES)
        second, end = unpack_column(frame, end)
        if head.kind == ANSWER:
            self._finish(head.batch, first, second, STALE, out)
            return
        answers = [
            self._serve(head.kind, *asked, out)
            for asked in zip(first, second, unpack_column(frame, end)[0], strict=True)
        ]
        tokens, values = ([answer[side] for answer in answers] for side in (0, 1))
        reply = pack_head(ANSWER, space=0, batch=head.batch, epoch=Epoch(1)) + pack_column(tokens) + pack_column(values)
        self._unsynced.append((self._node.engine.applied_lsn, peer, reply))

    def _serve(
        self, kind: int, key: bytes | None, value: bytes | None, seen: bytes | None, out: Effects
    ) -> tuple[bytes | None, bytes | None]:
        record = self._node.engine.get(key or b"") or bytes(8)
        if kind == GET:
            return record[:8], record[9:] if record[8:] else None
        if kind != WRITE or not key:
            raise ValueError("neither a GET nor a WRITE")
        if seen not in (None, record[:8]):
            return None, None
        token = (int.from_bytes(record[:8], "big") + 1).to_bytes(8, "big")
        self._node.engine.apply([key], [token if value is None else token + VALUE + value])
        out.commit = True
        return token, None

    def _finish(self, number: int, tokens: Column, values: Column, error: ClientError, out: Effects) -> None:
        if number not in self._open or not len(tokens) == len(values) == len(self._open[number][0].calls):
            raise ValueError("an answer to nothing that was asked")
        columns, _ = self._open.pop(number)
        for call, slot, token, value in zip(columns.calls, columns.slots, tokens, values, strict=True):
            if token is None:
                call.errors.append((slot, error))
            elif value is not None:
                call.values[slot] = [value]
            call.tokens[slot] = token
            call.remaining -= 1
            if not call.remaining:
                out.reply(call)

    def pending(self) -> int:
        return sum(len(columns.calls) for columns, _ in self._open.values())

    def hand_over(self) -> None:
        return None

    def status(self) -> dict[str, int]:
        return {"pending_operations": self.pending()}


class PrimaryPlugin:
    name, frame_kinds, create = "primary", range(0x20, 0x23), PrimaryMode
    operations: Mapping[str, frozenset[str]] = {
        "get": frozenset(),
        "put": frozenset({"ctx"}),
        "delete": frozenset({"ctx"}),
    }

    def clock(self, token: bytes) -> dict[int, int]:
        return {0: int.from_bytes(token, "big")}

    def dots(self, token: bytes) -> list[tuple[int, int, int, int]]:
        return [(0, 0, 1, int.from_bytes(token, "big"))]
