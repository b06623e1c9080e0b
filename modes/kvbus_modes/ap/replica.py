"""This node's own copy: merge what arrives, read, and answer nobody before the disk has it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from kvbus.core.tick import Effects
from kvbus.core.types import Lsn
from kvbus.ports.engine import Engine
from kvbus_modes.ap.acceptance import accept
from kvbus_modes.ap.frames import write_payload

_LOGICAL_BITS = 16

Durable = Callable[[bool, float, Effects], None]
"""Called once with True when the awaited batch is durable, with False when its append failed; and with the time."""


class Replica:
    """The AP mode's view of the engine.

    Invariant: a callback given to :meth:`when_durable` runs exactly once, in log order.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: deque[tuple[Lsn, Durable]] = deque()
        self._last_timestamp = 0
        self.multi_get = engine.multi_get
        self.scan = engine.scan

    def timestamp(self, wall_ms: int) -> int:
        """Return the next hybrid logical clock stamp: wall ms in the upper 48 bits, a counter in the lower 16."""
        self._last_timestamp = max(self._last_timestamp + 1, wall_ms << _LOGICAL_BITS)
        return self._last_timestamp

    def store(self, keys: list[bytes], records: list[bytes], payload: bytes, out: Effects) -> Lsn:
        """Store final records; ``payload`` is their encoding, which goes to the log as it is.

        Raises:
            ReadOnly: the disk is full; nothing was stored.
        """
        out.commit = True
        return self._engine.apply(keys, records, payload)

    def merge_in(self, keys: list[bytes], records: list[bytes], payload: bytes, out: Effects) -> Lsn:
        """Merge records that another node sent; what is new or supersedes is logged as the bytes that came.

        Raises:
            ReadOnly: the disk is full; nothing was stored.
            ValueError: a record is not canonical; nothing was stored.
        """
        merged = list(map(accept, records, self._engine.multi_get(keys)))
        if merged != records:
            return self.store(keys, merged, write_payload(keys, merged), out)
        return self.store(keys, records, payload, out)

    def when_durable(self, lsn: Lsn, act: Durable) -> None:
        """Run ``act`` as soon as everything up to ``lsn`` survives a crash."""
        self._waiting.append((lsn, act))

    def unsynced(self) -> Lsn | None:
        """Return the number of the newest batch that reads see and a crash would lose, or None."""
        applied = self._engine.applied_lsn
        return applied if applied > self._engine.durable_lsn else None

    def persisted(self, durable: Lsn, now: float, out: Effects) -> None:
        """Run what waited for the log to be durable up to ``durable``."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= durable:
            waiting.popleft()[1](True, now, out)

    def append_failed(self, now: float, out: Effects) -> None:
        """Tell all who wait for the log that their batches will not become durable."""
        waiting, self._waiting = self._waiting, deque()
        for _, act in waiting:
            act(False, now, out)
