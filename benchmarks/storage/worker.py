"""Our engine's worker without an event loop: a process whose results are asked for between commits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context

from kvbus.errors import WorkerDied
from kvbus.ports.worker import Argument, Result
from kvbus.runtime.courtesy import Courtesy
from kvbus.runtime.process_worker import settle_in

_START_SECONDS = 60.0


class PolledWorker:
    """A :class:`~kvbus.ports.worker.Worker` over one process like a node's, but up before the first job comes."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=settle_in)
        self._pool.submit(int).result(_START_SECONDS)
        # Whether the first one's job has ended, and what tells its outcome.
        self._open: deque[tuple[Callable[[], bool], Callable[[], object]]] = deque()

    @property
    def is_busy(self) -> bool:
        """Say whether a job runs, waits, or has an outcome that nobody asked for yet."""
        return bool(self._open)

    @property
    def give_way(self) -> Courtesy:
        """What a job is to call between two small parts of its work (see the port)."""
        return Courtesy()

    def submit(
        self, job: Callable[[Argument], Result], argument: Argument, done: Callable[[Result | Exception], object]
    ) -> None:
        """Do ``job(argument)`` in the process; a later :meth:`poll` calls ``done``."""
        future = self._pool.submit(job, argument)
        self._open.append((future.done, partial(_tell, future, done)))

    def poll(self) -> None:
        """Tell the outcome of each job that has ended."""
        while self._open and self._open[0][0]():
            self._open.popleft()[1]()

    def process_ids(self) -> list[int]:
        """Return the process's id."""
        return list(self._pool._processes)

    def close(self) -> None:
        """End the process, with what it is doing."""
        self._open.clear()
        processes = list(self._pool._processes.values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()
            process.join()


def _tell(future: Future[Result], done: Callable[[Result | Exception], object]) -> None:
    error = future.exception()
    if isinstance(error, BrokenProcessPool):
        raise WorkerDied("the worker process died in the middle of a job") from error
    done(error if isinstance(error, Exception) else future.result())
