"""What clients ask, in columns, and the calls that collect the answers.

A *call* is one client frame: a single operation or a batch. Operations of one tick that share keyspace, kind and
options travel together as :class:`RequestColumns`, whatever calls they came from; ``calls[i]`` and ``slots[i]`` say
where the answer of operation ``i`` goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kvbus.errors import ClientError

DEFAULT_KEYSPACE = "default"
DEFAULT_DEADLINE_MS = 5000
MAX_DEADLINE_MS = 600_000
DEADLINE_SHARE = 0.9
"""An operation is given up at this part of its client's deadline, so that the answer still reaches it in time."""


class Options(NamedTuple):
    """What a request may ask for beside keys and values; None means the keyspace's default."""

    r: int | None = None
    w: int | None = None
    pr: int | None = None
    pw: int | None = None
    cl: str | None = None
    ttl_ms: int | None = None
    deadline_ms: int = DEFAULT_DEADLINE_MS
    receipt: bool = False
    explain: bool = False


DEFAULT_OPTIONS = Options()


class Receipt(NamedTuple):
    """What one reply is worth. Source: PROTOCOL.md, "Receipts"."""

    mode: str
    node: str
    epoch: int
    acks: int
    primary: int
    hinted: int
    replicas: list[str]
    guarantee: str


class ClientOrigin(NamedTuple):
    """Where a client's reply goes: the routing id, and whether the client sends REQ's empty delimiter."""

    routing_id: bytes
    delimited: bool


class PeerOrigin(NamedTuple):
    """The peer that forwarded a call, and its name for the call."""

    peer: int
    batch: int


_NOTHING: list[bytes] = []
"""What a read without an outcome holds; slots are replaced, never grown."""


class Call:
    """One frame of requests and its answers so far.

    ``tokens`` holds each operation's version token (AP: context bytes; CP: revision), one slot an operation;
    so does ``values`` in reads. ``remaining`` counts the operations without an answer.
    """

    __slots__ = (
        "acks",
        "degraded",
        "error",
        "errors",
        "explain",
        "fields",
        "id",
        "kind",
        "op",
        "origin",
        "packed",
        "receipt",
        "remaining",
        "token_name",
        "tokens",
        "values",
    )

    def __init__(
        self,
        origin: ClientOrigin | PeerOrigin,
        id: int | bytes | None,
        op: str,
        kind: str,
        count: int,
        packed: bool,
        token_name: str = "ctx",
    ) -> None:
        self.origin = origin
        self.id = id
        self.op = op
        self.kind = kind
        self.packed = packed
        self.token_name = token_name
        self.remaining = count
        self.tokens: list[bytes | int | None] = [None] * count
        self.values: list[list[bytes]] = [_NOTHING] * count if kind == "get" else []
        self.errors: list[tuple[int, ClientError]] = []
        self.error: ClientError | None = None
        self.degraded = False
        self.acks = 0
        self.receipt: Receipt | None = None
        self.explain: dict[str, object] | None = None
        self.fields: dict[str, object] | None = None

    def settle(self, slot: int, token: bytes | int | None, values: list[bytes] | None = None) -> bool:
        """Store one operation's token and, for a read, its values; say whether the call is complete."""
        self.tokens[slot] = token
        if values is not None:
            self.values[slot] = values
        self.remaining -= 1
        return not self.remaining

    def refuse(self, slot: int, error: ClientError) -> bool:
        """Store one operation's error; say whether the call is complete."""
        self.errors.append((slot, error.as_answer()))
        self.remaining -= 1
        return not self.remaining

    def fail(self, error: ClientError) -> None:
        """Let the error be the answer to all of it."""
        self.error = error.as_answer()

    def note_receipt(self, receipt: Receipt) -> None:
        """Keep the weakest receipt of this call's parts."""
        if self.receipt is None or receipt.acks < self.receipt.acks:
            self.receipt = receipt

    def note_degraded(self, acks: int) -> None:
        """Record that part of this call met fewer than its targets; ``acks`` is the smallest count seen."""
        self.acks = min(self.acks, acks) if self.degraded else acks
        self.degraded = True


class RequestColumns:
    """Operations of one kind (``get``, ``put``, ``delete``) on one keyspace with the same options."""

    __slots__ = ("calls", "contexts", "keys", "keyspace", "kind", "options", "slots", "values")

    def __init__(self, kind: str, keyspace: str, options: Options) -> None:
        self.kind = kind
        self.keyspace = keyspace
        self.options = options
        self.calls: list[Call] = []
        self.slots: list[int] = []
        self.keys: list[bytes] = []
        self.values: list[bytes | None] = []
        self.contexts: list[bytes | None] = []

    def select(self, chosen: Sequence[int]) -> RequestColumns:
        """Return the operations at the indices ``chosen`` as columns of their own."""
        part = RequestColumns(self.kind, self.keyspace, self.options)
        part.calls = [self.calls[i] for i in chosen]
        part.slots = [self.slots[i] for i in chosen]
        part.keys = [self.keys[i] for i in chosen]
        if self.values:
            part.values = [self.values[i] for i in chosen]
            part.contexts = [self.contexts[i] for i in chosen]
        return part


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """A ``scan`` of one keyspace: keys with ``prefix`` behind ``cursor``, at most ``limit`` of them."""

    call: Call
    keyspace: str
    options: Options
    prefix: bytes = b""
    limit: int = 1000
    cursor: bytes | None = None
    with_values: bool = False


@dataclass(slots=True)
class NodeRequest:
    """An operation about the node itself: ``hello``, ``ping``, ``topology``, ``stats``, or a fault on purpose."""

    call: Call
    fields: dict[str, object] = field(default_factory=dict[str, object])
