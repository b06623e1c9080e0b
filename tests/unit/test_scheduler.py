"""Maintenance goes by the monotonic clock: a wall clock that jumps neither floods nor stops it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kvbus.runtime.scheduler import Every, SteadyTime


def test_the_time_of_jobs_is_the_monotonic_clocks_whatever_the_wall_clock_says() -> None:
    seconds = 50.0
    steady = SteadyTime(lambda: seconds)
    begun = steady.now()
    assert abs(begun - datetime.now(UTC)) < timedelta(minutes=1)
    for wall in (datetime(1970, 1, 1, tzinfo=UTC), datetime(2057, 1, 1, tzinfo=UTC)):
        assert wall.astimezone(steady) == begun
    seconds += 3.5
    assert datetime.now(steady) - begun == timedelta(seconds=3.5)


def test_what_was_missed_is_not_made_up_for() -> None:
    steady = SteadyTime(lambda: 50.0)
    now, every = steady.now(), Every(2.0)
    assert every.get_next_fire_time(None, now) == now + timedelta(seconds=2)
    assert every.get_next_fire_time(now - timedelta(seconds=1), now) == now + timedelta(seconds=1)
    assert every.get_next_fire_time(now - timedelta(days=365), now) == now + timedelta(seconds=2)
