"""Facts about the machine that figures cannot be read without."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TypeVar

from benchmarks.event_loop import uvloop_version

_SYNCS = 50
_RECORD_BYTES = 200
_TRIES = 3
STOLEN_PERCENT = 5.0
"""On a machine that shares its host: a measurement that lost more than this of its processors is made again."""

Found = TypeVar("Found")


def facts(folder: Path) -> dict[str, object]:
    """Return cores, versions, load, and what a sync of a small record costs in ``folder``."""
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "uvloop": uvloop_version(),
        "kernel": f"{platform.system()} {platform.release()}",
        "load_average": round(os.getloadavg()[0], 2),
        "sync_us": round(sync_us(folder)),
    }


def sync_us(folder: Path) -> float:
    """Return the median time of appending one small record and syncing it, in µs. A few µs mean: no real disk."""
    sync = getattr(os, "fdatasync", os.fsync)
    taken: list[float] = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_SYNCS):
            begun = perf_counter()
            os.write(file.fileno(), bytes(_RECORD_BYTES))
            sync(file.fileno())
            taken.append((perf_counter() - begun) * 1e6)
    return median(taken)


def cpu_seconds(process_ids: Sequence[int]) -> float | None:
    """Return the processor time that the processes have used so far; None where the system does not tell."""
    ticks = 0
    for pid in process_ids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessorTime:
    """The machine's processor time since it started, in ticks: all of it, and what its host gave to others."""

    all: int
    stolen: int

    @classmethod
    def read(cls) -> ProcessorTime:
        """Read the kernel's counters; a system that has none seems undisturbed."""
        try:
            fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
        except OSError:
            return cls(0, 0)
        ticks = [int(field) for field in fields]
        return cls(sum(ticks), ticks[7])

    def stolen_percent_since(self, before: ProcessorTime) -> float:
        """Return the share that the host took between two readings, in percent of all processors."""
        passed = self.all - before.all
        return 100 * (self.stolen - before.stolen) / passed if passed > 0 else 0.0


def least_disturbed(
    measure: Callable[[], Found],
    *,
    processor_time: Callable[[], ProcessorTime] = ProcessorTime.read,
    most_tries: int = _TRIES,
) -> tuple[Found, int]:
    """Measure, again while the host gives the processors to others; return what counts, and how many do not.

    What was measured has no say in the choice. When every try is disturbed, the least disturbed one counts.
    """
    tries: list[tuple[float, Found]] = []
    while len(tries) < most_tries:
        before = processor_time()
        found = measure()
        stolen_percent = processor_time().stolen_percent_since(before)
        tries.append((stolen_percent, found))
        if stolen_percent <= STOLEN_PERCENT:
            break
    return min(tries, key=lambda tried: tried[0])[1], len(tries) - 1
