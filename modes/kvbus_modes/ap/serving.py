"""What this node's own copy does for its peers: it merges what they write, and answers what they read and scan."""

from __future__ import annotations

from functools import partial

from kvbus.core.columns import pack_column
from kvbus.core.metrics import Metrics
from kvbus.core.tick import Effects
from kvbus.core.types import Epoch, Lsn, NodeIndex
from kvbus.errors import CorruptionError, PeerProtocolError, ReadOnly
from kvbus.wire.cbor import dumps
from kvbus.wire.peer_frames import HEAD_BYTES, Head, pack_head
from kvbus_modes.ap import frames
from kvbus_modes.ap.ranges import CANNOT_SAY, collect
from kvbus_modes.ap.repairs import Repairs
from kvbus_modes.ap.replica import Replica


class Serving:
    """Answers that leave when the disk has what they tell of."""

    def __init__(self, *, replica: Replica, repairs: Repairs, metrics: Metrics, epoch: Epoch) -> None:
        self._replica = replica
        self._repairs = repairs
        self._metrics = metrics
        self._epoch = epoch

    def write(self, peer: NodeIndex, head: Head, frame: bytes, out: Effects) -> None:
        """Merge a WRITE's records; those whose copy here is damaged fail, and are repaired in the background.

        Raises:
            PeerProtocolError: the frame breaks the protocol; nothing was stored.
        """
        keys, records = frames.read_write(frame, frames.WRITE_HEAD_BYTES)
        payload, digest = frame[frames.WRITE_HEAD_BYTES :], frame[HEAD_BYTES : frames.WRITE_HEAD_BYTES]
        lsn: Lsn | None
        damaged: list[int] = []
        try:
            try:
                lsn = self._replica.merge_in(keys, records, payload, digest, out)
            except CorruptionError as error:
                self._replica.met_damage(error, out)
                lsn, damaged = self._replica.merge_in_rest(keys, records, out)
                self._repairs.after_write([keys[index] for index in damaged])
        except ReadOnly:
            self._acknowledge(peer, head.batch, len(keys), damaged, False, 0.0, out)
        except ValueError as error:
            raise PeerProtocolError(str(error)) from error
        else:
            acknowledge = partial(self._acknowledge, peer, head.batch, len(keys), damaged)
            if lsn is None:
                acknowledge(True, 0.0, out)
            else:
                self._replica.when_durable(lsn, acknowledge)

    def read(self, peer: NodeIndex, head: Head, frame: bytes, now: float, out: Effects) -> None:
        """Answer a READ, up to the first damaged copy.

        Raises:
            PeerProtocolError: the frame breaks the protocol.
        """
        keys, path = frames.read_keys(frame), b""
        flags = head.flags & frames.EXPLAIN if keys else 0
        try:
            if flags:
                path = pack_column([dumps(self._replica.read_path(keys[0]))])
            records, damage = self._replica.read(keys, out)
        except CorruptionError as error:
            records, damage = [], self._replica.met_damage(error, out)
            path, flags = b"", 0
        if damage and not head.flags & frames.REPAIR:
            self._repairs.after_read(keys[len(records) :])
        answer = self._head(frames.READ_ANSWER, head.batch, flags) + pack_column(frames.that_fit(records)) + path
        self._replica.when_synced(partial(_send_if_durable, peer, answer), now, out)

    def scan(self, peer: NodeIndex, head: Head, frame: bytes, now: float, out: Effects) -> None:
        """Answer a SCAN, or that a copy in its range is damaged.

        Raises:
            PeerProtocolError: the frame breaks the protocol.
        """
        try:
            found = collect(self._replica, *frames.read_scan(frame))
        except CorruptionError as error:
            self._replica.met_damage(error, out)
            found = CANNOT_SAY
        flags = frames.EXHAUSTED if found.exhausted else 0
        answer = self._head(frames.SCAN_ANSWER, head.batch, flags) + frames.write_payload(found.keys, found.records)
        self._replica.when_synced(partial(_send_if_durable, peer, answer), now, out)

    def _acknowledge(
        self, peer: NodeIndex, batch: int, count: int, damaged: list[int], durable: bool, now: float, out: Effects
    ) -> None:
        failed = damaged if durable else list(range(count))
        out.send_peer(peer, self._head(frames.WRITE_ACK, batch) + frames.ack_payload(failed))

    def _head(self, kind: int, batch: int, flags: int = 0) -> bytes:
        return pack_head(kind, space=0, batch=batch, epoch=self._epoch, flags=flags)


def _send_if_durable(peer: NodeIndex, answer: bytes, durable: bool, now: float, out: Effects) -> None:
    if durable:
        out.send_peer(peer, answer)
