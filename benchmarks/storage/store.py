"""What a store must offer to be measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from time import monotonic, sleep
from typing import Literal, Protocol

from benchmarks.storage.workload import Workload

StoreName = Literal["lsm", "append", "leveldb", "rocksdb", "lmdb", "sqlite"]
_POLL_SECONDS = 0.02
_SETTLE_SECONDS = 300.0


class Store(Protocol):
    """A store in a folder of its own, open for one trial."""

    def put(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Write one batch; durable at the return where the workload is synced."""
        ...

    def get(self, key: bytes) -> bytes | None:
        """Return the newest value at ``key``, or None."""
        ...

    def scan(self) -> int:
        """Go through all keys and values in order and return how many there are."""
        ...

    def settle(self) -> None:
        """Wait until flushes and compactions that are due are done."""
        ...

    def compact(self) -> None:
        """Bring everything into the shape that takes the least space, as far as the store has a call for it."""
        ...

    def other_processes(self) -> list[int]:
        """Return the ids of processes that write for the store."""
        ...

    def own_written_bytes(self) -> int | None:
        """Return log, flushed and compacted bytes as the store counts them; None where it does not."""
        ...

    def close(self) -> None:
        """Release files and processes."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """A kind of store. ``module`` is what must be installed, ``settings`` what differs from the defaults or is of
    weight, ``reads`` whether there is more to it than puts."""

    name: StoreName
    label: str
    module: str
    settings: str
    open: Callable[[Path, Workload], Store]
    reads: bool = True

    def missing(self) -> str | None:
        """Say what is not installed and how to get it; None when all is there."""
        if find_spec(self.module) is None:
            return f"{self.module} is not installed: make bench-storage installs it where there is a wheel"
        return None


def wait_until_quiet(
    is_busy: Callable[[], bool], quiet_seconds: float, *, pause: Callable[[float], object] = sleep
) -> None:
    """Return once ``is_busy``, asked again and again, has said no for ``quiet_seconds``.

    Raises:
        TimeoutError: it never did.
    """
    give_up = monotonic() + _SETTLE_SECONDS
    # Looks are counted, not seconds: on a crowded machine one pause may last as long as all of them should.
    looks = ceil(quiet_seconds / _POLL_SECONDS)
    left = looks
    while left:
        pause(_POLL_SECONDS)
        left -= 1
        if is_busy():
            left = looks
            if monotonic() > give_up:
                raise TimeoutError(f"background work did not end within {_SETTLE_SECONDS:.0f} s")
