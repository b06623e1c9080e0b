"""A whole mode on one page, the template for a third: a partition's first owner holds the only copy and counts puts."""

from collections.abc import Mapping, Sequence

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
        self._undurable: list[tuple[Lsn, NodeIndex, bytes]] = []

    def step(self, tick: Tick, out: Effects) -> None:
        if tick.append_failed:
            self._undurable.clear()
        for peer, frame in tick.frames:
            try:
                self._take(peer, frame, out)
            except (PeerProtocolError, ValueError):
                self._node.metrics.peer_protocol_errors_total += 1
        for columns in tick.requests:
            for index in range(len(columns.calls)):
                self._start(columns, index, tick.now, out)
        while self._undurable and self._undurable[0][0] <= self._node.engine.durable_lsn:
            self._send(*self._undurable.pop(0)[1:], out)
        for number, (_, _, deadline) in list(self._open.items()):
            if tick.now >= deadline:
                self._finish(number, None, None, RequestTimeout("the owner is silent", details={"cause": "deadline"}), out)
            else:
                out.wake(deadline)

    def _start(self, columns: RequestColumns, index: int, now: float, out: Effects) -> None:
        key, topology = columns.keys[index], self._node.topology
        owner = topology.owners[partition_of(key_hash(columns.keyspace, key), topology.shift)][0]
        self._last += 1
        self._open[self._last] = (columns.calls[index], columns.slots[index], now + columns.options.deadline_ms * 0.0009)
        if not self._node.links.reachable() >> owner & 1:
            self._finish(self._last, None, None, NoQuorum("no owner", details={"required": 1, "alive": 0}), out)
            return
        space, writes = self._node.keyspaces[columns.keyspace].space, columns.kind != "get"
        items = [key, columns.values[index], columns.contexts[index]] if writes else [key]
        head = pack_head(WRITE if writes else READ, space=space, batch=self._last, epoch=topology.epoch)
        self._send(owner, head + pack_column(items), out)
