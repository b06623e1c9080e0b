"""One trial: a fresh process fills one store, reads it, and prints what it found as a JSON line.

Run by ``benchmarks.storage.rounds`` as ``python -m benchmarks.storage.trial STORE WORKLOAD FOLDER``.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import cast

from pydantic import TypeAdapter

from benchmarks.storage.engine import EngineStore
from benchmarks.storage.figures import RESULT, Amplification, Figures, Phase, TrialResult
from benchmarks.storage.store import Store, StoreName, System
from benchmarks.storage.systems import SYSTEMS
from benchmarks.storage.workload import BATCH_KEYS, Values, Workload, absent_keys, stored_keys

WORKLOAD = TypeAdapter(Workload)
_YOUNG_OBJECTS = 50_000
_SAMPLE = 1_000
_BLOCK_BYTES = 512


def settle_python() -> None:
    """Let Python search for cycles as seldom as a node does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)


def run(system: System, workload: Workload, folder: Path) -> TrialResult:
    """Fill a store in ``folder``, and read it."""
    keys, absent = stored_keys(workload.keys), absent_keys(workload.gets if system.reads else 0)
    store = system.open(folder, workload)
    try:
        settle_python()
        before = written_bytes(store)
        phases: dict[Phase, Figures] = {"put": _put_all(store, keys, Values(workload.value_bytes))}
        begun = perf_counter()
        store.settle()
        settle_seconds = perf_counter() - begun
        after, own = written_bytes(store), store.own_written_bytes()
        # Synced or not, a store reads alike.
        if system.reads and workload.synced:
            phases |= _read_all(store, keys, absent, workload)
        store.compact()
        stored = stored_bytes(folder)
    finally:
        store.close()
    user_bytes = workload.user_bytes
    return TrialResult(
        phases,
        Amplification(
            written=None if before is None or after is None else (after - before) / user_bytes,
            own_written=None if own is None else own / user_bytes,
            stored=stored / user_bytes,
            settle_seconds=settle_seconds,
        ),
    )


def written_bytes(store: Store) -> int | None:
    """Return the bytes that the store's processes have handed to the kernel; None where the system does not tell."""
    total = 0
    for process_id in (os.getpid(), *store.other_processes()):
        try:
            lines = Path(f"/proc/{process_id}/io").read_text(encoding="ascii").splitlines()
        except OSError:
            return None
        total += next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))
    return total


def stored_bytes(folder: Path) -> int:
    """Return the disk space that the files below ``folder`` take."""
    return sum(path.stat().st_blocks for path in folder.rglob("*") if path.is_file()) * _BLOCK_BYTES


def batches(keys: Sequence[bytes], values: Values, size: int = BATCH_KEYS) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Yield batches of keys and their values."""
    for first in range(0, len(keys), size):
        batch = keys[first : first + size]
        yield batch, values.batch(first, len(batch))


def _put_all(store: Store, keys: list[bytes], values: Values) -> Figures:
    taken_us: list[float] = []
    put = store.put
    started = perf_counter()
    for batch, records in batches(keys, values):
        begun = perf_counter()
        put(batch, records)
        taken_us.append((perf_counter() - begun) * 1e6)
    return Figures.of(taken_us, len(keys), perf_counter() - started)


def _read_all(store: Store, keys: Sequence[bytes], absent: Sequence[bytes], workload: Workload) -> dict[Phase, Figures]:
    # Keys come in random order, so every n-th of them is a random choice.
    present = keys[:: max(len(keys) // workload.gets, 1)][: workload.gets]
    wrong = _wrong_values(store, keys, workload)
    phases: dict[Phase, Figures] = {}
    phases["get hit"] = _get_all(store, present, expected=len(present), wrong=wrong)
    phases["get miss"] = _get_all(store, absent, expected=0)
    if isinstance(store, EngineStore):
        phases["multi_get 64"] = _multi_get_all(store, present)
    started = perf_counter()
    count = store.scan()
    phases["scan"] = Figures(count / (perf_counter() - started), errors=abs(count - len(keys)))
    return phases


def _get_all(store: Store, keys: Sequence[bytes], *, expected: int, wrong: int = 0) -> Figures:
    get = store.get
    found = 0
    started = perf_counter()
    for key in keys:
        if get(key) is not None:
            found += 1
    return Figures(len(keys) / (perf_counter() - started), errors=abs(found - expected) + wrong)


def _multi_get_all(store: EngineStore, keys: Sequence[bytes]) -> Figures:
    multi_get = store.engine.multi_get
    absent = 0
    started = perf_counter()
    for first in range(0, len(keys), BATCH_KEYS):
        absent += multi_get(keys[first : first + BATCH_KEYS]).count(None)
    return Figures(len(keys) / (perf_counter() - started), errors=absent)


def _wrong_values(store: Store, keys: Sequence[bytes], workload: Workload) -> int:
    values = Values(workload.value_bytes)
    numbers = range(0, len(keys), max(len(keys) // _SAMPLE, 1))
    return sum([store.get(keys[number]) != values.batch(number, 1)[0] for number in numbers])


def main() -> None:
    """Run the trial that the command line names."""
    name, workload, folder = sys.argv[1:]
    system = SYSTEMS[cast("StoreName", name)]
    print(RESULT.dump_json(run(system, WORKLOAD.validate_json(workload), Path(folder))).decode())


if __name__ == "__main__":
    main()
