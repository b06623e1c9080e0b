"""Puts and deletes at their coordinator: one batch a replica set, one encode, one tally.

The batch's bytes go to the peers first, so that their disks work while this node's does, and are counted here when
this node's own log has them. A node that fails single operations of a batch leaves only their tallies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil
from typing import NamedTuple

from kvbus.core.keyspace import Keyspace
from kvbus.core.links import Links
from kvbus.core.locator import Located
from kvbus.core.metrics import Metrics
from kvbus.core.quorum import Requirement
from kvbus.core.tick import Effects
from kvbus.core.types import BatchId, Epoch, NodeIndex
from kvbus.errors import ClientError, CorruptionError, ReadOnly, RequestTimeout
from kvbus.wire.peer_frames import pack_head
from kvbus_modes.ap.alarm import Alarm
from kvbus_modes.ap.answers import MODE, Answers
from kvbus_modes.ap.batch import Batch, Verdict
from kvbus_modes.ap.frames import NO_DIGEST, WRITE, judged_digest, write_payload
from kvbus_modes.ap.overwrites import overwrite
from kvbus_modes.ap.repairs import Repairs
from kvbus_modes.ap.replica import Replica
from kvbus_modes.ap.siblings import Hold, coordinate, sibling_count

_FRAME_BYTES = 8 << 20
"""From here on a batch goes to the peers in several frames: one over 32 MiB would be dropped."""


class WriteBatch(Batch):
    """A coordinated batch: the tokens to answer with, and the operations that some node failed, each on its own.

    ``positions`` maps an operation's index in the frame that was sent to its index in ``columns``; None while they
    are the same. ``stragglers`` holds, by index in the frame, a batch of one operation whose tally differs.
    """

    __slots__ = ("keyspace", "positions", "stragglers", "tokens")

    def __init__(
        self,
        id: BatchId,
        located: Located,
        requirement: Requirement,
        now: float,
        *,
        keyspace: Keyspace,
        tokens: list[bytes | None],
    ) -> None:
        super().__init__(id, located.columns, located.replicas, requirement, now)
        self.keyspace = keyspace
        self.tokens = tokens
        self.positions: dict[int, int] | None = None
        self.stragglers: dict[int, WriteBatch] = {}

    def retire(self, now: float) -> None:
        """Let go of everything but the nodes that still owe an acknowledgement."""
        super().retire(now)
        self.tokens, self.stragglers = [], {}

    def part_with(self, failed: tuple[int, ...]) -> None:
        """Give each operation that a node could not store a tally of its own."""
        positions = self.positions or {index: index for index in range(len(self.columns.keys))}
        leaving = [index for index in failed if index in positions and index not in self.stragglers]
        for index in leaving:
            chosen = [positions[index]]
            part = Located(self.replicas, self.columns.select(chosen), [])
            straggler = WriteBatch(
                self.id, part, self.requirement, self.started, keyspace=self.keyspace, tokens=[self.tokens[chosen[0]]]
            )
            straggler.answered, straggler.awaited, straggler.lost = self.answered, self.awaited, self.lost
            straggler.replied = self.replied
            self.stragglers[index] = straggler
        staying = [index for index in positions if index not in self.stragglers]
        kept = [positions[index] for index in staying]
        self.columns = self.columns.select(kept)
        self.tokens = [self.tokens[position] for position in kept]
        self.positions = {index: position for position, index in enumerate(staying)}


class Versions(NamedTuple):
    """Coordinated operations: the tokens to answer with, the records to store, and what these replace, if known.

    Parts are stored one after the other, so what the later ones replace must be looked up again.
    """

    located: Located
    tokens: list[bytes | None]
    records: list[bytes]
    previous: list[bytes | None] | None = None

    def select(self, chosen: Sequence[int]) -> Versions:
        """Return the operations at the indices ``chosen``."""
        return Versions(
            self.located.select(chosen),
            [self.tokens[index] for index in chosen],
            [self.records[index] for index in chosen],
        )


class Writes:
    """All write batches that this node coordinates."""

    def __init__(
        self,
        *,
        replica: Replica,
        repairs: Repairs,
        hand_over: Callable[[Located, float, Effects], None],
        hold: Hold,
        links: Links,
        answers: Answers,
        alarm: Alarm,
        metrics: Metrics,
        epoch: Epoch,
        sibling_cap: int,
        new_batch: Callable[[], BatchId],
    ) -> None:
        self._replica = replica
        self._repairs = repairs
        self._hand_over = hand_over
        self._hold = hold
        self._links = links
        self._answers = answers
        self._alarm = alarm
        self._metrics = metrics
        self._epoch = epoch
        self._sibling_cap = sibling_cap
        self._new_batch = new_batch
        self._me = links.me
        self.open: dict[BatchId, WriteBatch] = {}

    def start(
        self, located: Located, keyspace: Keyspace, requirement: Requirement, now: float, wall_ms: int, out: Effects
    ) -> None:
        """Coordinate ``located``: add the siblings, store, send the merged records to the other replicas.

        Where this node's copy is damaged, that waits for its repair; if it has none, another replica coordinates.
        """
        keys = located.engine_keys
        try:
            current = self._replica.multi_get(keys)
        except CorruptionError as error:
            self._replica.met_damage(error, out)
            found, damaged = self._replica.read_each(keys)
            if damaged:
                part = located.select(damaged)
                repaired = partial(self._repaired, part, keyspace, requirement, now, wall_ms)
                self._repairs.before_write(part, repaired, now, out)
            intact = sorted(set(range(len(keys))).difference(damaged))
            if not intact:
                return
            # Not read again: one of them may have been readable only because it was in memory.
            located, current = located.select(intact), [found[index] for index in intact]
        self._start(located, current, keyspace, requirement, now, wall_ms, out)

    def _repaired(
        self,
        located: Located,
        keyspace: Keyspace,
        requirement: Requirement,
        begun: float,
        wall_ms: int,
        is_whole: bool,
        now: float,
        out: Effects,
    ) -> None:
        options = located.columns.options
        left_ms = options.deadline_ms - ceil((now - begun) * 1000)
        located.columns.options = options._replace(deadline_ms=max(left_ms, 1))
        if is_whole:
            current = self._replica.present(located.engine_keys)
            self._start(located, current, keyspace, requirement, now, wall_ms, out)
        else:
            self._hand_over(located, now, out)

    def _start(
        self,
        located: Located,
        current: list[bytes | None],
        keyspace: Keyspace,
        requirement: Requirement,
        now: float,
        wall_ms: int,
        out: Effects,
    ) -> None:
        versions = self._coordinate(located, current, wall_ms, out)
        if versions.records:
            self._spread(versions, keyspace, requirement, now, out)

    def _spread(
        self, versions: Versions, keyspace: Keyspace, requirement: Requirement, now: float, out: Effects
    ) -> None:
        """Store and send; what is too long for one frame goes in halves."""
        located, tokens, records, previous = versions
        keys = located.engine_keys
        payload = write_payload(keys, records)
        if len(payload) > _FRAME_BYTES and len(keys) > 1:
            for half in (range(len(keys) // 2), range(len(keys) // 2, len(keys))):
                self._spread(versions.select(half), keyspace, requirement, now, out)
            return
        try:
            lsn = self._replica.store(keys, records, payload, previous, out)
        except ReadOnly as error:
            self._hold.end()
            self._answers.fail(located.columns, error, 0.0, out)
            return
        batch = WriteBatch(self._new_batch(), located, requirement, now, keyspace=keyspace, tokens=tokens)
        batch.awaited = located.replicas.mask & self._links.writable()
        batch.lost = located.replicas.mask & ~batch.awaited
        self.open[batch.id] = batch
        self._alarm.by(batch.deadline)
        digest = NO_DIGEST if previous is None else judged_digest(payload, previous)
        frame = b"".join((pack_head(WRITE, space=keyspace.space, batch=batch.id, epoch=self._epoch), digest, payload))
        for node in located.replicas.nodes:
            if node != self._me and batch.awaited >> node & 1:
                out.send_peer(node, frame)
                self._links.sent(node, now, len(frame))
        self._replica.when_durable(lsn, partial(self._stored_here, batch))

    def acknowledged(
        self, node: NodeIndex, batch_id: BatchId, failed: tuple[int, ...], now: float, out: Effects
    ) -> None:
        """Count a peer's acknowledgement; ``failed`` lists the operations that it could not store."""
        batch = self.open.get(batch_id)
        if batch is None or not batch.awaited >> node & 1:
            return
        self._links.settled(node)
        if failed and not batch.replied:
            batch.part_with(failed)
        lost = dict.fromkeys(failed)
        for index, straggler in batch.stragglers.items():
            if index in lost:
                straggler.take_loss(node)
            else:
                straggler.take_answer(node)
        batch.take_answer(node)
        self._judge_all(batch, now, out)

    def links_lost(self, nodes: Sequence[NodeIndex], now: float, out: Effects) -> None:
        """Stop waiting for ``nodes`` in every batch."""
        for batch in list(self.open.values()):
            if batch.take_losses(nodes):
                for straggler in batch.stragglers.values():
                    straggler.take_losses(nodes)
                self._judge_all(batch, now, out)

    def sweep(self, now: float, out: Effects) -> None:
        """Settle what only silent nodes hold up, and give up what is past its deadline."""
        for batch in list(self.open.values()):
            if now >= batch.deadline:
                for each in (batch, *batch.stragglers.values()):
                    self._expire(each, now, out)
                batch.release(self._links)
                del self.open[batch.id]
            else:
                self._judge_all(batch, now, out)
                self._alarm.by(batch.deadline)

    def _coordinate(self, located: Located, current: list[bytes | None], wall_ms: int, out: Effects) -> Versions:
        """Make each operation's version; operations that fail are answered and left out."""
        columns, keys = located.columns, located.engine_keys
        ttl_ms = columns.options.ttl_ms
        expiry_ms = None if ttl_ms is None else wall_ms + ttl_ms
        timestamp = self._replica.timestamp(wall_ms)
        fresh: dict[bytes, bytes] | None = None
        contexts = columns.contexts
        if len(set(keys)) != len(keys):
            fresh, contexts = {}, _first_of_each(keys, contexts)
        records, tokens, others = overwrite(current, contexts, columns.values, expiry_ms, timestamp, self._hold)
        refused: dict[int, None] = {}
        siblings = self._metrics.siblings
        siblings.observe(1, len(keys) - len(others))
        if fresh is not None:
            fresh.update({key: record for key, record in zip(keys, records, strict=True) if record})
        for index in others:
            present = current[index] if fresh is None else fresh.get(keys[index], current[index])
            context, value = columns.contexts[index], columns.values[index]
            try:
                records[index], tokens[index] = coordinate(
                    present, context, value, expiry_ms, timestamp, self._hold, self._sibling_cap
                )
            except ClientError as error:
                refused[index] = None
                self._answers.fail_one(columns, index, error, out)
            else:
                siblings.observe(sibling_count(records[index]))
                if fresh is not None:
                    fresh[keys[index]] = records[index]
        versions = Versions(located, tokens, records, current)
        if refused:
            versions = versions.select([index for index in range(len(keys)) if index not in refused])
        return versions

    def _stored_here(self, batch: WriteBatch, durable: bool, now: float, out: Effects) -> None:
        for each in (batch, *batch.stragglers.values()):
            if durable:
                each.take_answer(self._me)
            else:
                each.take_loss(self._me)
        self._judge_all(batch, now, out)

    def _judge_all(self, batch: WriteBatch, now: float, out: Effects) -> None:
        """Judge a batch and its stragglers; one that was answered keeps no more than it needs for late answers."""
        is_over = True
        for straggler in batch.stragglers.values():
            self._judge(straggler, now, out)
            is_over = is_over and straggler.replied
        self._judge(batch, now, out)
        if batch.awaited and batch.replied and is_over:
            batch.retire(now)
            self._alarm.by(batch.deadline)

    def _judge(self, batch: WriteBatch, now: float, out: Effects) -> None:
        if not batch.replied:
            verdict = batch.verdict(self._links.responsive(now))
            if verdict is Verdict.MET:
                self._settle(batch, now, out)
            elif verdict is Verdict.SHORT:
                self._give_up(batch, "too few replicas acknowledged", now, out)
        if not batch.awaited:
            self.open.pop(batch.id, None)

    def _expire(self, batch: WriteBatch, now: float, out: Effects) -> None:
        if not batch.replied:
            self._give_up(batch, "the deadline passed", now, out)

    def _give_up(self, batch: WriteBatch, cause: str, now: float, out: Effects) -> None:
        """Answer ``degraded`` where only a target was missed and a copy is durable, else that nothing is known."""
        if batch.answered and not batch.requirement.demanded:
            self._settle(batch, now, out)
            return
        batch.replied = True
        required, acks = batch.requirement.needed, batch.answered.bit_count()
        error = RequestTimeout(
            f"{cause}: {acks} of {required}; the write may still be applied", details={"cause": cause, "acks": acks}
        )
        self._answers.fail(batch.columns, error, now - batch.started, out)

    def _settle(self, batch: WriteBatch, now: float, out: Effects) -> None:
        batch.replied = True
        self._metrics.quorums(batch.columns.kind, MODE).observe(now - batch.started, len(batch.tokens))
        self._answers.settle(batch, batch.tokens, None, batch.keyspace, now, out)


def _first_of_each(keys: list[bytes], contexts: list[bytes | None]) -> list[bytes | None]:
    """Return the contexts of each key's first operation; a later one does not know what the first makes."""
    first = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))
    return [context if first[key] == at else None for at, (key, context) in enumerate(zip(keys, contexts, strict=True))]
