"""A node's clocks in virtual time."""

from __future__ import annotations

import pytest

from kvbus.sim.clock import WALL_EPOCH_MS, NodeClock
from kvbus.sim.timeline import Timeline


def test_clocks_start_where_they_are_told_and_the_wall_clock_is_right() -> None:
    timeline = Timeline()
    clock = NodeClock(timeline, begins_at=500.0)
    timeline.run(2.0)
    assert clock.monotonic() == 502.0
    assert clock.wall_ms() == WALL_EPOCH_MS + 2000


def test_a_fast_clock_shows_more_and_never_jumps_when_its_rate_changes() -> None:
    timeline = Timeline()
    clock = NodeClock(timeline)
    timeline.run(1.0)
    clock.run_at(2.0)
    timeline.run(1.0)
    assert clock.monotonic() == 3.0
    clock.run_at(0.5)
    assert clock.monotonic() == 3.0
    timeline.run(1.0)
    assert clock.monotonic() == 3.5


@pytest.mark.parametrize("rate", [0.5, 1.0, 3.0])
def test_the_instant_of_a_time_is_when_the_clock_shows_it(rate: float) -> None:
    timeline = Timeline()
    clock = NodeClock(timeline, begins_at=7.0)
    clock.run_at(rate)
    timeline.run(clock.instant_of(9.0))
    assert clock.monotonic() == pytest.approx(9.0)


def test_only_the_wall_clock_jumps() -> None:
    timeline = Timeline()
    clock = NodeClock(timeline)
    clock.jump_ms(-60_000)
    assert (clock.monotonic(), clock.wall_ms()) == (0.0, WALL_EPOCH_MS - 60_000)
