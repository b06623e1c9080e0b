"""Who rests, and for how long, when the worker falls behind."""

from __future__ import annotations

from itertools import pairwise

from kvbus_storage import EngineOptions
from kvbus_storage.lsm.pace import Pace

RUNS = EngineOptions().level0_runs


def rest_seconds(waiting: int, depth: int) -> float:
    pace = Pace(EngineOptions(), lambda: 0.0)
    pace.weigh(waiting, depth)
    return pace.rest_seconds


def test_writers_do_not_rest_while_the_worker_keeps_up() -> None:
    assert rest_seconds(2, 4 * RUNS) == 0


def test_rests_grow_faster_than_what_there_is_too_much_of() -> None:
    for rests in (
        [rest_seconds(waiting, 0) for waiting in range(3, 8)],
        [rest_seconds(0, runs * RUNS) for runs in range(5, 10)],
    ):
        assert all(other >= 2 * one for one, other in pairwise(rests))


def test_rests_are_bounded() -> None:
    assert rest_seconds(0, 1_000_000) == rest_seconds(1_000_000, 0) == 0.1
    assert rest_seconds(1_000_000, 1_000_000) == 0.1
