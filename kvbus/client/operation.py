"""One operation of the caller, from submission to its outcome."""

from __future__ import annotations

from kvbus.client.options import Terms
from kvbus.client.replies import Outcome

WRITES = frozenset({"put", "delete"})
PACKED = {"get": "mget", "put": "mput"}
"""The operations that can share a frame, and the frame's own operation."""


class Operation:
    """A request and, once it is settled, its ``outcome``.

    ``deadline`` is the machine's time at which the caller gives up, 0 before the first flush. ``tries`` counts refusals
    after which it went elsewhere; ``due``, set by then, is the time before which it must not be sent again. ``alone``
    keeps it out of batches. Shells derive from it to learn of the outcome.
    """

    __slots__ = (
        "alone",
        "ctx",
        "deadline",
        "due",
        "key",
        "kind",
        "outcome",
        "terms",
        "tries",
        "value",
    )

    due: float

    def __init__(
        self,
        kind: str,
        terms: Terms,
        key: bytes | None,
        value: bytes | None = None,
        ctx: bytes | None = None,
    ) -> None:
        self.kind = kind
        self.terms = terms
        self.key = key
        self.value = value
        self.ctx = ctx
        self.deadline = 0.0
        self.tries = 0
        self.alone = False
        self.outcome: Outcome | None = None

    def settle(self, outcome: Outcome) -> None:
        """Take the outcome; called exactly once."""
        self.outcome = outcome
