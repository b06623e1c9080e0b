"""How fast flushes, compactions and writers go, so that none of them starves the others. Pure."""

from __future__ import annotations

from collections.abc import Callable

from kvbus_storage.options import EngineOptions

_WAITING, _DEEP = 2, 4
"""Memtables that may wait, and times ``level0_runs`` that level 0 may be deep, before writers rest."""
_REST_SECONDS, _LONGEST_REST_SECONDS = 0.002, 0.1
_DOUBLINGS = 6
_RETRY_SECONDS = 1.0
"""Seconds before the next job after one that found the disk full."""
_URGENT = 3
"""Times ``level0_runs`` at which compactions take no rest."""


class Pace:
    """``rest_seconds`` is how long writers are to rest after a commit.

    ``is_gentle`` says that the worker keeps out of the way of the log's syncs, which takes it longer.
    """

    def __init__(self, options: EngineOptions, clock: Callable[[], float]) -> None:
        self._options = options
        self._clock = clock
        self._rests_until = self._retry_at = 0.0
        self.rest_seconds = 0.0
        self.is_gentle = options.sync == "batch"

    def weigh(self, waiting: int, depth: int) -> None:
        """Take note of ``waiting`` memtables and level 0's ``depth``: the more of either, the longer writers rest.

        Each memtable that waits about doubles it, and so does every ``level0_runs`` runs.
        """
        is_behind = waiting > 1 or depth > self._options.level0_runs
        self.is_gentle = self._options.sync == "batch" and not is_behind
        self.rest_seconds = max(_rest(waiting - _WAITING), _rest(depth / self._options.level0_runs - _DEEP))

    def compacts(self, read_bytes: int) -> None:
        """Take note of a compaction that begins: its bytes are its share of time."""
        self._rests_until = self._clock() + read_bytes / self._options.compaction_bytes_s

    def found_no_room(self) -> None:
        """Take note of a job that there was no room for."""
        self._retry_at = self._clock() + _RETRY_SECONDS

    def may_work(self) -> bool:
        """Say whether a job has a chance: there was not just no room for one."""
        return self._clock() >= self._retry_at

    def may_compact(self, depth: int) -> bool:
        """Say whether the last compaction's share of time is over, or level 0 so deep that it presses."""
        return self._clock() >= self._rests_until or depth >= _URGENT * self._options.level0_runs


def _rest(too_many: float) -> float:
    """Return the rest in seconds for what there is too much of, 0 and less for none."""
    return min(_REST_SECONDS * (2 ** min(max(too_many, 0), _DOUBLINGS) - 1), _LONGEST_REST_SECONDS)
