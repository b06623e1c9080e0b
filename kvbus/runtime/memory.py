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
_EAGER_SECONDS = 30.0
_PATIENT_SECONDS = 60.0
_BUSY_TURNS = 100
_WORTH_BYTES = 16 << 20


class Reclaimer:
    """Gives freed memory back once a burst is over.

    It looks once a second. A node that has had little to do since the last look, and is 16 MiB larger than it was when
    it was smallest, gives back. What is left then may be in use, or freed a moment later: for half a minute after the
    node was busy, or grew by another 16 MiB, it tries at each look, then once a minute.
    """

    def __init__(self, resident_bytes: Callable[[], int], give_back: Callable[[], object]) -> None:
        self._resident_bytes = resident_bytes
        self._give_back = give_back
        self._least = inf
        self._left = 0
        self._looked_at = self._eager_until = self._again_at = 0.0
        self._turns = 0

    def look(self, now: float, turns: int) -> None:
        """Give back what is not needed any more; ``turns`` counts the node's turns with work since its start."""
        if now < self._looked_at + _LOOK_SECONDS:
            return
        is_busy = turns - self._turns > _BUSY_TURNS
        self._looked_at, self._turns = now, turns
        resident = self._resident_bytes()
        if is_busy or resident >= self._left + _WORTH_BYTES:
            self._eager_until = now + _EAGER_SECONDS
        if resident < self._least + _WORTH_BYTES:
            self._least = min(self._least, resident)
        elif not is_busy and (now < self._eager_until or now >= self._again_at):
            self._give_back()
            self._left = self._resident_bytes()
            self._again_at = now + _PATIENT_SECONDS


def process_reclaimer() -> Reclaimer:
    """Return the reclaimer of this process; one that does nothing where the system or its C library cannot."""
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None or not _STATM.exists():
        return Reclaimer(lambda: 0, lambda: None)
    # Opened once: a process that has run out of descriptors is looked at, too.
    return Reclaimer(partial(_resident_bytes, os.open(_STATM, os.O_RDONLY | os.O_CLOEXEC)), partial(trim, 0))


def _resident_bytes(statm: int) -> int:
    return int(os.pread(statm, 128, 0).split()[1]) * os.sysconf("SC_PAGE_SIZE")
