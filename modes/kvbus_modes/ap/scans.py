"""Scans: run by run of partitions with the same replicas, each in key order.

A replica answers with a prefix of its sorted range; what lies behind the shortest answer's last key is not known to
be complete, so a page only ever takes what lies before that frontier and goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from math import inf
from struct import error as struct_error
from struct import pack, unpack_from
from typing import NamedTuple

from kvbus.core.keyspace import BEHIND_ALL, ENGINE_HEAD_BYTES, Keyspace, partition_of_key
from kvbus.core.links import Links
from kvbus.core.quorum import ReplicaSet, Requirement
from kvbus.core.request import RequestColumns, ScanRequest
from kvbus.core.tick import Effects
from kvbus.core.topology import Topology
from kvbus.core.types import BatchId, NodeIndex
from kvbus.errors import BadRequest, ClientError, PeerProtocolError, RequestTimeout
from kvbus.wire.peer_frames import pack_head
from kvbus_modes.ap.answers import Answers
from kvbus_modes.ap.batch import Batch, Verdict
from kvbus_modes.ap.frames import SCAN, scan_payload
from kvbus_modes.ap.replica import Replica
from kvbus_modes.ap.siblings import merge, read

_ANSWER_BYTES = 1 << 20
_ITEM_OVERHEAD_BYTES = 32
_MAX_STRIDE = 1 << 16

Resolve = Callable[[ReplicaSet], Requirement]
"""Says what the request requires of one run's replicas."""


class Range(NamedTuple):
    """One replica's answer: sorted engine keys, their records, and whether it reaches to the end of what was asked."""

    keys: list[bytes]
    records: list[bytes]
    exhausted: bool


def collect(replica: Replica, start: bytes, end: bytes, prefix: bytes, limit: int) -> Range:
    """Read up to ``limit`` records, or about 1 MiB, of the local copy between two engine keys of one space."""
    keys: list[bytes] = []
    records: list[bytes] = []
    room = _ANSWER_BYTES
    space, first, last = start[:4], partition_of_key(start), partition_of_key(end)
    for partition in range(first, last + 1):
        low = space + pack(">H", partition) + prefix
        for key, record in replica.scan(max(start, low), min(end, low + BEHIND_ALL)):
            keys.append(key)
            records.append(record)
            room -= len(key) + len(record)
            if len(keys) >= limit or room <= 0:
                return Range(keys, records, False)
    return Range(keys, records, True)


def _fits(found: Range, batch: ScanBatch) -> bool:
    keys, prefix = found.keys, batch.request.prefix
    if not keys:
        return found.exhausted
    if not batch.start <= keys[0] <= keys[-1] < batch.end:
        return False
    return all(a < b for a, b in pairwise(keys)) and all(key.startswith(prefix, ENGINE_HEAD_BYTES) for key in keys)


class ScanBatch(Batch):
    """One page under way: the run of partitions being asked, and what earlier runs gave."""

    __slots__ = (
        "answers",
        "end",
        "found",
        "keyspace",
        "last_partition",
        "request",
        "resolve",
        "size",
        "spare",
        "start",
        "stride",
    )

    request: ScanRequest
    keyspace: Keyspace
    start: bytes
    end: bytes
    last_partition: int
    spare: list[NodeIndex]
    answers: dict[NodeIndex, Range]
    found: list[tuple[bytes, list[bytes]]]
    size: int
    stride: int
    """Grows while a page goes on in one run, so that a long row of deleted keys takes few questions."""
    resolve: Resolve

    def begin_run(self, id: BatchId, replicas: ReplicaSet, requirement: Requirement) -> None:
        """Forget the last run's tally; under another id, so that its late answers are not taken for this one's."""
        self.id = id
        self.replicas = replicas
        self.requirement = requirement
        self.answered = self.awaited = self.lost = 0
        self.answers = {}


class Scans:
    """All scans that this node coordinates."""

    def __init__(
        self,
        *,
        replica: Replica,
        links: Links,
        answers: Answers,
        topology: Topology,
        reply_bytes: int,
        new_batch: Callable[[], BatchId],
    ) -> None:
        self._replica = replica
        self._links = links
        self._answers = answers
        self._topology = topology
        self._reply_bytes = reply_bytes
        self._new_batch = new_batch
        self._me = links.me
        self._open: dict[BatchId, ScanBatch] = {}
        self._turn = 0

    def start(
        self,
        request: ScanRequest,
        columns: RequestColumns,
        keyspace: Keyspace,
        resolve: Resolve,
        now: float,
        wall_ms: int,
        out: Effects,
    ) -> None:
        """Begin a page behind the request's cursor.

        Raises:
            BadRequest: the cursor is none of this cluster's.
        """
        replicas = self._topology.groups[0]
        batch = ScanBatch(self._new_batch(), columns, replicas, resolve(replicas), now)
        batch.request, batch.keyspace, batch.resolve = request, keyspace, resolve
        batch.start = self._resume(request, keyspace)
        batch.found, batch.size, batch.stride = [], 0, 1
        self._open[batch.id] = batch
        self._run(batch, now, wall_ms, out)
        self._judge(batch, now, wall_ms, out)

    def answered(
        self, node: NodeIndex, batch_id: BatchId, found: Range, now: float, wall_ms: int, out: Effects
    ) -> None:
        """Take a replica's answer.

        Raises:
            PeerProtocolError: the answer is not one to what was asked; the replica counts as lost.
        """
        batch = self._open.get(batch_id)
        if batch is None or not batch.awaited >> node & 1:
            return
        self._links.settled(node)
        fits = _fits(found, batch)
        if fits:
            batch.take_answer(node)
            batch.answers[node] = found
        else:
            batch.take_loss(node)
        self._judge(batch, now, wall_ms, out)
        if not fits:
            raise PeerProtocolError("a SCAN_ANSWER holds ascending keys of the asked range, and some where it goes on")

    def link_lost(self, node: NodeIndex, now: float, wall_ms: int, out: Effects) -> None:
        """Ask the next replica in place of ``node``."""
        for batch in list(self._open.values()):
            if node in batch.spare:
                batch.spare.remove(node)
            if batch.take_loss(node):
                self._judge(batch, now, wall_ms, out)

    def sweep(self, now: float, wall_ms: int, out: Effects) -> float:
        """Leave silent replicas behind; give up what is past its deadline. Return the next deadline."""
        for batch in list(self._open.values()):
            if now >= batch.deadline:
                self._fail(batch, RequestTimeout("the deadline passed", details={"cause": "deadline"}), now, out)
            else:
                self._judge(batch, now, wall_ms, out)
        return min((batch.deadline for batch in self._open.values()), default=inf)

    def __len__(self) -> int:
        return len(self._open)

    def _resume(self, request: ScanRequest, keyspace: Keyspace) -> bytes:
        if request.cursor is None:
            return keyspace.engine_head(0)
        try:
            (partition,) = unpack_from(">H", request.cursor)
        except struct_error as error:
            raise BadRequest("cursor must be the bytes of an earlier reply") from error
        if partition >= self._topology.partitions:
            raise BadRequest("cursor is not one of this cluster's")
        return keyspace.engine_head(partition) + request.cursor[2:]

    def _run(self, batch: ScanBatch, now: float, wall_ms: int, out: Effects) -> None:
        """Ask for the run of partitions from the batch's start that have the same replicas; the caller judges."""
        topology = self._topology
        partition = partition_of_key(batch.start)
        group = topology.group_of[partition]
        last = partition
        while last + 1 < topology.partitions and topology.group_of[last + 1] == group:
            last += 1
        replicas = topology.groups[group]
        requirement = batch.resolve(replicas)
        refusal = requirement.refusal(replicas.mask & self._links.reachable())
        if refusal is not None:
            self._fail(batch, refusal, now, out)
            return
        del self._open[batch.id]
        batch.begin_run(self._new_batch(), replicas, requirement)
        self._open[batch.id] = batch
        batch.last_partition = last
        batch.end = batch.keyspace.engine_head(last) + BEHIND_ALL
        self._turn += 1
        batch.spare = self._links.candidates(replicas, self._turn, now)
        while batch.spare and not batch.requirement.met_by(batch.awaited | batch.answered):
            self._ask_next(batch, now, wall_ms, out)

    def _ask_next(self, batch: ScanBatch, now: float, wall_ms: int, out: Effects) -> None:
        node = batch.spare.pop()
        batch.awaited |= 1 << node
        request = batch.request
        limit = (request.limit - len(batch.found) + 1) * batch.stride
        if node != self._me:
            head = pack_head(SCAN, space=batch.keyspace.space, batch=batch.id, epoch=self._topology.epoch)
            out.send_peer(node, head + scan_payload(batch.start, batch.end, request.prefix, limit))
            self._links.sent(node, now)
            return
        found = collect(self._replica, batch.start, batch.end, request.prefix, limit)
        unsynced = self._replica.unsynced()
        if unsynced is None:
            batch.take_answer(node)
            batch.answers[node] = found
        else:
            self._replica.when_durable(unsynced, partial(self._read_here, batch, found, wall_ms))

    def _read_here(self, batch: ScanBatch, found: Range, wall_ms: int, durable: bool, now: float, out: Effects) -> None:
        if durable and batch.take_answer(self._me):
            batch.answers[self._me] = found
        elif not durable:
            batch.take_loss(self._me)
        self._judge(batch, now, wall_ms, out)

    def _judge(self, batch: ScanBatch, now: float, wall_ms: int, out: Effects) -> None:
        """Go on as far as the answers reach: from run to run, to the page's end."""
        while not batch.replied:
            verdict = batch.verdict(self._links.responsive(now))
            if verdict is Verdict.WAIT:
                return
            if verdict is Verdict.SHORT and batch.spare:
                self._ask_next(batch, now, wall_ms, out)
            elif verdict is Verdict.SHORT and (not batch.answers or batch.requirement.demanded):
                self._fail(batch, RequestTimeout("too few replicas answered", details={"cause": "replicas"}), now, out)
            else:
                self._take_run(batch, now, wall_ms, out)

    def _take_run(self, batch: ScanBatch, now: float, wall_ms: int, out: Effects) -> None:
        """Add what the answers agree to have covered; ask for the next run, or answer the page."""
        batch.release(self._links)
        self._answers.mark(batch, batch.keyspace, now)
        answers = list(batch.answers.values())
        frontiers = [answer.keys[-1] for answer in answers if not answer.exhausted]
        frontier = min(frontiers) if frontiers else batch.end
        records: dict[bytes, bytes] = {}
        for answer in answers:
            for key, record in zip(answer.keys, answer.records, strict=True):
                if key <= frontier:
                    records[key] = record if key not in records else merge(records[key], record)
        for key in sorted(records):
            values, _ = read(records[key], wall_ms)
            if values and not self._add(batch, key, values):
                self._answer(batch, batch.found[-1][0] if batch.found else None, now, out)
                return
        if frontiers:
            batch.start = frontier + b"\x00"
            batch.stride = min(batch.stride * 2, _MAX_STRIDE)
        elif batch.last_partition + 1 >= self._topology.partitions:
            self._answer(batch, None, now, out)
            return
        else:
            batch.start = batch.keyspace.engine_head(batch.last_partition + 1)
            batch.stride = 1
        self._run(batch, now, wall_ms, out)

    def _add(self, batch: ScanBatch, key: bytes, values: list[bytes]) -> bool:
        """Add one key to the page; False when the page has no room for it."""
        size = len(key) + _ITEM_OVERHEAD_BYTES
        if batch.request.with_values:
            size += sum(map(len, values)) + _ITEM_OVERHEAD_BYTES * len(values)
        if len(batch.found) >= batch.request.limit or (batch.found and batch.size + size > self._reply_bytes):
            return False
        batch.size += size
        batch.found.append((key, values))
        return True

    def _answer(self, batch: ScanBatch, last: bytes | None, now: float, out: Effects) -> None:
        batch.replied = True
        del self._open[batch.id]
        fields: dict[str, object] = {"keys": [key[ENGINE_HEAD_BYTES:] for key, _ in batch.found]}
        if batch.request.with_values:
            fields["values"] = [values for _, values in batch.found]
        fields["cursor"] = None if last is None else last[4:] + b"\x00"
        batch.columns.calls[0].fields = fields
        self._answers.settle(batch, [None], None, batch.keyspace, now, out)

    def _fail(self, batch: ScanBatch, error: ClientError, now: float, out: Effects) -> None:
        batch.replied = True
        batch.release(self._links)
        del self._open[batch.id]
        self._answers.fail(batch.columns, error, now - batch.started, out)
