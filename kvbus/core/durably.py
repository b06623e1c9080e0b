"""What waits for the disk: nothing is promised to anyone before the log has it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from kvbus.core.tick import Effects, Tick
from kvbus.core.types import Lsn
from kvbus.ports.engine import Engine

Durable = Callable[[bool, float, Effects], None]
"""Called once with True when the awaited batch is durable, with False when its append failed; and with the time."""


class Durably:
    """The actions of one mode that wait for the engine's log.

    Invariant: an action that was handed in runs exactly once, in log order.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: deque[tuple[Lsn, Durable]] = deque()

    def when_durable(self, lsn: Lsn, act: Durable) -> None:
        """Run ``act`` as soon as everything up to ``lsn`` survives a crash."""
        self._waiting.append((lsn, act))

    def when_synced(self, act: Durable, now: float, out: Effects) -> None:
        """Run ``act`` as soon as all that reads see now survives a crash; at once where it does already."""
        unsynced = self.unsynced()
        if unsynced is None:
            act(True, now, out)
        else:
            self.when_durable(unsynced, act)

    def unsynced(self) -> Lsn | None:
        """Return the number of the newest batch that reads see and a crash would lose, or None."""
        applied = self._engine.applied_lsn
        return applied if applied > self._engine.durable_lsn else None

    def take(self, tick: Tick, out: Effects) -> None:
        """Run what the commit that ended decides: first what became durable, then what never will."""
        waiting = self._waiting
        if tick.persisted is not None:
            while waiting and waiting[0][0] <= tick.persisted:
                waiting.popleft()[1](True, tick.now, out)
        if tick.append_failed:
            self._waiting = deque()
            for _, act in waiting:
                act(False, tick.now, out)
