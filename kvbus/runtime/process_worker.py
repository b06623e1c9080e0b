"""The worker of a real node: one process beside it, started at the first job."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context

from kvbus.child_process import serve_parent
from kvbus.errors import WorkerDied
from kvbus.ports.worker import Argument, Result
from kvbus.runtime.courtesy import Courtesy

_NICE = 5
_YOUNG_OBJECTS = 50_000


def settle_in() -> None:
    """Prepare the worker's process: it gives way to the node, leaves stop signals to it, and ends with it."""
    serve_parent()
    os.nice(_NICE)
    # A job makes many objects without a cycle among them; the search for one took a sixth of its time.
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)


class ProcessWorker:
    """A :class:`~kvbus.ports.worker.Worker` for the running asyncio loop.

    The process is spawned, not forked: it inherits no socket, lock or thread of the node. After its death the next job
    starts another one.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool: ProcessPoolExecutor | None = None
        self._closed = False

    @property
    def give_way(self) -> Courtesy:
        """What a job is to call between two small parts of its work (see the port)."""
        return Courtesy()

    def submit(
        self, job: Callable[[Argument], Result], argument: Argument, done: Callable[[Result | Exception], object]
    ) -> None:
        """Do ``job(argument)`` in the process (see the port)."""
        try:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=settle_in)
            pool = self._pool
            future = pool.submit(job, argument)
        except (BrokenProcessPool, OSError) as error:
            # A pool whose process could not be started would keep the job, and do it beside the next one.
            self._pool = None
            self._loop.call_soon(self._finish, done, WorkerDied(f"no worker process for this job: {error}"))
            return
        future.add_done_callback(partial(self._ended, pool, done))

    def close(self) -> None:
        """End the process, with what it is doing."""
        self._closed = True
        if self._pool is not None:
            # The pool itself would let its process finish first, and hold up the node's exit until then.
            processes = list(self._pool._processes.values())
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.kill()
            self._pool = None

    def _ended(
        self, pool: ProcessPoolExecutor, done: Callable[[Result | Exception], object], future: Future[Result]
    ) -> None:
        """Carry an outcome from the pool's thread to the loop."""
        if future.cancelled() or self._closed:
            return
        error = future.exception()
        outcome: Result | Exception
        if isinstance(error, BrokenProcessPool):
            outcome = WorkerDied("the worker process died in the middle of a job")
            self._loop.call_soon_threadsafe(self._forget, pool)
        elif isinstance(error, Exception):
            outcome = error
        else:
            outcome = future.result()
        self._loop.call_soon_threadsafe(self._finish, done, outcome)

    def _forget(self, pool: ProcessPoolExecutor) -> None:
        if self._pool is pool:
            self._pool = None

    def _finish(self, done: Callable[[Result | Exception], object], outcome: Result | Exception) -> None:
        if not self._closed:
            done(outcome)
