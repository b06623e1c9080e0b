"""Keys whose own copy is damaged: read from all other replicas, merged, and stored here again.

A node that cannot read its copy of a key does not know any more what it acknowledged, and what one other node knows
need not be all of it: with W = 2 of 3 a version may lie on this node and on any one of the others. So neither a put
nor a WRITE takes a damaged copy's place before *all* the others were read; until then this node answers no read of
the key and acknowledges no write of it.

=================================  ====================  =============================================
a repair is wanted by              happens               another replica whose copy is damaged as well
=================================  ====================  =============================================
a put or delete coordinated here   before it             has nothing to give
a WRITE, refused for such keys     in the background     has nothing to give
a read                             in the background     makes it fail: nobody has asked for less
=================================  ====================  =============================================

So where too few copies are left, reads say so until the key is written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

from kvbus.core.columns import pack_column
from kvbus.core.keyspace import partition_of_key
from kvbus.core.links import Links
from kvbus.core.locator import Located
from kvbus.core.metrics import Metrics
from kvbus.core.quorum import ReplicaSet, mask_of
from kvbus.core.tick import Effects
from kvbus.core.topology import Topology
from kvbus.core.types import BatchId, NodeIndex
from kvbus.errors import PeerProtocolError, ReadOnly
from kvbus.wire.peer_frames import pack_head
from kvbus_modes.ap.acceptance import all_sound
from kvbus_modes.ap.alarm import LOOK_SECONDS, Alarm, on_grid
from kvbus_modes.ap.frames import READ, REPAIR
from kvbus_modes.ap.replica import Replica
from kvbus_modes.ap.siblings import Hold, merge

REPAIR_SECONDS = 1.0
"""How long a repair may take, at most."""
_DEADLINE_SHARE = 0.5
_MOST_WANTED = 1024
_KEYS_AT_ONCE = 64

Repaired = Callable[[bool, float, Effects], None]
"""Called once: with True when all is known that the other replicas know, with False when one of them did not answer."""


class Repair:
    """Keys of one replica set that are asked of its other nodes, ``others``: what each has answered so far."""

    __slots__ = ("anew", "at_once", "awaited", "found", "id", "keys", "others", "then", "until")

    def __init__(
        self, keys: list[bytes], others: ReplicaSet, until: float, *, anew: bool, then: Repaired | None
    ) -> None:
        self.keys = keys
        self.others = others
        self.until = until
        self.anew = anew
        self.then = then
        # How many of the keys are asked for in one round.
        self.at_once = _KEYS_AT_ONCE
        self.id = BatchId(0)
        self.awaited = 0
        self.found: dict[NodeIndex, list[bytes | None]] = {}

    def asked(self) -> list[bytes]:
        """Return the keys of this round."""
        return self.keys[: self.at_once]

    def part(self) -> tuple[list[bytes], list[bytes], int]:
        """Return the keys that the others know, their merged records, and how many keys that settles.

        Answers may be short: one is empty where the first key's copy is damaged there.

        Raises:
            ValueError: siblings cannot be merged into one record.
        """
        columns = list(self.found.values())
        count = min(map(len, columns))
        if not count:
            columns = [column[:1] for column in columns if column] if self.anew else []
        merged = {
            key: reduce(merge, filter(None, records))
            for key, records in zip(self.keys, zip(*columns, strict=False), strict=False)
            if any(records)
        }
        # Where the first one is damaged the next ones may be as well: each would be asked for again and again.
        self.at_once = min(2 * self.at_once, _KEYS_AT_ONCE) if count else 1
        return list(merged), list(merged.values()), max(1, count)


class Repairs:
    """All repairs of this node's copies."""

    def __init__(
        self,
        *,
        replica: Replica,
        hold: Hold,
        links: Links,
        alarm: Alarm,
        metrics: Metrics,
        topology: Topology,
        new_batch: Callable[[], BatchId],
    ) -> None:
        self._replica = replica
        self._hold = hold
        self._links = links
        self._alarm = alarm
        self._metrics = metrics
        self._topology = topology
        self._new_batch = new_batch
        self._me = links.me
        self.open: dict[BatchId, Repair] = {}
        # For the background: each key, and whether it is written anew.
        self._wanted: dict[bytes, bool] = {}
        self._background: Repair | None = None

    def after_read(self, keys: Sequence[bytes]) -> None:
        """Repair in the background what is damaged of ``keys``; the first one is, and the next few are looked at."""
        near = keys[: 1 if self._background else _KEYS_AT_ONCE]
        for index in self._replica.read_each(near)[1]:
            self._want(near[index], False)

    def after_write(self, keys: Sequence[bytes]) -> None:
        """Repair ``keys``, whose WRITE was refused, in the background."""
        for key in keys:
            self._want(key, True)

    def before_write(self, located: Located, then: Repaired, now: float, out: Effects) -> None:
        """Repair the keys of puts or deletes, and go on with ``then``; at once where there is no other replica.

        It takes no more than half of the time that the operations have.
        """
        others = located.replicas.without(self._me)
        if others.mask:
            keys = list(dict.fromkeys(located.engine_keys))
            until = now + min(located.columns.options.deadline_ms * (_DEADLINE_SHARE / 1000), REPAIR_SECONDS)
            self._ask(Repair(keys, others, until, anew=True, then=then), now, out)
        else:
            then(True, now, out)

    def proceed(self, now: float, out: Effects) -> None:
        """Begin the next repair in the background, if there is none."""
        while self._wanted and self._background is None:
            first, anew = next(iter(self._wanted.items()))
            replicas = self._replicas_of(first)
            like = [key for key, way in self._wanted.items() if way is anew and self._replicas_of(key) is replicas]
            keys = like[:_KEYS_AT_ONCE]
            for key in keys:
                del self._wanted[key]
            others = replicas.without(self._me)
            if replicas.mask >> self._me & 1 and others.mask:
                self._background = Repair(keys, others, now + REPAIR_SECONDS, anew=anew, then=None)
                if not self._ask(self._background, now, out):
                    # The next ones have their turn when something happens again.
                    return

    def answered(
        self, node: NodeIndex, batch_id: BatchId, records: list[bytes | None], now: float, out: Effects
    ) -> None:
        """Take another replica's answer.

        Raises:
            PeerProtocolError: the answer is not one to what was asked; the repair fails.
        """
        repair = self.open[batch_id]
        if not repair.awaited >> node & 1:
            return
        self._links.settled(node)
        repair.awaited &= ~(1 << node)
        if len(records) > len(repair.asked()) or not all_sound(records):
            self._end(repair, False, now, out)
            raise PeerProtocolError("a READ_ANSWER holds sound records, and no more than were asked for")
        repair.found[node] = records
        if not repair.awaited:
            self._store(repair, now, out)

    def links_lost(self, nodes: Sequence[NodeIndex], now: float, out: Effects) -> None:
        """Give up what waits for one of ``nodes``."""
        lost = mask_of(nodes)
        failed = [repair for repair in self.open.values() if repair.awaited & lost]
        for repair in failed:
            # Their links owe nothing any more, and what they owe from now on is not to be forgiven.
            repair.awaited &= ~lost
        for repair in failed:
            self._end(repair, False, now, out)

    def sweep(self, now: float, out: Effects) -> None:
        """Give up what is past its time, and what only silent nodes hold up."""
        responsive = self._links.responsive(now)
        for repair in list(self.open.values()):
            if now >= repair.until or repair.awaited & ~responsive:
                self._end(repair, False, now, out)
            else:
                self._alarm.by(on_grid(repair.until, LOOK_SECONDS))

    def _want(self, key: bytes, anew: bool) -> None:
        # Beyond the bound it must be met with again.
        if len(self._wanted) < _MOST_WANTED or key in self._wanted:
            self._wanted[key] = anew or self._wanted.get(key, False)

    def _replicas_of(self, key: bytes) -> ReplicaSet:
        topology = self._topology
        return topology.groups[topology.group_of[partition_of_key(key)]]

    def _ask(self, repair: Repair, now: float, out: Effects) -> bool:
        """Ask all others for the next keys; False where one of them does not answer, and the repair has failed."""
        if repair.others.mask & ~self._links.responsive(now):
            self._end(repair, False, now, out)
            return False
        repair.id, repair.found, repair.awaited = self._new_batch(), {}, repair.others.mask
        self.open[repair.id] = repair
        self._alarm.by(on_grid(repair.until, LOOK_SECONDS))
        head = pack_head(READ, space=0, batch=repair.id, epoch=self._topology.epoch, flags=REPAIR)
        frame = head + pack_column(repair.asked())
        for node in repair.others.nodes:
            out.send_peer(node, frame)
            self._links.sent(node, now)
        return True

    def _store(self, repair: Repair, now: float, out: Effects) -> None:
        """Store what the others know of the next keys, and ask for the rest."""
        try:
            keys, records, count = repair.part()
            self._replica.repair(keys, records, out)
        except (ReadOnly, ValueError):
            self._end(repair, False, now, out)
            return
        if any(map(self._hold.continues, records)):
            # Versions of this hold that only the damaged copy had may be gone: their dots must not come again.
            self._hold.end()
        self._metrics.repaired_records_total += len(keys)
        del self.open[repair.id]
        repair.keys = repair.keys[count:]
        if repair.keys:
            self._ask(repair, now, out)
        else:
            self._end(repair, True, now, out)

    def _end(self, repair: Repair, is_whole: bool, now: float, out: Effects) -> None:
        self.open.pop(repair.id, None)
        for node in repair.others.nodes:
            if repair.awaited >> node & 1:
                self._links.forgiven(node)
        repair.awaited = 0
        if repair is self._background:
            self._background = None
        if repair.then is not None:
            repair.then(is_whole, now, out)
