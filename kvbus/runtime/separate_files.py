"""A thread whose open files do not count among those of its process.

The threads of a process share one table of open files, and its limit. Where clients have filled it, nothing can be
opened in it with certainty: ZeroMQ takes in the next client as soon as a place is free. On Linux a thread may leave
that table for one of its own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

_AFTER_STANDARD_STREAMS = 3
_LAST_DESCRIPTOR = 2**32 - 1
_CLOSE_RANGE_UNSHARE = 2


class SeparateFiles:
    """Does work in such a thread, one piece at a time: some 60 µs more for each.

    Where there is no close_range(2) (macOS, Linux before 5.9, glibc before 2.34) it is a thread like others, and
    too many open files are an error there, too.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "separate-files", initializer=_leave_the_table)

    def do(self, work: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Return what ``work`` returns, or raise what it raises; a descriptor is of no use outside."""
        return self._thread.submit(work, *arguments).result()


def _leave_the_table() -> None:
    """Give the calling thread a table with the standard streams alone (close_range(2))."""
    close_range = getattr(ctypes.CDLL(None), "close_range", None)
    if close_range is not None:
        close_range(_AFTER_STANDARD_STREAMS, ctypes.c_uint(_LAST_DESCRIPTOR), _CLOSE_RANGE_UNSHARE)
