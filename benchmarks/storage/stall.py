"""The stall trial: how much longer a put takes while the worker flushes and compacts beside it.

An open loop: 16 puts of 100 B arrive each millisecond, whatever the engine does; each turn writes all that has arrived
as one synced batch, as a node does. A put takes from its arrival until its batch is durable; what a sleep oversleeps is
not counted. The rate is modest: the worker keeps up with it. Two engines begin with 300,000 keys in tables:

- *idle*: its memory budget is so large that nothing is flushed.
- *busy*: its budget is 64 MiB, so that a memtable is full every two seconds; only puts that had a worker with a job
  beside them count.

They take turns of two seconds, so that both see the same disk; the worker comes to rest after each turn.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

from pydantic import TypeAdapter

from benchmarks.storage.engine import EngineStore
from benchmarks.storage.figures import RESULT, Figures, TrialResult
from benchmarks.storage.trial import batches, settle_python
from benchmarks.storage.workload import Values, Workload, stored_keys

VALUE_BYTES = 100
ARRIVING_KEYS = 16
PERIOD_SECONDS = 0.001
_BUSY_MEMORY_BYTES = 64 << 20
_IDLE_MEMORY_BYTES = 2 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class StallPlan:
    """Each engine holds ``keys`` keys at first and has ``turns`` of ``turn_seconds``."""

    keys: int
    turns: int
    turn_seconds: float
    quiet_seconds: float


FULL_STALL = StallPlan(keys=300_000, turns=20, turn_seconds=2.0, quiet_seconds=1.5)
QUICK_STALL = StallPlan(keys=20_000, turns=1, turn_seconds=2.5, quiet_seconds=0.1)
PLAN = TypeAdapter(StallPlan)

_Arrival = tuple[list[bytes], list[bytes]]


class Load:
    """Puts that arrive at a fixed rate at one engine, and how long they took in µs."""

    def __init__(self, store: EngineStore, arrivals: Iterator[_Arrival]) -> None:
        self.store = store
        self._arrivals = arrivals
        self.taken_us: list[float] = []
        self.busy_us: list[float] = []

    def run(self, count: int) -> None:
        """Take ``count`` arrivals."""
        worker = self.store.worker
        begun = perf_counter()
        dues = [begun + PERIOD_SECONDS * number for number in range(1, count + 1)]
        first = 0
        while first < count:
            now = perf_counter()
            if now < dues[first]:
                sleep(dues[first] - now)
                now = perf_counter()
                # It came while the sleep was too long.
                dues[first] = now
            last = first + 1
            while last < count and dues[last] <= now:
                last += 1
            keys: list[bytes] = []
            values: list[bytes] = []
            for _ in range(first, last):
                more_keys, more_values = next(self._arrivals)
                keys += more_keys
                values += more_values
            was_busy = worker.is_busy
            self.store.write(keys, values)
            ended = perf_counter()
            # It is durable, but those that arrive meanwhile wait.
            self.store.tend()
            taken_us = [(ended - due) * 1e6 for due in dues[first:last]]
            self.taken_us += taken_us
            if was_busy or worker.is_busy:
                self.busy_us += taken_us
            first = last

    def rest(self) -> None:
        """Wait until the worker has nothing to do at once."""
        worker = self.store.worker
        while worker.is_busy:
            worker.poll()
            sleep(PERIOD_SECONDS)


def run(plan: StallPlan, folder: Path) -> TrialResult:
    """Measure idle and busy puts in turn, in engines in ``folder``."""
    arrivals = int(plan.turn_seconds / PERIOD_SECONDS)
    idle = _load(plan, folder / "idle", _IDLE_MEMORY_BYTES, arrivals)
    try:
        busy = _load(plan, folder / "busy", _BUSY_MEMORY_BYTES, arrivals)
        try:
            settle_python()
            for _ in range(plan.turns):
                idle.run(arrivals)
                busy.run(arrivals)
                busy.rest()
        finally:
            busy.store.close()
    finally:
        idle.store.close()
    puts, seconds = plan.turns * arrivals * ARRIVING_KEYS, plan.turns * plan.turn_seconds
    found = TrialResult(busy_percent=100 * len(busy.busy_us) / len(busy.taken_us))
    found.phases["put, worker idle"] = Figures.of(idle.taken_us, puts, seconds)
    if busy.busy_us:
        found.phases["put, worker busy"] = Figures.of(busy.busy_us, puts, seconds)
    return found


def _load(plan: StallPlan, folder: Path, memory_bytes: int, arrivals: int) -> Load:
    """Open an engine that holds the plan's keys in tables, and the puts that are to come."""
    workload = Workload(value_bytes=VALUE_BYTES, keys=plan.keys, gets=0, synced=True, quiet_seconds=plan.quiet_seconds)
    keys = stored_keys(plan.keys + plan.turns * arrivals * ARRIVING_KEYS)
    values = Values(VALUE_BYTES)
    store = EngineStore(folder, workload, memory_bytes=_BUSY_MEMORY_BYTES)
    try:
        for batch, records in batches(keys[: plan.keys], values):
            store.put(batch, records)
        store.settle()
    finally:
        store.close()
    store = EngineStore(folder, workload, memory_bytes=memory_bytes)
    return Load(store, batches(keys[plan.keys :], values, ARRIVING_KEYS))


def main() -> None:
    """Run the trial that the command line names."""
    plan, folder = sys.argv[1:]
    print(RESULT.dump_json(run(PLAN.validate_json(plan), Path(folder))).decode())


if __name__ == "__main__":
    main()
