"""The client as a pure machine: operations in, frames and outcomes out. No socket, no clock.

Rules:

- Every operation is settled exactly once: by its answer, or by the machine at its deadline and a margin.
- A write that may have reached a node is never sent again; when its connection is lost the outcome is unknown.
- A read whose connection is lost, and anything that a node refused for reasons of its own (``shutting_down``,
  ``overloaded``, ``stale_epoch``) with nothing applied, goes to another replica within the deadline.
- All frames of one turn for one replica set go to the same node, so that writes of one key keep their order.

An operation's way::

    submitted ──flush──► waiting ──flush──► in flight ──answer──► settled
                            ▲  (a node is up)   │
                            └── retry: delayed ◄┘

The shell calls :meth:`ClientMachine.flush` after every turn in which something happened, or as soon as ``submit`` says
that frames are full, and sends what it returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from kvbus.client.failures import Unreachable
from kvbus.client.introduction import Introduction
from kvbus.client.links import Links, LinkState
from kvbus.client.operation import WRITES, Operation
from kvbus.client.packing import FRAME_KEYS, Frame, pack
from kvbus.client.replies import MalformedReply, Outcome, outcomes
from kvbus.client.routing import ANY_NODE
from kvbus.errors import (
    BadRequest,
    ClientError,
    Internal,
    Overloaded,
    RequestTimeout,
    ShuttingDown,
    StaleEpoch,
    TooLarge,
)
from kvbus.wire.cbor import CborError, decode_map

Routing = Literal["topology", "direct"]

MARGIN_SECONDS = 0.25
"""How long after the deadline the client gives up: the node's own answer at the deadline says more."""
SWEEP_SECONDS = 0.025
"""How often the shell should call ``sweep`` while something is open."""
MAX_TRIES = 4
REQUEST_BYTES = 16 << 20
MAX_OPEN = 262_144
MAX_UNANSWERED = 8192
"""How many frames are on their way at most: a node keeps 16,384 unread replies for a client."""
_FLUSH_OPERATIONS = 16_384
_SHUN_SECONDS = 1.0
_DEFAULT_RETRY_MS = 20


class Send(NamedTuple):
    """Effect: send ``body`` to ``address``; report ``request_id`` to ``not_sent`` if that fails."""

    address: str
    request_id: int
    body: bytes


class _Request(NamedTuple):
    address: str
    frame: Frame
    deadline: float


class ClientMachine:
    """All state of one client. Times are seconds of one monotonic clock, given by the shell.

    ``routing`` "topology" learns the cluster's table and sends each request straight to a replica; "direct" sends
    everything to the first of ``addresses`` that can be reached. ``packing`` False puts each operation into a frame
    of its own. ``client_name`` introduces the client to the nodes; ``first_home`` (any number, best a random one)
    spreads clients over the replicas.

    A client stays with one replica of a group while it can: the versions of a key whose writes one node coordinates
    have one actor, which is the cheap case everywhere, and what it sends meets in one node's ticks.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        routing: Routing = "topology",
        packing: bool = True,
        client_name: str = "kvbus-python",
        first_home: int = 0,
    ) -> None:
        self.links = Links(addresses)
        self.unmatched_replies = 0
        self._direct = routing == "direct"
        self._packing = packing
        self._introduction = None if self._direct else Introduction(client_name)
        self._submitted: list[Operation] = []
        self._waiting: list[Operation] = []
        self._taken_back = 0
        self._delayed: list[Operation] = []
        self._open: dict[int, _Request] = {}
        self._open_operations = 0
        self._next_id = 0
        self._first_home = first_home
        self._enough = FRAME_KEYS

    def submit(self, operation: Operation) -> bool:
        """Take an operation; it leaves with the next flush. The operation itself is the ticket.

        Returns True when a frame's worth waits for each replica set: flushed now, it keeps the nodes busy while the
        caller issues more. Never while earlier operations could not leave: they would be packed again each time.
        """
        submitted = self._submitted
        submitted.append(operation)
        return len(submitted) >= self._enough and not self._waiting

    @property
    def busy(self) -> bool:
        """Tell whether anything is open, so that ``sweep`` must be called."""
        return bool(self._open or self._waiting or self._delayed or self._submitted)

    @property
    def sendable(self) -> bool:
        """Tell whether a flush would send something."""
        return bool(self._submitted or self._waiting) and self.links.any_up and self._has_room()

    def flush(self, now: float) -> list[Send]:
        """Pack what was submitted and what waits; return the frames to send, in order."""
        self._admit(now)
        if self._introduction is not None and self.links.any_up:
            self._waiting += self._introduction.questions(now)
        if not (self._waiting and self.links.any_up and self._has_room()):
            return []
        count = _FLUSH_OPERATIONS if self._packing else MAX_UNANSWERED - len(self._open)
        operations, later = self._waiting[:count], self._waiting[count:]
        kept: list[Operation] = []
        self._taken_back = 0
        homes: dict[int, str | None] = {}
        sends: list[Send] = []
        table = self._introduction.table if self._introduction is not None else None
        batch_keys = self._introduction.batch_keys if self._introduction is not None else FRAME_KEYS
        for frame in pack(operations, table, packing=self._packing, batch_keys=batch_keys):
            group = frame.group
            if group not in homes:
                homes[group] = self._home(group, now)
            address = homes[group]
            if address is None or len(self._open) >= MAX_UNANSWERED:
                kept += frame.operations
                continue
            self._next_id += 1
            body = frame.encode(self._next_id, now)
            if len(body) > REQUEST_BYTES:
                for operation in frame.operations:
                    operation.settle(TooLarge(f"a request may have {REQUEST_BYTES} bytes, this one has {len(body)}"))
                continue
            self._open[self._next_id] = _Request(address, frame, frame.operations[0].deadline)
            self._open_operations += len(frame.operations)
            sends.append(Send(address, self._next_id, body))
        self._waiting = kept + later
        return sends

    def received(self, address: str, body: bytes, now: float) -> None:
        """Take one reply: settle its operations, or send them elsewhere."""
        try:
            reply = decode_map(body)
        except CborError:
            self.unmatched_replies += 1
            return
        request_id = reply.get("id")
        request = self._open.get(request_id) if isinstance(request_id, int) else None
        if request is None or request.address != address or not isinstance(request_id, int):
            # It came after the client gave up, or answers a frame that the node could not read.
            self.unmatched_replies += 1
            return
        operations = self._close(request_id).frame.operations
        count = len(operations)
        try:
            found = outcomes(operations[0].kind, count, count > 1, reply)
        except MalformedReply as error:
            found = [Internal(f"{address} sent a reply that breaks the protocol: {error}") for _ in operations]
        refused_whole = reply.get("ok") is not True
        for operation, outcome in zip(operations, found, strict=True):
            if isinstance(outcome, ClientError):
                crowded = count > 1 and (refused_whole or operation.kind == "get")
                self._failed(operation, outcome, address, crowded, now)
            else:
                operation.settle(outcome)
        self._learn(now)

    def link_changed(self, address: str, state: LinkState, now: float) -> None:
        """Follow a connection; what was in flight on a lost one goes elsewhere or fails."""
        self.links.set(address, state)
        if state is LinkState.DOWN:
            self._lost(address, now)

    def not_sent(self, request_id: int, now: float) -> None:
        """Take back a frame that the socket refused: nothing of it left."""
        request = self._close(request_id)
        self.links.shun(request.address, now + SWEEP_SECONDS)
        operations = request.frame.operations
        self._waiting[self._taken_back : self._taken_back] = operations
        self._taken_back += len(operations)

    def sweep(self, now: float) -> None:
        """Settle what is past its deadline."""
        late = now - MARGIN_SECONDS
        for request_id in [number for number, request in self._open.items() if request.deadline < late]:
            request = self._close(request_id)
            self.links.shun(request.address, now + _SHUN_SECONDS)
            for operation in request.frame.operations:
                operation.settle(_timeout(operation, request.address))
        self._admit(now)
        if self._waiting:
            overdue = [operation for operation in self._waiting if operation.deadline <= now]
            self._waiting = [operation for operation in self._waiting if operation.deadline > now]
            for operation in overdue:
                operation.settle(_unreachable(self.links.addresses) if self._has_room() else _crowded_out())

    def close(self) -> None:
        """Settle everything that is open: what was never sent failed, the outcome of the rest is unknown."""
        for operation in (*self._submitted, *self._waiting, *self._delayed):
            operation.settle(Unreachable("the client was closed before the request was sent"))
        self._submitted, self._waiting, self._delayed = [], [], []
        for request_id in list(self._open):
            for operation in self._close(request_id).frame.operations:
                operation.settle(_unknown("the client was closed before the answer came", "client closed"))

    def _admit(self, now: float) -> None:
        """Start the clock of what is new; end the pause of what was delayed."""
        if self._submitted:
            operations, self._submitted = self._submitted, []
            room = MAX_OPEN - self._open_operations - len(self._waiting) - len(self._delayed)
            for operation in operations[max(0, room) :]:
                operation.settle(Overloaded(f"{MAX_OPEN} operations are open; await some before sending more"))
            del operations[max(0, room) :]
            for operation in operations:
                operation.deadline = now + operation.terms.deadline_ms * 0.001
            self._waiting += operations
        if self._delayed:
            self._waiting += [operation for operation in self._delayed if operation.due <= now]
            self._delayed = [operation for operation in self._delayed if operation.due > now]

    def _has_room(self) -> bool:
        """Tell whether frames may leave: an eighth of those that may be on their way, so that packing them pays."""
        return len(self._open) <= MAX_UNANSWERED * 7 // 8

    def _home(self, group: int, now: float) -> str | None:
        if self._introduction is None:
            return self.links.first(now)
        table = self._introduction.table
        replicas = () if group == ANY_NODE or table is None else table.groups[group]
        return self.links.choose(replicas, self._first_home + group, now)

    def _close(self, request_id: int) -> _Request:
        request = self._open.pop(request_id)
        self._open_operations -= len(request.frame.operations)
        return request

    def _failed(self, operation: Operation, error: ClientError, address: str, crowded: bool, now: float) -> None:
        """Settle a failed operation, or let it go elsewhere. ``crowded``: by itself it might succeed."""
        if not error.definite:
            operation.settle(error)
        elif crowded and isinstance(error, BadRequest | TooLarge):
            # A neighbour's fault refuses a whole batch, and a long reply leaves no room for the last ones.
            operation.alone = True
            self._waiting.append(operation)
        elif isinstance(error, Overloaded):
            pause = _retry_after_ms(error) * 0.001
            self.links.shun(address, now + pause)
            self._try_again(operation, error, now, pause)
        elif isinstance(error, ShuttingDown):
            self.links.shun(address, now + _SHUN_SECONDS)
            self._try_again(operation, error, now, 0.0)
        elif isinstance(error, StaleEpoch):
            self.links.shun(address, now + SWEEP_SECONDS)
            self._ask_for_topology()
            self._try_again(operation, error, now, 0.0)
        else:
            operation.settle(error)

    def _try_again(self, operation: Operation, error: ClientError, now: float, pause: float) -> None:
        operation.tries += 1
        operation.due = now + pause
        if operation.tries >= MAX_TRIES or operation.due >= operation.deadline:
            operation.settle(error)
        elif pause:
            self._delayed.append(operation)
        else:
            self._waiting.append(operation)

    def _lost(self, address: str, now: float) -> None:
        lost = [number for number, request in self._open.items() if request.address == address]
        if lost:
            self._ask_for_topology()
        for request_id in lost:
            for operation in self._close(request_id).frame.operations:
                if operation.kind in WRITES:
                    operation.settle(_unknown(f"the connection to {address} was lost", "connection lost"))
                else:
                    self._waiting.append(operation)

    def _ask_for_topology(self) -> None:
        if self._introduction is not None:
            self._introduction.ask_again()

    def _learn(self, now: float) -> None:
        """Follow a topology that came in: connections to new members, none to members that left."""
        if self._introduction is not None and self._introduction.fresh:
            self._introduction.fresh = False
            table = self._introduction.table
            self._enough = FRAME_KEYS * (len(table.groups) if table is not None else 1)
            for address in self.links.follow(table.addresses if table is not None else ()):
                self._lost(address, now)


def _retry_after_ms(error: Overloaded) -> float:
    asked = error.details.get("retry_after_ms")
    return asked if isinstance(asked, int | float) and asked >= 0 else _DEFAULT_RETRY_MS


def _timeout(operation: Operation, address: str) -> Outcome:
    message = f"no answer from {address} within {operation.terms.deadline_ms} ms"
    if operation.kind in WRITES:
        return _unknown(message, "deadline")
    mend = "ask again, set a longer deadline_ms, or check that this is a node's client address"
    return RequestTimeout(f"{message}; {mend}", details={"cause": "deadline"})


def _unknown(what: str, cause: str) -> Outcome:
    return RequestTimeout(f"{what}; a write may have been applied: read to know", details={"cause": cause})


def _crowded_out() -> Outcome:
    return Unreachable("too many operations were issued before it; issue fewer at a time or set a longer deadline_ms")


def _unreachable(addresses: Sequence[str]) -> Outcome:
    return Unreachable(f"none of {', '.join(addresses)} could be reached; start a node or give other addresses")
