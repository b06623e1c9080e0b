"""What every worker must do: the process of a real node, and the inline one of a simulated world."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import Callable, Generator
from copy import deepcopy
from random import Random

import pytest

from kvbus.errors import CorruptionError, KvbusError, WorkerDied
from kvbus.ports.worker import Worker
from kvbus.runtime.process_worker import ProcessWorker
from kvbus.sim.timeline import Timeline
from kvbus.sim.worker import InlineWorker

PATIENCE_SECONDS = 60.0
Pass = Callable[[Callable[[], bool]], None]


def doubled(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return 2 * number


def meet_damage(number: int) -> int:
    raise CorruptionError("the block fails its check", "table-00000001", number)


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.fixture(params=["process", "inline"])
def bench(request: pytest.FixtureRequest) -> Generator[tuple[Worker, Pass]]:
    """Give a worker, and what lets time pass until something holds."""
    if request.param == "inline":
        timeline = Timeline()
        yield InlineWorker(timeline, Random(1)), lambda until: timeline.run(PATIENCE_SECONDS, until)
        return
    with asyncio.Runner() as runner:

        async def make() -> ProcessWorker:
            return ProcessWorker()

        async def pass_time(until: Callable[[], bool]) -> None:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not until():
                    await asyncio.sleep(0.005)

        worker = runner.run(make())
        try:
            yield worker, lambda until: runner.run(pass_time(until))
        finally:
            worker.close()


def test_jobs_are_done_in_order_and_never_at_once(bench: tuple[Worker, Pass]) -> None:
    worker, pass_time = bench
    found: list[int | Exception] = []
    for number in range(5):
        worker.submit(doubled, number, found.append)
    assert found == []
    pass_time(lambda: len(found) == 5)
    assert found == [0, 2, 4, 6, 8]


def test_what_a_job_raises_is_handed_over_and_the_next_one_is_done(bench: tuple[Worker, Pass]) -> None:
    worker, pass_time = bench
    found: list[int | Exception] = []
    worker.submit(doubled, -1, found.append)
    worker.submit(doubled, 1, found.append)
    pass_time(lambda: len(found) == 2)
    assert (str(found[0]), found[1]) == ("-1 is negative", 2)


def test_a_worker_that_died_says_so_and_takes_the_next_job(bench: tuple[Worker, Pass]) -> None:
    worker, pass_time = bench
    found: list[int | Exception] = []
    if isinstance(worker, InlineWorker):
        worker.submit(doubled, 1, found.append)
        worker.kill()
    else:
        worker.submit(die, 1, found.append)
    pass_time(lambda: len(found) == 1)
    assert isinstance(found[0], WorkerDied)
    worker.submit(doubled, 2, found.append)
    pass_time(lambda: len(found) == 2)
    assert found[1] == 4


def test_after_a_close_nothing_is_told(bench: tuple[Worker, Pass]) -> None:
    worker, pass_time = bench
    found: list[int | Exception] = []
    worker.submit(doubled, 1, found.append)
    worker.close()
    looks = iter(range(20))
    pass_time(lambda: next(looks, None) is None if isinstance(worker, ProcessWorker) else False)
    assert found == []


def test_damage_that_a_job_meets_is_handed_over_with_its_place(bench: tuple[Worker, Pass]) -> None:
    worker, pass_time = bench
    found: list[int | Exception] = []
    worker.submit(meet_damage, 7, found.append)
    worker.submit(doubled, 1, found.append)
    pass_time(lambda: len(found) == 2)
    assert isinstance(found[0], CorruptionError)
    assert (found[0].path, found[0].offset) == ("table-00000001", 7)
    assert str(found[0]) == "table-00000001 at byte 7: the block fails its check"
    assert found[1] == 2


def test_every_error_of_ours_can_go_from_one_process_to_another() -> None:
    for kind in (each for each in every_kind(KvbusError) if each.__module__ == KvbusError.__module__):
        error = CorruptionError("bad", "file", 3) if issubclass(kind, CorruptionError) else kind("what is wrong")
        copied = deepcopy(error)
        assert (type(copied), str(copied), vars(copied)) == (type(error), str(error), vars(error))


def every_kind(kind: type[KvbusError]) -> list[type[KvbusError]]:
    return [kind, *(each for heir in kind.__subclasses__() for each in every_kind(heir))]


def test_a_process_that_cannot_be_started_is_a_dead_one() -> None:
    found: list[int | Exception] = []

    async def run_out_of_files() -> None:
        worker = ProcessWorker()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        opened = os.dup(0)
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened, hard))
        try:
            worker.submit(doubled, 1, found.append)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            os.close(opened)
        worker.submit(doubled, 2, found.append)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(found) < 2:
                await asyncio.sleep(0.005)
        worker.close()

    asyncio.run(run_out_of_files())
    assert isinstance(found[0], WorkerDied)
    assert found[1] == 4
