"""An engine and its worker stay within the memory budget and a margin, with five times as much data as memory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

import pytest

from tests.live import loading_process
from tests.live.command_server import environment
from tests.live.loading_process import VALUE_BYTES, key_of

_MEMORY_BYTES = 64 << 20
_MARGIN_BYTES = 150_000_000
_TIMES_MEMORY = 5
_KEYS = _TIMES_MEMORY * _MEMORY_BYTES // (VALUE_BYTES + len(key_of(0)))
_LIMIT_SECONDS = 900
_SAMPLE_SECONDS = 0.02
_RSS_ANON = re.compile(r"^RssAnon:\s+(\d+) kB$", re.MULTILINE)


class Sample(NamedTuple):
    """What the process and its children hold of their own memory at one moment, in bytes, and what it was doing."""

    total: int
    process: int
    children: int
    phase: str
    engine_says: int


def rss_anon_bytes(pid: int) -> int:
    """Return a process's own memory; 0 when it has ended."""
    try:
        found = _RSS_ANON.search(Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) << 10 if found else 0


def take_sample(pid: int, output: Path) -> Sample:
    """Look once."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    process, below = rss_anon_bytes(pid), sum(rss_anon_bytes(int(child)) for child in children)
    lines = output.read_text(encoding="ascii").splitlines()
    phase, _, engine_says = (lines[-1] if lines else "start 0").partition(" ")
    return Sample(process + below, process, below, phase, int(engine_says or 0))


@pytest.mark.slow
@pytest.mark.timeout(_LIMIT_SECONDS + 60)
def test_memory_stays_within_the_budget_and_a_margin(tmp_path: Path) -> None:
    output = tmp_path / "output"
    program = [sys.executable, "-P", str(loading_process.__file__), str(tmp_path / "data")]
    with output.open("wb") as out:
        process = subprocess.Popen(
            [*program, str(_MEMORY_BYTES), str(_KEYS)],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            start_new_session=True,
        )
    samples: list[Sample] = []
    try:
        give_up = monotonic() + _LIMIT_SECONDS
        while not samples or samples[-1].phase != "done":
            assert process.poll() is None, "it ended by itself"
            assert monotonic() < give_up
            samples.append(take_sample(process.pid, output))
            sleep(_SAMPLE_SECONDS)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for phase in dict.fromkeys(sample.phase for sample in samples):
        most = max(sample for sample in samples if sample.phase == phase)
        megabytes = [round(part / 1e6) for part in (most.total, most.process, most.children, most.engine_says)]
        print("{}: {} MB at most, {} of the process, {} of its worker; the engine says {}".format(phase, *megabytes))
    data = sum(file.stat().st_size for file in (tmp_path / "data").iterdir())
    assert data > (_TIMES_MEMORY - 1) * _MEMORY_BYTES
    assert max(samples).total <= _MEMORY_BYTES + _MARGIN_BYTES
