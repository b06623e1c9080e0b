"""How the worker's process gives way to the node.

Both often wait for the same flush of the disk, and wake on the same processor. The scheduler may let the worker go
first, for milliseconds, while the other processors idle: a lower priority alone does not prevent that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import perf_counter, sleep

_GIVEN_SHARE = 4

_yield: Callable[[], object] = getattr(os, "sched_yield", lambda: sleep(0))


class Courtesy:
    """Lets whoever waits for this processor go first, each time a job calls it.

    Where the processors are never idle, a job that gives way all the time would starve: no more than a quarter of its
    time goes that way, from the first call on.
    """

    __slots__ = ("_begun", "_given")

    def __init__(self) -> None:
        self._begun = self._given = 0.0

    def __call__(self) -> None:
        """Give way, unless this job has done so for long enough."""
        begun = perf_counter()
        if not self._begun:
            self._begun = begun
        if self._given * _GIVEN_SHARE <= begun - self._begun:
            _yield()
            self._given += perf_counter() - begun
