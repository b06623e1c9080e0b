"""Workers for tests that drive an engine by hand."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial

from kvbus.ports.worker import Argument, Result, keep_on


class HandWorker:
    """A :class:`~kvbus.ports.worker.Worker` that does its next job when it is told to."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], object]] = []

    @property
    def give_way(self) -> Callable[[], object]:
        return keep_on

    def submit(
        self, job: Callable[[Argument], Result], argument: Argument, done: Callable[[Result | Exception], object]
    ) -> None:
        self.jobs.append(partial(_do, job, argument, done))

    def close(self) -> None:
        self.jobs.clear()

    def work(self) -> bool:
        """Do the next job, and tell what became of it; say whether there was one."""
        if not self.jobs:
            return False
        self.jobs.pop(0)()
        return True


def _do(job: Callable[[Argument], Result], argument: Argument, done: Callable[[Result | Exception], object]) -> None:
    outcome: Result | Exception
    try:
        outcome = job(argument)
    except Exception as error:
        outcome = error
    done(deepcopy(outcome))


NO_WORKER = HandWorker()
"""For an engine that has nothing to give it."""
