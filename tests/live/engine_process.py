"""An engine with a worker in a process of its own that writes without end, to be ended by a test.

It appends a line to its output for each batch: the newest number that is durable, flushes and compactions so far. As a
program: ``engine_process.py FOLDER``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

from kvbus.runtime.os_disk import OsDisk
from kvbus.runtime.process_worker import ProcessWorker
from kvbus_storage import EngineOptions, LsmEngine, open_lsm
from tests.live.command_server import environment
from tests.live.written_keys import WrittenKeys, last_number, write
from tests.workers import HandWorker

# So small that a second sees dozens of flushes, and compactions at several levels.
OPTIONS = EngineOptions(
    memory_bytes=1 << 20,
    table_bytes=32 << 10,
    level0_runs=2,
    level1_bytes=64 << 10,
    level_ratio=2,
    guard_bytes=32 << 10,
    compaction_bytes_s=1 << 30,
)
_NUMBERS_A_BATCH = 8
_MOST_FROZEN = 4
_START_SECONDS = 20.0
_END_SECONDS = 5.0
_POLL_SECONDS = 0.005


class Line(NamedTuple):
    """One line of the output."""

    number: int = 0
    flushes: int = 0
    compactions: int = 0


class EngineProcess:
    """A writing process, as a test holds it; ``within`` are words in front of its command that end by becoming it."""

    def __init__(self, folder: Path, output: Path, within: Sequence[str] = ()) -> None:
        self._output = output
        self._errors = output.with_suffix(".err")
        with output.open("wb") as out, self._errors.open("wb") as err:
            self._process = subprocess.Popen(
                [*within, sys.executable, "-P", str(Path(__file__)), str(folder)],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def errors(self) -> str:
        """What it has said on standard error."""
        return self._errors.read_text(encoding="utf-8", errors="replace")

    def line(self) -> Line:
        """Return the newest line of the output; one that its end cut short does not count."""
        with self._output.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 200, 0))
            lines = file.read().split(b"\n")[:-1]
        return Line(*map(int, lines[-1].split())) if lines else Line()

    def wait_until_written(self, flushes: int = 0) -> None:
        """Wait until it has recovered, and has written a batch after so many flushes."""
        give_up = monotonic() + _START_SECONDS
        while not (line := self.line()).number or line.flushes < flushes:
            assert self._process.poll() is None, self.errors
            assert monotonic() < give_up, f"only {line} after {_START_SECONDS} s: {self.errors}"
            sleep(_POLL_SECONDS)

    def workers(self) -> list[int]:
        """Return the process ids of its worker, if it has one."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii").split()
        return [int(child) for child in children if _is_worker(int(child))]

    def kill(self) -> Line:
        """End the process by SIGKILL, and no other one; return its last line."""
        assert self._process.poll() is None, self.errors
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        return self.line()

    def wait(self, timeout_seconds: float) -> int:
        """Wait until it ends by itself; return its exit code."""
        return self._process.wait(timeout_seconds)

    def clear(self) -> None:
        """End whatever is left of the process and of its worker, and wait for that.

        A worker that has been forked and has not become its program yet holds the folder's lock, as its parent did.
        """
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        give_up = monotonic() + _END_SECONDS
        while _runs_in_group(self.pid):
            assert monotonic() < give_up, f"a part of {self.pid} still runs"
            sleep(_POLL_SECONDS)


def check_folder(folder: Path, keys: WrittenKeys, acknowledged: int) -> int:
    """Recover the engine in ``folder`` here, see that it holds what it must and that no leftover is there.

    Return the newest number that it holds.
    """
    disk = OsDisk(folder)
    try:
        engine = open_lsm(disk, OPTIONS, HandWorker())
        try:
            stored = keys.check(engine, acknowledged)
            names = disk.list()
            stats = engine.stats()
            assert sum(name.startswith("table-") for name in names) == stats["tables"], names
            assert sum(name.startswith("manifest-") for name in names) == 1, names
        finally:
            engine.close()
    finally:
        disk.close()
    return stored


def _runs_in_group(group: int) -> bool:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, its_group = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                return True
    return False


def _is_worker(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


async def _write_without_end(folder: str) -> None:
    engine = open_lsm(OsDisk(folder), OPTIONS, ProcessWorker())
    number = last_number(engine)
    while True:
        for _ in range(_NUMBERS_A_BATCH):
            number += 1
            write(engine, number)
        engine.commit()
        stats = engine.stats()
        os.write(1, b"%d %d %d\n" % (number, stats["flushes"], stats["compactions"]))
        await asyncio.sleep(0)
        await _let_the_worker_catch_up(engine)


async def _let_the_worker_catch_up(engine: LsmEngine) -> None:
    stats = engine.stats()
    # Only where no memtable waits does the engine compact; only where some do are several lost with the process.
    most = _MOST_FROZEN if stats["flushes"] % 2 else 0
    while engine.stats()["frozen_memtables"] > most:
        engine.flush_due()
        await asyncio.sleep(0.001)


if __name__ == "__main__":
    asyncio.run(_write_without_end(sys.argv[1]))
