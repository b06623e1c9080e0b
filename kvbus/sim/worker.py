"""The worker of a simulated node: jobs run inline and end a while later, in virtual time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from random import Random

from kvbus.errors import WorkerDied
from kvbus.ports.worker import Argument, Result, keep_on
from kvbus.sim.timeline import Timeline

_SECONDS = (0.01, 0.5)


class InlineWorker:
    """A :class:`~kvbus.ports.worker.Worker` in a world.

    ``deliver`` calls what it is given between two steps of the node. A job's work is done at the instant at which it
    ends, so that a crash before it leaves nothing of it.
    """

    def __init__(
        self,
        timeline: Timeline,
        rng: Random,
        deliver: Callable[[Callable[[], object]], object] = lambda act: act(),
    ) -> None:
        self._timeline = timeline
        self._rng = rng
        self._deliver = deliver
        self._free_at = 0.0
        self._life = object()
        self._jobs: deque[Callable[[], object]] = deque()
        self._closed = False

    @property
    def give_way(self) -> Callable[[], object]:
        """What does nothing: there is nobody beside the job."""
        return keep_on

    def submit(
        self, job: Callable[[Argument], Result], argument: Argument, done: Callable[[Result | Exception], object]
    ) -> None:
        """Do ``job(argument)`` behind the jobs before it (see the port)."""
        self._free_at = max(self._free_at, self._timeline.now) + self._rng.uniform(*_SECONDS)
        self._jobs.append(lambda: done(job(argument)))
        self._timeline.at(self._free_at, partial(self._run, self._life, job, argument, done))

    def kill(self) -> None:
        """Let the process die: what it has not ended is lost, and the node hears of it."""
        self._life, self._free_at = object(), self._timeline.now
        self._jobs.clear()

    def finish(self) -> None:
        """Do the jobs that were submitted at once, and tell what became of them: their process ends meanwhile."""
        while self._jobs:
            self._jobs.popleft()()

    def close(self) -> None:
        """Take no more jobs and end."""
        self._closed = True

    def _run(
        self,
        life: object,
        job: Callable[[Argument], Result],
        argument: Argument,
        done: Callable[[Result | Exception], object],
    ) -> None:
        if self._closed:
            return
        if life is self._life:
            self._jobs.popleft()
        outcome: Result | Exception
        try:
            outcome = job(argument) if life is self._life else WorkerDied("the worker died in the middle of a job")
        except Exception as error:
            outcome = error
        # What comes from another process is a copy, and has to be one that can be made.
        self._deliver(partial(done, deepcopy(outcome)))
