"""Periodic maintenance as data: the runtime's scheduler and the simulated world drive the same table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One maintenance job: what to call, and how often in seconds. It runs between two steps of its node."""

    name: str
    every_seconds: float
    run: Callable[[], object]
