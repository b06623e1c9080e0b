"""The AP mode on one node: takes each tick apart and hands the parts to its coordinators.

Order inside a step: links, answers and reads before writes, so that a read never sees a write of its own tick; what
does see an unsynced write waits for the disk. ``Persisted`` comes in a later step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import inf

from kvbus.core.columns import pack_column
from kvbus.core.keyspace import Keyspace
from kvbus.core.locator import Located, Locator
from kvbus.core.quorum import ReplicaSet, Requirement, requirement
from kvbus.core.request import Options, PeerOrigin, RequestColumns, ScanRequest
from kvbus.core.tick import Effects, Tick
from kvbus.core.types import BatchId, NodeIndex
from kvbus.errors import ClientError, Corrupt, Overloaded, PeerProtocolError, StaleEpoch
from kvbus.ports.mode import ModeContext
from kvbus.wire.client_requests import Intake, ServedKeyspace
from kvbus.wire.peer_frames import HEAD_BYTES, Head, pack_head, unpack_head
from kvbus_modes.ap import frames
from kvbus_modes.ap.alarm import Alarm
from kvbus_modes.ap.answers import TOKEN, Answers
from kvbus_modes.ap.causality import Context
from kvbus_modes.ap.explain import Explainer
from kvbus_modes.ap.forwarding import Forwarding, portions
from kvbus_modes.ap.ranges import Range
from kvbus_modes.ap.reads import Reads
from kvbus_modes.ap.repairs import Repairs
from kvbus_modes.ap.replica import Replica
from kvbus_modes.ap.scans import Scans
from kvbus_modes.ap.serving import Serving
from kvbus_modes.ap.siblings import Hold
from kvbus_modes.ap.writes import Writes

OPERATIONS: Mapping[str, frozenset[str]] = {
    "get": frozenset({"r", "pr", "cl", "receipt", "explain"}),
    "put": frozenset({"w", "pw", "cl", "ttl_ms", "ctx", "receipt"}),
    "delete": frozenset({"w", "pw", "cl", "ctx", "receipt"}),
    "scan": frozenset({"r", "pr", "cl", "receipt"}),
}
EPOCH_BITS = 38
"""A version epoch is the node's incarnation in the upper bits and a count in these: a durable block a start."""
PROBE_SECONDS = 1.0
_RETRY_AFTER_MS = 20


class ApMode:
    """One node's AP machine; see :class:`kvbus.ports.mode.Mode`."""

    token_name = TOKEN

    def __init__(self, context: ModeContext) -> None:
        topology, links = context.topology, context.links
        self._context = context
        self._me = context.me
        self._epoch = topology.epoch
        self._keyspaces = {name: ks for name, ks in context.keyspaces.items() if ks.mode == "ap"}
        self._locators = {name: Locator(topology, ks) for name, ks in self._keyspaces.items()}
        self._local_dc = topology.members[context.me].dc
        self._next_batch = context.incarnation << EPOCH_BITS
        first = context.incarnation << EPOCH_BITS
        self._hold = Hold(context.me, first, first + (1 << EPOCH_BITS) - 1)
        if context.hold_floor is not None:
            self._hold.floor = context.hold_floor
        self._replica = Replica(context.engine, context.metrics)
        self._alarm = Alarm()
        self._answers = Answers(links, topology, context.limits.reply_bytes, context.metrics)
        self._intake = Intake(
            {name: ServedKeyspace("ap", TOKEN, OPERATIONS) for name in self._keyspaces}, context.limits
        )
        self._repairs = Repairs(
            replica=self._replica,
            hold=self._hold,
            links=links,
            alarm=self._alarm,
            metrics=context.metrics,
            topology=topology,
            new_batch=self._new_batch,
        )
        self._serving = Serving(
            replica=self._replica, repairs=self._repairs, metrics=context.metrics, epoch=self._epoch
        )
        self._writes = Writes(
            replica=self._replica,
            repairs=self._repairs,
            hand_over=self._hand_over,
            hold=self._hold,
            links=links,
            answers=self._answers,
            alarm=self._alarm,
            metrics=context.metrics,
            epoch=self._epoch,
            sibling_cap=context.limits.siblings,
            new_batch=self._new_batch,
        )
        self._reads = Reads(
            replica=self._replica,
            repairs=self._repairs,
            links=links,
            answers=self._answers,
            alarm=self._alarm,
            metrics=context.metrics,
            epoch=self._epoch,
            explain=Explainer(context.me, topology, self._answers.guarantee).explain,
            new_batch=self._new_batch,
        )
        self._scans = Scans(
            replica=self._replica,
            links=links,
            answers=self._answers,
            alarm=self._alarm,
            topology=topology,
            reply_bytes=context.limits.reply_bytes,
            new_batch=self._new_batch,
        )
        self._forwarding = Forwarding(links=links, answers=self._answers, alarm=self._alarm, epoch=self._epoch)
        # While none is silent, inf.
        self._next_probe = inf
        self._open = (self._writes.open, self._reads.open, self._scans.open, self._forwarding.open, self._repairs.open)

    def step(self, tick: Tick, out: Effects) -> None:
        """Take what arrived, in one turn; put every effect into ``out``."""
        now, wall_ms = tick.now, tick.wall_ms
        if lost := [peer for peer, is_up in tick.links if not is_up]:
            self._links_lost(lost, now, wall_ms, out)
        if tick.append_failed:
            self._hold.end()
        self._replica.take(tick, out)
        writes = self._take_frames(tick, out)
        for columns in tick.requests:
            if columns.kind == "get":
                self._start(columns, now, wall_ms, out)
        for scan in tick.scans:
            self._start_scan(scan, now, out)
        if self._reads.unasked:
            self._reads.proceed(now, wall_ms, out)
        if self._scans.queue:
            self._scans.proceed(now, wall_ms, out)
        for peer, head, frame in writes:
            try:
                self._serving.write(peer, head, frame, out)
            except PeerProtocolError as error:
                self._count_break(peer, error, out)
        for columns in tick.requests:
            if columns.kind != "get":
                self._start(columns, now, wall_ms, out)
        self._repairs.proceed(now, out)
        self._sweep(tick, out)

    def pending(self) -> int:
        """Return the number of client operations in flight."""
        return self._answers.pending

    def hand_over(self) -> int | None:
        """Return the hold's floor: after a clean stop the next start may continue the epochs from there on."""
        return self._hold.floor

    def status(self) -> dict[str, int]:
        """Return counters and gauges by name."""
        return {
            "pending_operations": self._answers.pending,
            "open_writes": len(self._writes.open),
            "open_reads": len(self._reads.open),
            "open_forwards": len(self._forwarding.open),
            "open_repairs": len(self._repairs.open),
        }

    def _take_frames(self, tick: Tick, out: Effects) -> list[tuple[NodeIndex, Head, bytes]]:
        """Handle every peer frame but writes, which are returned; what breaks the protocol is counted and dropped."""
        writes: list[tuple[NodeIndex, Head, bytes]] = []
        for peer, frame in tick.frames:
            try:
                head = unpack_head(frame)
                if head.kind == frames.WRITE:
                    writes.append((peer, head, frame))
                else:
                    self._take_frame(peer, head, frame, tick, out)
            except PeerProtocolError as error:
                self._count_break(peer, error, out)
        return writes

    def _count_break(self, peer: NodeIndex, error: PeerProtocolError, out: Effects) -> None:
        out.trace("peer_protocol_error", peer=peer, reason=str(error))
        self._context.metrics.peer_protocol_errors_total += 1

    def _take_frame(self, peer: NodeIndex, head: Head, frame: bytes, tick: Tick, out: Effects) -> None:
        now, wall_ms, batch = tick.now, tick.wall_ms, BatchId(head.batch)
        kind = head.kind
        if kind == frames.WRITE_ACK:
            self._writes.acknowledged(peer, batch, frames.read_ack(frame), now, out)
        elif kind == frames.READ_ANSWER:
            records, path = frames.read_records(frame, head.flags)
            if batch in self._repairs.open:
                self._repairs.answered(peer, batch, records, now, out)
                return
            if path:
                self._reads.note_path(peer, batch, frames.read_path(path))
            self._reads.answered(peer, batch, records, now, wall_ms, out)
        elif kind == frames.READ:
            self._serving.read(peer, head, frame, now, out)
        elif kind == frames.FORWARD:
            self._serve_forward(peer, head, frame, tick, out)
        elif kind == frames.FORWARD_ANSWER:
            self._forwarding.answered(peer, batch, frame[HEAD_BYTES:], now, out)
        elif kind == frames.SCAN:
            self._serving.scan(peer, head, frame, now, out)
        elif kind == frames.SCAN_ANSWER:
            found = Range(*frames.read_write(frame), bool(head.flags & frames.EXHAUSTED))
            self._scans.answered(peer, batch, found, now, wall_ms, out)
        else:
            raise PeerProtocolError(f"no AP frame has kind {kind:#x}")

    def _links_lost(self, peers: list[NodeIndex], now: float, wall_ms: int, out: Effects) -> None:
        self._writes.links_lost(peers, now, out)
        self._reads.links_lost(peers, now, wall_ms, out)
        self._scans.links_lost(peers, now, wall_ms, out)
        self._forwarding.links_lost(peers, now, out)
        self._repairs.links_lost(peers, now, out)

    def _sweep(self, tick: Tick, out: Effects) -> None:
        """Look at all that is open: when the alarm has it so, and when a peer fell silent."""
        alarm, now, wall_ms = self._alarm, tick.now, tick.wall_ms
        if tick.fell_silent or now >= alarm.at or now >= self._next_probe:
            alarm.at = inf
            self._writes.sweep(now, out)
            self._reads.sweep(now, wall_ms, out)
            self._scans.sweep(now, wall_ms, out)
            self._forwarding.sweep(now, out)
            self._repairs.sweep(now, out)
            self._probe(now, out)
        if not any(self._open):
            alarm.at = inf
        due = min(alarm.at, self._context.links.next_silence, self._next_probe)
        if due < inf:
            out.wake(due)

    def _probe(self, now: float, out: Effects) -> None:
        """Ask silent peers for a sign of life: reads avoid them, so without writes nobody else would."""
        links = self._context.links
        silent = links.reachable() & ~links.responsive(now)
        if not silent:
            self._next_probe = inf
        elif self._next_probe == inf or now >= self._next_probe:
            self._next_probe = now + PROBE_SECONDS
            probe = self._head(frames.READ, self._new_batch()) + pack_column([])
            for peer in range(silent.bit_length()):
                if silent >> peer & 1:
                    out.send_peer(NodeIndex(peer), probe)

    def _new_batch(self) -> BatchId:
        self._next_batch += 1
        return BatchId(self._next_batch)

    def _resolve(self, kind: str, options: Options, keyspace: Keyspace, replicas: ReplicaSet) -> Requirement:
        reading = kind in ("get", "scan")
        return requirement(
            asked=options.r if reading else options.w,
            primaries=options.pr if reading else options.pw,
            level=options.cl,
            default=keyspace.r if reading else keyspace.w,
            defaults_demanded=keyspace.availability == "quorum",
            replicas=replicas,
            local_dc=self._local_dc,
        )

    def _start(self, columns: RequestColumns, now: float, wall_ms: int, out: Effects) -> None:
        keyspace = self._keyspaces[columns.keyspace]
        admitted = self._admit(columns, now, out)
        if admitted is None:
            return
        columns = admitted
        # A write is sent to the writable replicas only, so those alone can meet its demand.
        links = self._context.links
        alive = links.reachable() if columns.kind == "get" else links.writable()
        for located in self._locators[columns.keyspace].locate(columns):
            try:
                required = self._resolve(columns.kind, columns.options, keyspace, located.replicas)
            except ClientError as error:
                self._answers.fail(located.columns, error, 0.0, out)
                continue
            refusal = required.refusal(located.replicas.mask & alive)
            if refusal is not None:
                self._answers.fail(located.columns, refusal, 0.0, out)
            elif columns.kind == "get":
                self._reads.start(located, keyspace, required, now, wall_ms, out)
            elif located.replicas.mask >> self._me & 1:
                self._writes.start(located, keyspace, required, now, wall_ms, out)
            else:
                stale = StaleEpoch("forwarded to a node that holds no copy of the key", details={"epoch": self._epoch})
                self._forward(located, stale, now, out)

    def _admit(self, columns: RequestColumns, now: float, out: Effects) -> RequestColumns | None:
        """Count operations as pending, shed those beyond the limit and return the others; None where none is left."""
        count = len(columns.calls)
        room = max(0, self._context.limits.pending_ops - self._answers.pending)
        self._answers.pending += count
        if count > room:
            self._context.metrics.shed_total += count - room
            self._answers.fail(columns.select(range(room, count)), _overloaded(), 0.0, out)
            if not room:
                return None
            columns = columns.select(range(room))
        return columns

    def _hand_over(self, located: Located, now: float, out: Effects) -> None:
        """Have another replica coordinate what this one cannot: its copies are damaged, and not all others answer."""
        others = located.replicas.without(self._me)
        missing = self._context.topology.names(others.mask & ~self._context.links.responsive(now))
        error = Corrupt(
            f"this node's copy is damaged, and what it had cannot be read from all other replicas "
            f"(missing: {', '.join(missing) or 'none'}); ask another node, or bring those back"
        )
        if others.mask & self._context.links.reachable():
            self._forward(Located(others, located.columns, located.engine_keys), error, now, out)
        else:
            self._answers.fail(located.columns, error, 0.0, out)

    def _forward(self, located: Located, refusal: ClientError, now: float, out: Effects) -> None:
        """Send clients' operations to a replica; those that a peer sent here go no further, but get ``refusal``."""
        columns = located.columns
        ours = [i for i, call in enumerate(columns.calls) if not isinstance(call.origin, PeerOrigin)]
        if len(ours) < len(columns.calls):
            theirs = [i for i, call in enumerate(columns.calls) if isinstance(call.origin, PeerOrigin)]
            self._answers.fail(columns.select(theirs), refusal, 0.0, out)
            columns = columns.select(ours)
        for part in portions(columns, self._context.limits):
            self._forwarding.start(self._new_batch(), located.replicas, part, now, out)

    def _start_scan(self, scan: ScanRequest, now: float, out: Effects) -> None:
        keyspace = self._keyspaces[scan.keyspace]
        columns = RequestColumns("scan", scan.keyspace, scan.options)
        columns.calls, columns.slots, columns.keys = [scan.call], [0], [b""]
        if self._admit(columns, now, out) is None:
            return
        resolve = partial(self._resolve, "scan", scan.options, keyspace)
        try:
            self._scans.start(scan, columns, keyspace, resolve, now)
        except ClientError as error:
            self._answers.fail(columns, error, 0.0, out)

    def _serve_forward(self, peer: NodeIndex, head: Head, frame: bytes, tick: Tick, out: Effects) -> None:
        """Coordinate for ``peer``: its request joins this tick's, after the reads."""
        forwarded = Tick(tick.now, tick.wall_ms)
        self._intake.add(PeerOrigin(peer, head.batch), frame[HEAD_BYTES:])
        for call in self._intake.hand_over(forwarded):
            self._answers.finish(call, out)
        tick.requests = [*tick.requests, *forwarded.requests]

    def _head(self, kind: int, batch: int, flags: int = 0) -> bytes:
        return pack_head(kind, space=0, batch=batch, epoch=self._epoch, flags=flags)


def _overloaded() -> Overloaded:
    return Overloaded("the node has too many operations in flight", details={"retry_after_ms": _RETRY_AFTER_MS})


class ApPlugin:
    """What the registry knows of the AP mode; see :class:`kvbus.ports.mode.ModePlugin`."""

    name = "ap"
    frame_kinds = frames.FRAME_KINDS
    operations = OPERATIONS

    def create(self, context: ModeContext) -> ApMode:
        """Build the mode's machine."""
        return ApMode(context)

    def clock(self, token: bytes) -> dict[int, int]:
        """Count the events that a context covers, by server short id."""
        return Context.from_bytes(token).clock()

    def dots(self, token: bytes) -> Sequence[tuple[int, int, int, int]]:
        """List a context for debugging: (server short id, epoch, first counter, last counter) of each run of dots."""
        return [(*actor, first, last) for actor, first, last in Context.from_bytes(token).dots()]
