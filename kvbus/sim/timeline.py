"""Virtual time: acts in the order of their instants, and of their planning where those are equal."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Act = Callable[[], object]


class Timeline:
    """What is to happen, and when; ``now`` is in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self._acts: list[tuple[float, int, Act]] = []
        self._planned = 0

    def at(self, instant: float, act: Act) -> None:
        """Plan ``act`` for ``instant``, or for now where that is past."""
        self._planned += 1
        heapq.heappush(self._acts, (max(instant, self.now), self._planned, act))

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> None:
        """Let time pass, at most until ``until`` holds."""
        end, acts, pop = self.now + seconds, self._acts, heapq.heappop
        while until is None or not until():
            if not acts or acts[0][0] > end:
                self.now = end
                return
            self.now, _, act = pop(acts)
            act()
