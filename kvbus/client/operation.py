"""One operation of the caller, from submission to its outcome."""

from __future__ import annotations

from kvbus.client.options import PLAIN, Options
from kvbus.client.replies import Outcome

WRITES = frozenset({"put", "delete"})
PACKED = {"get": "mget", "put": "mput"}
"""The operations that can share a frame, and the frame's own operation."""


class Operation:
    """A request and, once it is settled, its ``outcome``.

    ``deadline`` is the machine's time at which the caller gives up, 0 before the first flush. ``tries`` counts refusals
    after which it went elsewhere. ``due`` is the time before which it must not be sent again. ``alone`` keeps it out
    of batches. Shells derive from it to learn of the outcome.
    """

    __slots__ = (
        "alone",
        "ctx",
        "deadline",
        "deadline_ms",
        "due",
        "key",
        "keyspace",
        "kind",
        "options",
        "outcome",
        "tries",
        "value",
    )

    def __init__(
        self,
        kind: str,
        keyspace: str,
        key: bytes | None,
        value: bytes | None = None,
        ctx: bytes | None = None,
        options: Options = PLAIN,
        deadline_ms: int = 5000,
    ) -> None:
        self.kind = kind
        self.keyspace = keyspace
        self.key = key
        self.value = value
        self.ctx = ctx
        self.options = options
        self.deadline_ms = deadline_ms
        self.deadline = 0.0
        self.tries = 0
        self.due = 0.0
        self.alone = False
        self.outcome: Outcome | None = None

    def settle(self, outcome: Outcome) -> None:
        """Take the outcome; called exactly once."""
        self.outcome = outcome
