"""The Mode port: a consistency mode as a node sees it.

A mode is a pure machine. The node hands it the part of each tick that belongs to its keyspaces and its peer frames;
it answers through :class:`~kvbus.core.tick.Effects`. It promises nothing to anyone before the engine's ``Persisted``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from kvbus.core.keyspace import Keyspace
from kvbus.core.links import Links
from kvbus.core.metrics import Metrics
from kvbus.core.tick import Effects, Tick
from kvbus.core.topology import Topology
from kvbus.core.types import NodeIndex
from kvbus.ports.engine import Engine


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds that a node keeps; each is told in the reply to ``hello``.

    ``key_bytes``, ``value_bytes``: the longest key and value. ``batch_keys``: operations in one batch.
    ``request_bytes``, ``reply_bytes``: one body. ``pending_ops``: operations in flight before the node sheds load.
    ``siblings``: a coordinated put that would leave more is refused.
    """

    key_bytes: int = 1024
    value_bytes: int = 10_240
    batch_keys: int = 1024
    request_bytes: int = 16 << 20
    reply_bytes: int = 4 << 20
    scan_keys: int = 1000
    pending_ops: int = 65_536
    siblings: int = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class ModeContext:
    """What a mode is given once, at the start."""

    me: NodeIndex
    topology: Topology
    keyspaces: Mapping[str, Keyspace]
    engine: Engine
    links: Links
    limits: Limits
    metrics: Metrics
    incarnation: int
    """Below 2^24, and higher at every start; a new data directory's first one is taken from the wall clock."""
    hold_floor: int | None
    """AP: the first version epoch of the hold that a clean stop handed on; None after an unclean one."""


class Mode(Protocol):
    """One consistency mode on one node; what has a body here is what a mode gets by inheriting."""

    @property
    def token_name(self) -> str:
        """The reply field that carries a version token: ``ctx`` or ``rev``; a batch's is its plural."""
        ...

    def step(self, tick: Tick, out: Effects) -> None:
        """Take what arrived, in one turn; put every effect into ``out``."""
        ...

    def pending(self) -> int:
        """Return the number of client operations in flight."""
        ...

    def hand_over(self) -> int | None:
        """Return what the next start may continue from after a clean stop (``ModeContext.hold_floor``)."""
        return None

    def status(self) -> dict[str, int]:
        """Return counters and gauges by name, for ``stats`` and metrics."""
        return {"pending_operations": self.pending()}


class ModePlugin(Protocol):
    """What a mode's package exports under the name ``MODE``."""

    @property
    def name(self) -> str:
        """The word that a keyspace's ``mode`` setting uses."""
        ...

    @property
    def frame_kinds(self) -> range:
        """The peer frame kinds that belong to this mode."""
        ...

    @property
    def operations(self) -> Mapping[str, frozenset[str]]:
        """The request kinds this mode serves, each with the optional request fields that it has there."""
        ...

    def create(self, context: ModeContext) -> Mode:
        """Build the mode's machine and recover its state from the engine."""
        ...


@runtime_checkable
class VersionedPlugin(ModePlugin, Protocol):
    """A mode whose version tokens name events at servers; tools show them."""

    def clock(self, token: bytes) -> dict[int, int]:
        """Count the events that a version token covers, by server short id."""
        ...

    def dots(self, token: bytes) -> Sequence[tuple[int, int, int, int]]:
        """List a version token for debugging: (server short id, epoch, first counter, last counter) of each run."""
        ...
