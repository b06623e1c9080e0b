"""What is measured, and the figures that one measurement gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

KEYS = 100_000
VALUE_BYTES = 100
WARMUP_SECONDS = 0.3
# A measurement ends within its own time and this, or the run fails.
GRACE_SECONDS = 20.0

SystemName = Literal["kvbus", "etcd", "echo", "redis"]
Op = Literal["put", "get", "echo"]


class BenchmarkError(Exception):
    """A system cannot be started or measured; the message names the mend where there is one."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A closed loop: ``outstanding`` requests are open at any time.

    ``packing`` matters to kvbus alone: its client packs what is issued in one turn of the loop into one frame, or not.
    """

    system: SystemName
    op: Op
    outstanding: int
    packing: bool = True

    @property
    def label(self) -> str:
        """Name the scenario, such as ``kvbus put, unpacked``."""
        op = "" if self.op == self.system else f" {self.op}"
        return f"{self.system}{op}" if self.packing else f"{self.system}{op}, unpacked"


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. The percentiles are those of the latencies that callers saw."""

    ops_per_second: float
    p50_us: float
    p99_us: float
    errors: int = 0
    last_error: str = ""

    @classmethod
    def of(cls, latencies_us: Sequence[float], seconds: float, errors: int = 0, last_error: str = "") -> Sample:
        """Sum up the latencies of all answered operations; all figures are 0 when nothing was answered."""
        ordered = sorted(latencies_us)
        count = len(ordered)
        if not count:
            return cls(0.0, 0.0, 0.0, errors, last_error)
        return cls(count / seconds, ordered[count // 2], ordered[count * 99 // 100], errors, last_error)

    @classmethod
    def from_map(cls, found: Mapping[str, object]) -> Sample:
        """Read what a load generator printed.

        Raises:
            BenchmarkError: a figure is missing or is no number.
        """
        figures: list[float] = []
        for name in ("ops_per_second", "p50_us", "p99_us", "errors"):
            value = found.get(name)
            if not isinstance(value, int | float):
                raise BenchmarkError(f"the load generator printed no {name}: {dict(found)!r}")
            figures.append(value)
        ops_per_second, p50_us, p99_us, errors = figures
        return cls(ops_per_second, p50_us, p99_us, int(errors), str(found.get("last_error", "")))


class System(Protocol):
    """Something to measure: its servers, and a load generator of its own."""

    name: SystemName

    def missing(self) -> str | None:
        """Say what is not installed and how to get it; None when all is there."""
        ...

    def start(self) -> None:
        """Start the servers, wait until they serve, and write every key once."""
        ...

    def measure(self, scenario: Scenario, seconds: float) -> Sample:
        """Run one closed loop for ``seconds``, after a short warm-up that is not counted."""
        ...

    def process_ids(self) -> list[int]:
        """Return the servers' process ids."""
        ...
