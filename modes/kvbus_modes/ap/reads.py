"""Gets: ask as many replicas as are needed, join the next one when one is lost or slow, merge the answers.

An answer may stop short, because a frame's bytes are bounded: what lies behind the shortest one was not read. The call
that the bytes were spent on gets ``too_large`` for its rest; calls that happened to come behind it are read again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from kvbus.core.columns import pack_column
from kvbus.core.keyspace import Keyspace
from kvbus.core.links import Links
from kvbus.core.locator import Located
from kvbus.core.metrics import Metrics
from kvbus.core.quorum import Requirement
from kvbus.core.tick import Effects
from kvbus.core.types import BatchId, Epoch, NodeIndex
from kvbus.errors import CorruptionError, PeerProtocolError, RequestTimeout, TooLarge, TooManySiblings
from kvbus.wire.peer_frames import pack_head
from kvbus_modes.ap.acceptance import all_sound
from kvbus_modes.ap.alarm import LOOK_SECONDS, Alarm, on_grid
from kvbus_modes.ap.answers import MODE, Answers
from kvbus_modes.ap.batch import DAMAGED_THERE, Batch, Verdict
from kvbus_modes.ap.frames import EXPLAIN, READ, READ_ANSWER_BYTES, that_fit
from kvbus_modes.ap.repairs import Repairs
from kvbus_modes.ap.replica import Replica
from kvbus_modes.ap.siblings import merge, read_column

Records = list[bytes | None]


class ReadBatch(Batch):
    """Keys asked of some replicas: what each answered, and when to ask another one.

    ``spare`` are the replicas not asked yet, best last; ``asked_at`` holds when each peer was asked.
    """

    __slots__ = ("answers", "asked_at", "damaged", "hedge_at", "keys", "keyspace", "paths", "spare")

    def __init__(
        self, id: BatchId, located: Located, requirement: Requirement, now: float, *, keyspace: Keyspace
    ) -> None:
        super().__init__(id, located.columns, located.replicas, requirement, now)
        self.keyspace = keyspace
        self.keys = located.engine_keys
        self.answers: dict[NodeIndex, Records] = {}
        self.asked_at: dict[NodeIndex, float] = {}
        self.spare: list[NodeIndex] = []
        self.hedge_at = now
        self.damaged = 0
        # With ``explain``: what each replica looked into for the first key.
        self.paths: dict[NodeIndex, Mapping[str, object]] = {}

    def merged(self) -> Records:
        """Join the answers, key by key, as far as the shortest one goes; equal columns are the same one."""
        columns = list(self.answers.values())
        if len(columns) == 1:
            # It may be this node's own copy, which no frame has cut short.
            return that_fit(columns[0])
        joined = columns[0]
        for column in columns[1:]:
            if column is not joined and column != joined:
                joined = [_join(a, b) for a, b in zip(joined, column, strict=False)]
        return joined

    def take_records(self, node: NodeIndex, records: Records) -> bool:
        """Note what ``node`` answered; False when that is no answer to what was asked."""
        for column in self.answers.values():
            if column == records:
                self.answers[node] = column
                return True
        if not 0 < len(records) <= len(self.keys) or not all_sound(records):
            return False
        self.answers[node] = records
        return True

    def meet_damage(self, node: NodeIndex, damage: str) -> None:
        """Count ``node`` as lost, because its copy of the first key is damaged."""
        self.take_loss(node)
        self.damaged |= 1 << node
        self.damage = damage

    def retire(self, now: float) -> None:
        """Let go of everything but the nodes that still owe an answer."""
        super().retire(now)
        self.keys, self.answers, self.spare = [], {}, []


def _join(a: bytes | None, b: bytes | None) -> bytes | None:
    if a is None or b is None:
        return b if a is None else a
    return merge(a, b)


Explain = Callable[["ReadBatch", Keyspace, Records], dict[str, object]]


class Reads:
    """All read batches that this node coordinates."""

    def __init__(
        self,
        *,
        replica: Replica,
        repairs: Repairs,
        links: Links,
        answers: Answers,
        alarm: Alarm,
        metrics: Metrics,
        epoch: Epoch,
        explain: Explain,
        new_batch: Callable[[], BatchId],
    ) -> None:
        self._replica = replica
        self._repairs = repairs
        self._links = links
        self._answers = answers
        self._alarm = alarm
        self._metrics = metrics
        self._epoch = epoch
        self._explain = explain
        self._new_batch = new_batch
        self._me = links.me
        self.open: dict[BatchId, ReadBatch] = {}
        # Those that nobody was asked for yet; they are not in ``open``.
        self.unasked: deque[ReadBatch] = deque()
        self._turn = 0

    def start(
        self,
        located: Located,
        keyspace: Keyspace,
        requirement: Requirement,
        now: float,
        wall_ms: int,
        out: Effects,
    ) -> None:
        """Ask the local copy and as many others as the requirement needs."""
        self._ask(ReadBatch(self._new_batch(), located, requirement, now, keyspace=keyspace), now, wall_ms, out)

    def proceed(self, now: float, wall_ms: int, out: Effects) -> None:
        """Ask for the parts of batches that were answered in part; what these leave over waits for the next turn."""
        for _ in range(len(self.unasked)):
            self._ask(self.unasked.popleft(), now, wall_ms, out)
        if self.unasked:
            out.wake(now)

    def answered(
        self, node: NodeIndex, batch_id: BatchId, records: Records, now: float, wall_ms: int, out: Effects
    ) -> None:
        """Take a replica's answer.

        Raises:
            PeerProtocolError: the answer is not one to what was asked; the replica counts as lost.
        """
        batch = self.open.get(batch_id)
        if batch is None or not batch.awaited >> node & 1:
            return
        self._links.settled(node)
        if not records:
            batch.meet_damage(node, DAMAGED_THERE)
            self._judge(batch, now, wall_ms, out)
            return
        fits = batch.replied or batch.take_records(node, records)
        if fits:
            self._links.observe(node, now - batch.asked_at[node])
            batch.take_answer(node)
        else:
            batch.take_loss(node)
        self._judge(batch, now, wall_ms, out)
        if not fits:
            raise PeerProtocolError("a READ_ANSWER holds sound records, one at least and no more than were asked for")

    def note_path(self, node: NodeIndex, batch_id: BatchId, path: Mapping[str, object]) -> None:
        """Note what ``node`` looked into for a batch that is to be explained."""
        batch = self.open.get(batch_id)
        if batch is not None and batch.columns.options.explain:
            batch.paths[node] = path

    def links_lost(self, nodes: Sequence[NodeIndex], now: float, wall_ms: int, out: Effects) -> None:
        """Ask as many other replicas in every batch as it waits for of ``nodes``."""
        for batch in list(self.open.values()):
            for node in nodes:
                if node in batch.spare:
                    batch.spare.remove(node)
                    batch.lost |= 1 << node
            losses = batch.take_losses(nodes)
            for _ in range(losses):
                if batch.spare and not batch.replied:
                    self._ask_next(batch, now, wall_ms, out)
            if losses:
                self._judge(batch, now, wall_ms, out)

    def sweep(self, now: float, wall_ms: int, out: Effects) -> None:
        """Join the next replica where one is slow; give up what is past its deadline."""
        for batch in list(self.open.values()):
            if now >= batch.deadline:
                if not batch.replied:
                    self._give_up(batch, "the deadline passed", now, wall_ms, out)
                batch.release(self._links)
                self.open.pop(batch.id, None)
                continue
            if now >= batch.hedge_at and batch.spare and not batch.replied:
                self._ask_next(batch, now, wall_ms, out)
            self._judge(batch, now, wall_ms, out)
            self._alarm.by(batch.deadline)
            if batch.spare and not batch.replied:
                self._alarm.by(batch.hedge_at)
        if self.unasked:
            out.wake(now)

    def _ask(self, batch: ReadBatch, now: float, wall_ms: int, out: Effects) -> None:
        self._turn += 1
        batch.spare = self._links.candidates(batch.replicas, self._turn, now)
        batch.lost = batch.replicas.mask & ~self._links.reachable()
        self.open[batch.id] = batch
        self._alarm.by(batch.deadline)
        while batch.spare and not batch.requirement.met_by(batch.awaited | batch.answered):
            self._ask_next(batch, now, wall_ms, out)
        self._judge(batch, now, wall_ms, out)

    def _ask_next(self, batch: ReadBatch, now: float, wall_ms: int, out: Effects) -> None:
        node = batch.spare.pop()
        batch.awaited |= 1 << node
        batch.asked_at[node] = now
        batch.hedge_at = on_grid(now + self._links.hedge_after(node), LOOK_SECONDS)
        if batch.spare:
            self._alarm.by(batch.hedge_at)
        if node != self._me:
            flags = EXPLAIN if batch.columns.options.explain else 0
            head = pack_head(READ, space=batch.keyspace.space, batch=batch.id, epoch=self._epoch, flags=flags)
            out.send_peer(node, head + pack_column(batch.keys))
            self._links.sent(node, now)
            return
        if batch.columns.options.explain:
            try:
                batch.paths[node] = self._replica.read_path(batch.keys[0])
            except CorruptionError as error:
                batch.meet_damage(node, self._replica.met_damage(error, out))
                self._repairs.after_read(batch.keys[:1])
                return
        records, damage = self._replica.read(batch.keys, out)
        if damage:
            self._repairs.after_read(batch.keys[len(records) :])
        if not records:
            batch.meet_damage(node, damage)
            return
        unsynced = self._replica.unsynced()
        if unsynced is None:
            batch.take_answer(node)
            batch.answers[node] = records
        else:
            self._replica.when_durable(unsynced, partial(self._read_here, batch, records, wall_ms))

    def _read_here(
        self, batch: ReadBatch, records: Records, wall_ms: int, durable: bool, now: float, out: Effects
    ) -> None:
        if durable:
            if batch.take_answer(self._me):
                batch.answers[self._me] = records
        else:
            batch.take_loss(self._me)
        self._judge(batch, now, wall_ms, out)

    def _judge(self, batch: ReadBatch, now: float, wall_ms: int, out: Effects) -> None:
        if not batch.replied:
            verdict = batch.verdict(self._links.responsive(now))
            if verdict is Verdict.MET:
                self._settle(batch, now, wall_ms, out)
            elif verdict is Verdict.SHORT:
                if batch.spare:
                    self._ask_next(batch, now, wall_ms, out)
                    self._judge(batch, now, wall_ms, out)
                    return
                self._give_up(batch, "too few replicas answered", now, wall_ms, out)
        if batch.replied:
            if batch.awaited:
                batch.retire(now)
                self._alarm.by(batch.deadline)
            else:
                self.open.pop(batch.id, None)

    def _give_up(self, batch: ReadBatch, cause: str, now: float, wall_ms: int, out: Effects) -> None:
        if batch.answered and not batch.requirement.demanded:
            self._settle(batch, now, wall_ms, out)
            return
        batch.replied = True
        acks = batch.answered.bit_count()
        if batch.damage:
            if len(batch.keys) > 1 and now < batch.deadline:
                self._part_in_halves(batch)
                return
            self._answers.fail(batch.columns, batch.corrupt(), now - batch.started, out)
            return
        error = RequestTimeout(f"{cause}: {acks} of {batch.requirement.needed}", details={"cause": cause, "acks": acks})
        self._answers.fail(batch.columns, error, now - batch.started, out)

    def _settle(self, batch: ReadBatch, now: float, wall_ms: int, out: Effects) -> None:
        batch.replied = True
        try:
            records = batch.merged()
        except ValueError as error:
            self._answers.fail(batch.columns, TooManySiblings(str(error)), now - batch.started, out)
            return
        if len(records) < len(batch.keys):
            # Short of what was asked for: full, or there is damage at the next key.
            is_full = 2 * sum(map(len, filter(None, records))) >= READ_ANSWER_BYTES
            self._part_with_rest(batch, len(records), is_full, now, out)
        if batch.columns.options.explain:
            explained = self._explain(batch, batch.keyspace, records)
            for call in batch.columns.calls:
                call.explain = explained
        values, tokens = read_column(records, wall_ms)
        self._metrics.quorums("get", MODE).observe(now - batch.started, len(records))
        self._answers.settle(batch, tokens, values, batch.keyspace, now, out)

    def _part_in_halves(self, batch: ReadBatch) -> None:
        """Have the halves asked for apart: the first key is damaged on some replica, the others may be as well."""
        middle, end = len(batch.keys) // 2, len(batch.keys)
        self._ask_again(batch, 0, middle)
        self._ask_again(batch, middle, end)
        batch.columns, batch.keys = batch.columns.select(range(0)), []

    def _ask_again(self, batch: ReadBatch, begin: int, end: int) -> None:
        part = Located(batch.replicas, batch.columns.select(range(begin, end)), batch.keys[begin:end])
        self.unasked.append(
            ReadBatch(self._new_batch(), part, batch.requirement, batch.started, keyspace=batch.keyspace)
        )

    def _part_with_rest(self, batch: ReadBatch, count: int, is_full: bool, now: float, out: Effects) -> None:
        """Leave ``batch`` its first ``count`` operations, which were read."""
        columns, keys = batch.columns, batch.keys
        begin, total = count, len(keys)
        while is_full and count and begin < total and columns.calls[begin] is columns.calls[count - 1]:
            begin += 1
        if begin > count:
            message = f"a replica's answer is full at {READ_ANSWER_BYTES} bytes; ask for this key again by itself"
            self._answers.fail(columns.select(range(count, begin)), TooLarge(message), now - batch.started, out)
        if begin < total:
            self._ask_again(batch, begin, total)
        batch.columns, batch.keys = columns.select(range(count)), keys[:count]
