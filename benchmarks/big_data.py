"""``python -m benchmarks.big_data``: far more data than memory in one engine with its worker, and what that costs.

It loads keys of 22 bytes with values of 100 that do not compress, reads present and absent keys, reads by a Zipf
distribution before and after a full scan, and opens the engine again. Anonymous memory (RssAnon) of this process and
the worker is sampled all the time. It ends with 1 where a bound is broken.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from struct import Struct
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import monotonic

import mmh3

from benchmarks.storage.engine import EngineStore
from benchmarks.storage.workload import BATCH_KEYS, Values, Workload

_NUMBER = Struct("<Q")
_PREFIX = Struct(">IH")
_SPACE, _PARTITIONS = 0x6B76_6275, 64
_MIB = 1 << 20
_SAMPLE_SECONDS = 0.1
_ZIPF = 0.99
_FALSE_POSITIVE_THEORY = 0.0082
_BEYOND_BUDGET_BYTES = 150 * _MIB
_RESTART_SECONDS = 5.0
_PROGRESS_KEYS = 1_000_000


def main() -> int:
    """Run all of it and say which bounds held."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.big_data", description=__doc__)
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--gets", type=int, default=200_000)
    parser.add_argument("--budget-mib", type=int, default=256)
    parser.add_argument("--folder", help="where the data go; a temporary folder when absent")
    chosen = parser.parse_args()
    with TemporaryDirectory(dir=chosen.folder) as folder:
        return _run(Path(folder) / "data", chosen.keys, chosen.gets, chosen.budget_mib * _MIB)


def key_of(number: int) -> bytes:
    """Return the engine key of a number: space, partition and 16 bytes that look random."""
    digest = mmh3.mmh3_x64_128_digest(_NUMBER.pack(number))
    return _PREFIX.pack(_SPACE, digest[0] % _PARTITIONS) + digest


@dataclass
class Bounds:
    """What was to hold and what did."""

    broken: list[str] = field(default_factory=list[str])

    def check(self, what: str, measured: float, bound: float, *, at_least: bool = False) -> None:
        """Print one figure beside its bound, and note it where it is broken."""
        holds = measured >= bound if at_least else measured <= bound
        print(f"  {what}: {measured:,.4g} (bound {bound:,.4g}){'' if holds else '  BROKEN'}", flush=True)
        if not holds:
            self.broken.append(what)


class Memory:
    """Samples RssAnon of this process and of ``others``, bytes."""

    def __init__(self, others: Sequence[int]) -> None:
        self._processes = ["self", *map(str, others)]
        self._stop = Event()
        self.most = 0
        self.parts: list[int] = []
        self._thread = Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more samples."""
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            parts = [_rss_anon(process) for process in self._processes]
            if sum(parts) > self.most:
                self.most, self.parts = sum(parts), parts


def _rss_anon(process: str) -> int:
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


class Zipf:
    """Numbers below ``count``, few of them often. Source: Gray et al., "Quickly generating billion-record
    databases"."""

    def __init__(self, count: int, rng: Random) -> None:
        self._count, self._rng = count, rng
        self._zeta = sum(1 / rank**_ZIPF for rank in range(1, count + 1))
        zeta_two = 1 + 0.5**_ZIPF
        self._alpha = 1 / (1 - _ZIPF)
        self._eta = (1 - (2 / count) ** (1 - _ZIPF)) / (1 - zeta_two / self._zeta)

    def draw(self, count: int) -> Iterator[int]:
        """Yield ``count`` numbers; the ranks are scattered over all of them."""
        for _ in range(count):
            luck = self._rng.random()
            weight = luck * self._zeta
            if weight < 1:
                rank = 0
            elif weight < 1 + 0.5**_ZIPF:
                rank = 1
            else:
                rank = int(self._count * (self._eta * luck - self._eta + 1) ** self._alpha)
            yield mmh3.hash64(_NUMBER.pack(rank), signed=False)[0] % self._count


def _run(folder: Path, keys: int, gets: int, budget_bytes: int) -> int:
    bounds = Bounds()
    workload = Workload(value_bytes=100, keys=keys, gets=gets, synced=False, quiet_seconds=1.0)
    folder.mkdir()
    store = EngineStore(folder, workload, memory_bytes=budget_bytes)
    memory = Memory(store.other_processes())
    print(f"{keys:,} keys, {workload.user_bytes / 1e9:.2f} GB, memory budget {budget_bytes // _MIB} MiB")
    _load(store, workload)
    _read(store, keys, gets, bounds)
    _read_by_zipf(store, keys, gets, bounds)
    memory.stop()
    shown = " + ".join(f"{part // _MIB}" for part in memory.parts)
    print(f"most RssAnon, this process + worker: {shown} MiB")
    bounds.check("RssAnon, MiB", memory.most / _MIB, (budget_bytes + _BEYOND_BUDGET_BYTES) / _MIB)
    store.close()
    begun = monotonic()
    again = EngineStore(folder, workload, memory_bytes=budget_bytes)
    assert again.get(key_of(1)) is not None
    bounds.check("restart until the first get, s", monotonic() - begun, _RESTART_SECONDS)
    again.close()
    print(f"broken: {', '.join(bounds.broken)}" if bounds.broken else "all bounds hold")
    return 1 if bounds.broken else 0


def _load(store: EngineStore, workload: Workload) -> None:
    values = Values(workload.value_bytes)
    begun, longest = monotonic(), 0.0
    for first in range(0, workload.keys, BATCH_KEYS):
        count = min(BATCH_KEYS, workload.keys - first)
        batch = [key_of(number) for number in range(first, first + count)]
        at = monotonic()
        store.put(batch, values.batch(first, count))
        longest = max(longest, monotonic() - at)
        if first // _PROGRESS_KEYS != (first + count) // _PROGRESS_KEYS:
            print(f"  {first + count:,} keys after {monotonic() - begun:.0f} s", flush=True)
    loaded = monotonic() - begun
    store.settle()
    stats = store.engine.stats()
    written = store.own_written_bytes() or 0
    sizes = ", ".join(f"L{level} {stats[f'level{level}_bytes'] // _MIB}" for level in range(4))
    print(
        f"loaded {workload.keys / loaded:,.0f} keys/s, longest put {longest * 1000:.0f} ms, settled after "
        f"{monotonic() - begun - loaded:.0f} s; MiB: {sizes}; tables {stats['tables']}, "
        f"write amplification {written / workload.user_bytes:.2f}",
        flush=True,
    )


def _read(store: EngineStore, keys: int, gets: int, bounds: Bounds) -> None:
    rng = Random(1)
    begun = monotonic()
    for _ in range(gets):
        assert store.get(key_of(rng.randrange(keys))) is not None
    print(f"random gets of present keys: {gets / (monotonic() - begun):,.0f}/s")
    before = store.engine.stats()
    begun = monotonic()
    for number in range(keys, keys + gets):
        assert store.get(key_of(number)) is None
    print(f"gets of absent keys: {gets / (monotonic() - begun):,.0f}/s")
    after = store.engine.stats()
    asked, wrong = (after[name] - before[name] for name in ("bloom_probes", "bloom_false_positives"))
    bounds.check("filters' false positives", wrong / asked, 1.5 * _FALSE_POSITIVE_THEORY)


def _read_by_zipf(store: EngineStore, keys: int, gets: int, bounds: Bounds) -> None:
    zipf = Zipf(keys, Random(2))
    _hit_ratio(store, zipf, gets)
    before = _hit_ratio(store, zipf, gets)
    begun = monotonic()
    found = store.scan()
    print(f"full scan: {found / (monotonic() - begun):,.0f} keys/s")
    assert found == keys
    after = _hit_ratio(store, zipf, gets // 4)
    print(f"Zipf {_ZIPF}: gets that read nothing from the disk {before:.3f}, right after the scan {after:.3f}")
    bounds.check("hit ratio after / before a full scan", after / before, 0.95, at_least=True)


def _hit_ratio(store: EngineStore, zipf: Zipf, gets: int) -> float:
    before = store.engine.stats()
    for number in zipf.draw(gets):
        store.get(key_of(number))
    after = store.engine.stats()
    return 1 - (after["cache_misses"] - before["cache_misses"]) / gets


if __name__ == "__main__":
    sys.exit(main())
