"""Periodic maintenance by APScheduler. This file is the adapter: the library has no types."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED  # type: ignore[import-untyped]
from apscheduler.schedulers.asyncio import AsyncIOScheduler  # type: ignore[import-untyped]

from kvbus.core.jobs import Job


class Scheduler:
    """Runs jobs on the node's loop, never two runs of one job at once; errors and misses are counted, not fatal."""

    def __init__(self, jobs: Sequence[Job], log: Callable[[str, dict[str, object]], None]) -> None:
        self._log = log
        self.errors_total = 0
        self.missed_total = 0
        self._scheduler: Any = AsyncIOScheduler(
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}, timezone="UTC"
        )
        self._scheduler.add_listener(self._note, EVENT_JOB_ERROR | EVENT_JOB_MISSED)
        for job in jobs:
            self._scheduler.add_job(
                _on_loop(job.run), "interval", seconds=job.every_seconds, id=job.name, name=job.name
            )

    def start(self) -> None:
        """Begin to run the jobs on the running loop."""
        self._scheduler.start()

    def pull(self, name: str) -> None:
        """Let the job's next run be now, between two steps; its later ones come as they would have."""
        self._scheduler.modify_job(name, next_run_time=datetime.now(UTC))

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
