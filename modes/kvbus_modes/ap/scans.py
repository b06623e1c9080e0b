"""Scans: run by run of partitions with the same replicas, each in key order.

A replica answers with a prefix of its sorted range; what lies behind the shortest answer's last key is not known to
be complete, so a page only ever takes what lies before that frontier and goes on from there.

Deleted keys cost time and give nothing, so the work is bounded three times: in an answer, in a tick, whose rest waits
for the next one, and in a page, which ends early, with a cursor, where it takes too long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from struct import error as struct_error
from struct import unpack_from

from kvbus.core.keyspace import BEHIND_ALL, ENGINE_HEAD_BYTES, Keyspace, partition_of_key
from kvbus.core.links import Links
from kvbus.core.quorum import ReplicaSet, Requirement
from kvbus.core.request import RequestColumns, ScanRequest
from kvbus.core.tick import Effects
from kvbus.core.topology import Topology
from kvbus.core.types import BatchId, NodeIndex
from kvbus.errors import BadRequest, ClientError, CorruptionError, PeerProtocolError, RequestTimeout, TooManySiblings
from kvbus.wire.peer_frames import pack_head
from kvbus_modes.ap.alarm import Alarm
from kvbus_modes.ap.answers import Answers
from kvbus_modes.ap.batch import DAMAGED_THERE, Batch, Verdict
from kvbus_modes.ap.frames import MAX_SCAN_PARTITIONS, SCAN, scan_payload
from kvbus_modes.ap.ranges import ANSWER_WORK, CANNOT_SAY, Range, collect
from kvbus_modes.ap.replica import Replica
from kvbus_modes.ap.siblings import merge, read

_TICK_WORK = 1024
_ITEM_OVERHEAD_BYTES = 32
_PAGE_SHARE = 0.5
"""A page that has used this part of its time ends with the run it is in; the rest of the time is for that run."""

Resolve = Callable[[ReplicaSet], Requirement]
"""Says what the request requires of one run's replicas."""


class ScanBatch(Batch):
    """One page under way: the run of partitions being asked, and what earlier runs gave."""

    __slots__ = (
        "answers",
        "end",
        "found",
        "keyspace",
        "last_partition",
        "queued",
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
    queued: bool
    """The next run waits for its turn; the tally is still the last one's, and nobody is to judge it."""
    resolve: Resolve

    def begin_run(self, id: BatchId, replicas: ReplicaSet, requirement: Requirement) -> None:
        """Forget the last run's tally; under another id, so that its late answers are not taken for this one's."""
        self.id = id
        self.replicas = replicas
        self.requirement = requirement
        self.answered = self.awaited = self.lost = 0
        self.answers = {}

    def is_late(self, now: float) -> bool:
        """Say whether the page should end where it is."""
        return now - self.started >= _PAGE_SHARE * (self.deadline - self.started)


class Scans:
    """All scans that this node coordinates."""

    def __init__(
        self,
        *,
        replica: Replica,
        links: Links,
        answers: Answers,
        alarm: Alarm,
        topology: Topology,
        reply_bytes: int,
        new_batch: Callable[[], BatchId],
    ) -> None:
        self._replica = replica
        self._links = links
        self._answers = answers
        self._alarm = alarm
        self._topology = topology
        self._reply_bytes = reply_bytes
        self._new_batch = new_batch
        self._me = links.me
        self.open: dict[BatchId, ScanBatch] = {}
        # Those of ``open`` whose next run is to begin; in the order of their turns.
        self.queue: deque[ScanBatch] = deque()
        self._work = 0
        self._turn = 0

    def start(
        self,
        request: ScanRequest,
        columns: RequestColumns,
        keyspace: Keyspace,
        resolve: Resolve,
        now: float,
    ) -> None:
        """Take a page in, behind the request's cursor; :meth:`proceed` begins it.

        Raises:
            BadRequest: the cursor is none of this cluster's.
        """
        replicas = self._topology.groups[0]
        batch = ScanBatch(self._new_batch(), columns, replicas, resolve(replicas), now)
        batch.request, batch.keyspace, batch.resolve = request, keyspace, resolve
        batch.start = self._resume(request, keyspace)
        batch.found, batch.spare, batch.size, batch.stride = [], [], 0, 1
        self.open[batch.id] = batch
        self._alarm.by(batch.deadline)
        self._enqueue(batch)

    def proceed(self, now: float, wall_ms: int, out: Effects) -> None:
        """Begin the runs whose turn it is, as many as one tick may carry; the others wait for the next tick."""
        self._work = 0
        while self.queue and self._work < _TICK_WORK:
            batch = self.queue.popleft()
            batch.queued = False
            if not batch.replied:
                self._run(batch, now, wall_ms, out)
                self._judge(batch, now, wall_ms, out)
        if self.queue:
            out.wake(now)

    def answered(
        self, node: NodeIndex, batch_id: BatchId, found: Range, now: float, wall_ms: int, out: Effects
    ) -> None:
        """Take a replica's answer.

        Raises:
            PeerProtocolError: the answer is not one to what was asked; the replica counts as lost.
        """
        batch = self.open.get(batch_id)
        if batch is None or not batch.awaited >> node & 1:
            return
        self._links.settled(node)
        if found == CANNOT_SAY:
            batch.take_loss(node)
            batch.damage = DAMAGED_THERE
            self._judge(batch, now, wall_ms, out)
            return
        fits = found.answers(batch.start, batch.end, batch.request.prefix)
        if fits:
            batch.take_answer(node)
            batch.answers[node] = found
        else:
            batch.take_loss(node)
        self._judge(batch, now, wall_ms, out)
        if not fits:
            raise PeerProtocolError(
                "a SCAN_ANSWER holds ascending keys of the asked range with sound records, and some where it goes on"
            )

    def links_lost(self, nodes: Sequence[NodeIndex], now: float, wall_ms: int, out: Effects) -> None:
        """Ask the next replicas in place of ``nodes``."""
        for batch in list(self.open.values()):
            batch.spare = [node for node in batch.spare if node not in nodes]
            if batch.take_losses(nodes):
                self._judge(batch, now, wall_ms, out)

    def sweep(self, now: float, wall_ms: int, out: Effects) -> None:
        """Leave silent replicas behind; give up what is past its deadline."""
        for batch in list(self.open.values()):
            if now >= batch.deadline:
                self._fail(batch, RequestTimeout("the deadline passed", details={"cause": "deadline"}), now, out)
                continue
            self._alarm.by(batch.deadline)
            if not batch.queued:
                self._judge(batch, now, wall_ms, out)
        if self.queue:
            out.wake(now)

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
        behind = min(topology.partitions, partition + MAX_SCAN_PARTITIONS)
        while last + 1 < behind and topology.group_of[last + 1] == group:
            last += 1
        self._work += last + 1 - partition
        replicas = topology.groups[group]
        requirement = batch.resolve(replicas)
        refusal = requirement.refusal(replicas.mask & self._links.reachable())
        if refusal is not None:
            self._fail(batch, refusal, now, out)
            return
        del self.open[batch.id]
        batch.begin_run(self._new_batch(), replicas, requirement)
        self.open[batch.id] = batch
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
        limit = min((request.limit - len(batch.found) + 1) * batch.stride, ANSWER_WORK)
        if node != self._me:
            head = pack_head(SCAN, space=batch.keyspace.space, batch=batch.id, epoch=self._topology.epoch)
            out.send_peer(node, head + scan_payload(batch.start, batch.end, request.prefix, limit))
            self._links.sent(node, now)
            return
        try:
            found = collect(self._replica, batch.start, batch.end, request.prefix, limit)
        except CorruptionError as error:
            batch.take_loss(node)
            batch.damage = self._replica.met_damage(error, out)
            return
        self._work += found.work
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
                few = RequestTimeout("too few replicas answered", details={"cause": "replicas"})
                self._fail(batch, batch.corrupt() if batch.damage else few, now, out)
            else:
                self._take_run(batch, now, wall_ms, out)
                return

    def _take_run(self, batch: ScanBatch, now: float, wall_ms: int, out: Effects) -> None:
        """Add what the answers agree to have covered; ask for the next run, or answer the page."""
        batch.release(self._links)
        self._answers.mark(batch, batch.keyspace, now)
        answers = list(batch.answers.values())
        frontiers = [answer.keys[-1] for answer in answers if not answer.exhausted]
        frontier = min(frontiers) if frontiers else batch.end
        try:
            records = _merged(answers, frontier)
        except ValueError as error:
            self._fail(batch, TooManySiblings(str(error)), now, out)
            return
        for key in sorted(records):
            values, _ = read(records[key], wall_ms)
            if values and not self._add(batch, key, values):
                self._answer(batch, batch.found[-1][0] + b"\x00", now, out)
                return
        if frontiers:
            batch.start = frontier + b"\x00"
            batch.stride = min(batch.stride * 2, ANSWER_WORK)
        elif batch.last_partition + 1 >= self._topology.partitions:
            self._answer(batch, None, now, out)
            return
        else:
            batch.start = batch.keyspace.engine_head(batch.last_partition + 1)
            batch.stride = 1
        if batch.is_late(now):
            self._answer(batch, batch.start, now, out)
        else:
            self._enqueue(batch)

    def _enqueue(self, batch: ScanBatch) -> None:
        batch.queued = True
        self.queue.append(batch)

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

    def _answer(self, batch: ScanBatch, resume_at: bytes | None, now: float, out: Effects) -> None:
        batch.replied = True
        del self.open[batch.id]
        fields: dict[str, object] = {"keys": [key[ENGINE_HEAD_BYTES:] for key, _ in batch.found]}
        if batch.request.with_values:
            fields["values"] = [values for _, values in batch.found]
        fields["cursor"] = None if resume_at is None else resume_at[4:]
        batch.columns.calls[0].fields = fields
        self._answers.settle(batch, [None], None, batch.keyspace, now, out)

    def _fail(self, batch: ScanBatch, error: ClientError, now: float, out: Effects) -> None:
        batch.replied = True
        batch.release(self._links)
        del self.open[batch.id]
        self._answers.fail(batch.columns, error, now - batch.started, out)


def _merged(answers: Sequence[Range], frontier: bytes) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    for answer in answers:
        for key, record in zip(answer.keys, answer.records, strict=True):
            if key <= frontier:
                records[key] = record if key not in records else merge(records[key], record)
    return records
