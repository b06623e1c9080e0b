"""Periodic maintenance by APScheduler. This file is the adapter: the library has no types.

The library asks the wall clock, lists every run that a jump of it has missed, and waits for as long as it is set back.
So it is given a time zone whose time is the monotonic clock's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from time import monotonic
from typing import Any

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED  # type: ignore[import-untyped]
from apscheduler.schedulers.asyncio import AsyncIOScheduler  # type: ignore[import-untyped]
from apscheduler.triggers.base import BaseTrigger  # type: ignore[import-untyped]

from kvbus.core.jobs import Job


class SteadyTime(tzinfo):
    """UTC as it was when this was made, and the monotonic clock's seconds since then: it never jumps."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._epoch = datetime.now(UTC).replace(tzinfo=self) - timedelta(seconds=clock())

    def now(self) -> datetime:
        """Return what :func:`datetime.now` gives in this time zone."""
        return self._epoch + timedelta(seconds=self._clock())

    def fromutc(self, moment: datetime) -> datetime:
        """Return the present, whatever the wall clock calls it."""
        return self.now()

    def utcoffset(self, moment: datetime | None) -> timedelta:
        """Return none."""
        return timedelta()

    def dst(self, moment: datetime | None) -> timedelta:
        """Return none."""
        return timedelta()

    def tzname(self, moment: datetime | None) -> str:
        """Return the zone's name."""
        return "steady"


class Every(BaseTrigger):  # type: ignore[misc]
    """Runs once in ``seconds``; what was missed is not made up for."""

    def __init__(self, seconds: float) -> None:
        self._interval = timedelta(seconds=seconds)

    def __str__(self) -> str:
        return f"every {self._interval.total_seconds():g} s"

    def get_next_fire_time(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime:
        """Return when to run after a run that was due at ``previous_fire_time``."""
        due = (previous_fire_time or now) + self._interval
        return due if due > now else now + self._interval


class Scheduler:
    """Runs jobs on the node's loop, never two runs of one job at once; errors and misses are counted, not fatal."""

    def __init__(self, jobs: Sequence[Job], log: Callable[[str, dict[str, object]], None]) -> None:
        self._log = log
        self.errors_total = 0
        self.missed_total = 0
        self._time = SteadyTime()
        self._scheduler: Any = AsyncIOScheduler(
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}, timezone=self._time
        )
        self._scheduler.add_listener(self._note, EVENT_JOB_ERROR | EVENT_JOB_MISSED)
        for job in jobs:
            self._scheduler.add_job(_on_loop(job.run), Every(job.every_seconds), id=job.name, name=job.name)

    def start(self) -> None:
        """Begin to run the jobs on the running loop."""
        self._scheduler.start()

    def pull(self, name: str) -> None:
        """Let the job's next run be now, between two steps; its later ones come as they would have."""
        self._scheduler.modify_job(name, next_run_time=self._time.now())

    def stop(self) -> None:
        """Start no more runs."""
        self._scheduler.shutdown(wait=False)

    def _note(self, event: Any) -> None:
        if event.code == EVENT_JOB_MISSED:
            self.missed_total += 1
            return
        self.errors_total += 1
        self._log("job_failed", {"job": event.job_id, "error": repr(event.exception)})


def _on_loop(run: Callable[[], object]) -> Callable[[], Awaitable[None]]:
    """Make a job a coroutine: the library would run a plain function on a thread, beside the node's steps."""

    async def between_steps() -> None:
        run()

    return between_steps
