"""A whole node, pure: ticks in, effects out.

The node routes a tick's columns, scans and frames to the mode that each belongs to, keeps the links' state, and
answers what is about the node itself. It reads no clock and owns no socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kvbus.core import faults
from kvbus.core.digests import copy_digests
from kvbus.core.keyspace import Keyspace
from kvbus.core.links import Links
from kvbus.core.metrics import Metrics
from kvbus.core.request import DEFAULT_KEYSPACE, NodeRequest
from kvbus.core.tick import Effects, Tick
from kvbus.core.topology import Topology
from kvbus.core.types import NodeIndex
from kvbus.errors import BadRequest, ClientError, Corrupt, CorruptionError, ShuttingDown, UnknownKeyspace, Unsupported
from kvbus.ports.engine import Engine
from kvbus.ports.mode import Limits, Mode

PROTOCOL_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Who this node is: its short id, its name, its cluster's name and the software's version."""

    me: NodeIndex
    name: str
    cluster: str
    version: str


class Node:
    """One member of the cluster as a machine.

    ``modes`` maps a mode's name to its machine, ``frame_modes`` a peer frame's kind to the name of its mode,
    ``operations`` a mode's name to the requests it serves. ``tells_digests`` lets clients have all copies read.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        topology: Topology,
        keyspaces: Mapping[str, Keyspace],
        modes: Mapping[str, Mode],
        frame_modes: Mapping[int, str],
        operations: Mapping[str, Mapping[str, frozenset[str]]],
        links: Links,
        engine: Engine,
        limits: Limits,
        metrics: Metrics,
        tells_digests: bool = False,
    ) -> None:
        self.identity = identity
        self.topology = topology
        self.keyspaces = keyspaces
        self.modes = modes
        self.operations = operations
        self.links = links
        self.engine = engine
        self.limits = limits
        self.metrics = metrics
        self.stopping = False
        self._tells_digests = tells_digests
        self._frame_modes = frame_modes
        self._mode_of = {name: keyspace.mode for name, keyspace in keyspaces.items()}
        self._only = next(iter(modes.values())) if len(modes) == 1 else None

    def step(self, tick: Tick, out: Effects) -> None:
        """Take one tick; put everything to be done into ``out``."""
        for peer, is_up in tick.links:
            self.links.set(peer, is_up)
        for peer, _ in tick.frames:
            self.links.heard(peer, tick.now)
        tick.fell_silent = self.links.look_ahead(tick.now)
        if self.stopping:
            self._refuse(tick, out)
        for request in tick.node_requests:
            self._answer(request, tick, out)
        if self._only is not None:
            self._only.step(tick, out)
            return
        for name, part in self._split(tick).items():
            self.modes[name].step(part, out)

    def pending(self) -> int:
        """Return the number of client operations in flight in all modes."""
        return sum(mode.pending() for mode in self.modes.values())

    def stats(self) -> dict[str, int]:
        """Return counters and gauges by name."""
        found = self._engine_stats()
        for mode_name, mode in self.modes.items():
            found |= {f"{mode_name}_{name}": value for name, value in mode.status().items()}
        found["links_lost_total"] = self.links.lost_total
        found["shed_total"] = self.metrics.shed_total
        found["peer_protocol_errors_total"] = self.metrics.peer_protocol_errors_total
        found["bad_requests_total"] = self.metrics.bad_requests_total
        found["damaged_reads_total"] = self.metrics.damaged_reads_total
        found["topology_epoch"] = self.topology.epoch
        return found

    def _split(self, tick: Tick) -> dict[str, Tick]:
        """Give each mode the part of the tick that is its own; links, silence and persistence go to all."""
        parts: dict[str, Tick] = {}
        for name in self.modes:
            part = parts[name] = Tick(tick.now, tick.wall_ms)
            part.links, part.persisted, part.append_failed = tick.links, tick.persisted, tick.append_failed
            part.fell_silent = tick.fell_silent
        for columns in tick.requests:
            parts[self._mode_of[columns.keyspace]].requests.append(columns)
        for scan in tick.scans:
            parts[self._mode_of[scan.keyspace]].scans.append(scan)
        for peer, frame in tick.frames:
            owner = self._frame_modes.get(frame[0]) if frame else None
            if owner is None:
                self.metrics.peer_protocol_errors_total += 1
            else:
                parts[owner].frames.append((peer, frame))
        return parts

    def _refuse(self, tick: Tick, out: Effects) -> None:
        error = ShuttingDown("the node is stopping; ask another one")
        for columns in tick.requests:
            for call in dict.fromkeys(columns.calls):
                out.fail(call, error)
        for scan in tick.scans:
            out.fail(scan.call, error)
        tick.requests, tick.scans = [], []

    def _answer(self, request: NodeRequest, tick: Tick, out: Effects) -> None:
        call = request.call
        if call.op in faults.OPERATIONS:
            out.fault_requests.append(request)
            return
        try:
            call.fields = self._about(call.op, request.fields, tick.now)
        except ClientError as error:
            out.fail(call, error)
            return
        out.reply(call)

    def _about(self, op: str, fields: Mapping[str, object], now: float) -> dict[str, object]:
        if op == "hello":
            if fields.get("v") != PROTOCOL_VERSION:
                raise BadRequest(f"this node speaks protocol version {PROTOCOL_VERSION}; send v: {PROTOCOL_VERSION}")
            return self._hello()
        if op == "topology":
            return self.topology.document(self.links.states(now))
        if op == "stats":
            return {"stats": self.stats()}
        if op in ("admin.flush", "admin.compact"):
            return {"stats": self._begin(op)}
        if op == "admin.digests":
            return {"digests": self._digests(str(fields.get("ks", DEFAULT_KEYSPACE)))}
        return {}

    def _begin(self, op: str) -> dict[str, int]:
        """Begin what the order says; return the engine's stats as they were before it."""
        before = self._engine_stats()
        if op == "admin.flush":
            self.engine.flush()
        else:
            self.engine.compact()
        return before

    def _engine_stats(self) -> dict[str, int]:
        return {f"engine_{name}": value for name, value in self.engine.stats().items()}

    def _digests(self, name: str) -> dict[str, str]:
        keyspace = self.keyspaces.get(name)
        if keyspace is None:
            raise UnknownKeyspace(f"no keyspace {name[:64]!r}; there are: {', '.join(self.keyspaces)}")
        if not self._tells_digests:
            raise Unsupported("reading all copies is for test clusters; set [faults] enabled = true")
        try:
            found = copy_digests(self.engine, self.topology, self.identity.me, keyspace)
        except CorruptionError as error:
            raise Corrupt(str(error)) from error
        return {str(partition): digest for partition, digest in found.items()}

    def _hello(self) -> dict[str, object]:
        limits = self.limits
        return {
            "v": PROTOCOL_VERSION,
            "node": self.identity.name,
            "cluster": self.identity.cluster,
            "version": self.identity.version,
            "epoch": self.topology.epoch,
            "keyspaces": {
                name: {
                    "mode": keyspace.mode,
                    "n": keyspace.n,
                    "r": keyspace.r,
                    "w": keyspace.w,
                    "preset": keyspace.preset,
                    "availability": keyspace.availability,
                }
                for name, keyspace in self.keyspaces.items()
            },
            "limits": {
                "key_bytes": limits.key_bytes,
                "value_bytes": limits.value_bytes,
                "batch_keys": limits.batch_keys,
                "request_bytes": limits.request_bytes,
                "reply_bytes": limits.reply_bytes,
                "scan_keys": limits.scan_keys,
            },
        }
