"""An engine's process dies by SIGKILL in the middle of flushes and compactions; nothing acknowledged is gone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from time import monotonic, sleep

import pytest

from tests.live.engine_process import EngineProcess, Line, check_folder
from tests.live.written_keys import WrittenKeys

SEED = 20_261_123
_MOST_FLUSHES = 4
_GONE_SECONDS = 5.0


@contextmanager
def writing(folder: Path, output: Path) -> Iterator[EngineProcess]:
    """Run a writer, of which nothing is left afterwards."""
    process = EngineProcess(folder, output)
    try:
        yield process
    finally:
        process.clear()


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that nobody has collected yet does not."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def _one_life(folder: Path, output: Path, random: Random) -> Line:
    """Start a writer and kill it at a random moment, now and then while it still recovers."""
    with writing(folder, output) as process:
        if random.random() < 0.8:
            process.wait_until_written(random.randrange(_MOST_FLUSHES))
            sleep(random.uniform(0.0, 0.05))
        else:
            sleep(random.uniform(0.05, 0.4))
        return process.kill()


def _run_rounds(tmp_path: Path, rounds: int) -> None:
    random, begun = Random(SEED), monotonic()
    folder, output = tmp_path / "data", tmp_path / "output"
    keys = WrittenKeys()
    stored = flushes = compactions = 0
    for _ in range(rounds):
        line = _one_life(folder, output, random)
        flushes, compactions = flushes + line.flushes, compactions + line.compactions
        stored = check_folder(folder, keys, max(line.number, stored))
    print(
        f"{rounds} rounds in {monotonic() - begun:.0f} s: {stored} numbers, {flushes} flushes, "
        f"{compactions} compactions; seed {SEED}"
    )
    assert stored > 100 * rounds
    assert flushes > rounds
    assert compactions > rounds // 2


def test_acknowledged_numbers_survive_twenty_kills(tmp_path: Path) -> None:
    _run_rounds(tmp_path, 20)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_acknowledged_numbers_survive_two_hundred_kills(tmp_path: Path) -> None:
    _run_rounds(tmp_path, 200)


def test_flushes_go_on_after_the_worker_was_killed(tmp_path: Path) -> None:
    with writing(tmp_path / "data", tmp_path / "output") as process:
        for _ in range(5):
            process.wait_until_written(process.line().flushes + 3)
            for worker in process.workers():
                os.kill(worker, signal.SIGKILL)
        line = process.kill()
        assert "worker process died" in process.errors
    check_folder(tmp_path / "data", WrittenKeys(), line.number)


def test_the_worker_does_not_outlive_its_process(tmp_path: Path) -> None:
    with writing(tmp_path / "data", tmp_path / "output") as process:
        process.wait_until_written(flushes=1)
        workers = process.workers()
        assert workers
        process.kill()
        give_up = monotonic() + _GONE_SECONDS
        while any(map(is_alive, workers)):
            assert monotonic() < give_up, "the worker still runs, and may write into the next process's folder"
            sleep(0.01)
