"""Memory that was freed goes back to the system.

The C library keeps what a burst of large replies or a flood of requests has freed, for the next one, and a process that
was large once stays large: 280 MB were seen.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path

_STATM = Path("/proc/self/statm")
_LOOK_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 64.0
_BUSY_TURNS = 100
_WORTH_BYTES = 16 << 20


class Reclaimer:
    """Gives freed memory back once a burst is over.

    It looks once a second. A node that has had little to do since the last look, and is 16 MiB larger than it was when
    it was smallest, gives back. What is left then may be in use, or freed a moment later: it tries again after a while,
    twice as long after each try in vain, and soon when the node was busy or has grown by another 16 MiB.
    """

    def __init__(self, resident_bytes: Callable[[], int], give_back: Callable[[], object]) -> None:
        self._resident_bytes = resident_bytes
        self._give_back = give_back
        self._least = inf
        self._left = 0
        self._looked_at = self._again_at = 0.0
        self._wait_seconds = _LOOK_SECONDS
        self._turns = 0

    def look(self, now: float, turns: int) -> None:
        """Give back what is not needed any more; ``turns`` counts the node's turns with work since its start."""
        if now < self._looked_at + _LOOK_SECONDS:
            return
        is_busy = turns - self._turns > _BUSY_TURNS
        self._looked_at, self._turns = now, turns
        resident = self._resident_bytes()
        if resident < self._least + _WORTH_BYTES:
            self._least = min(self._least, resident)
        elif is_busy:
            self._wait_seconds, self._again_at = _LOOK_SECONDS, now
        elif now >= self._again_at or resident >= self._left + _WORTH_BYTES:
            self._give_back()
            self._left = self._resident_bytes()
            in_vain = resident - self._left < _WORTH_BYTES
            self._wait_seconds = min(2 * self._wait_seconds, _LONGEST_WAIT_SECONDS) if in_vain else _LOOK_SECONDS
            self._again_at = now + self._wait_seconds


def process_reclaimer() -> Reclaimer:
    """Return the reclaimer of this process; one that does nothing where the system or its C library cannot."""
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None or not _STATM.exists():
        return Reclaimer(lambda: 0, lambda: None)
    # Opened once: a process that has run out of descriptors is looked at, too.
    return Reclaimer(partial(_resident_bytes, os.open(_STATM, os.O_RDONLY | os.O_CLOEXEC)), partial(trim, 0))


def _resident_bytes(statm: int) -> int:
    return int(os.pread(statm, 128, 0).split()[1]) * os.sysconf("SC_PAGE_SIZE")
