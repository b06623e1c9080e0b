"""Compiled load generators for the peers: a Python client would be the bottleneck and flatter kvbus."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import cast

from benchmarks.measurement import KEYS, VALUE_BYTES, WARMUP_SECONDS, BenchmarkError, Sample
from benchmarks.processes import run

_SOURCES = Path(__file__).parent / "peer_load"
# Where Debian's packages golang-*-dev put their sources.
_GOPATH = Path("/usr/share/gocode")
_BUILD_SECONDS = 300.0
_FILL_SECONDS = 130.0
# The driver gives up by itself ten seconds after its time.
_GRACE_SECONDS = 20.0


def has_go() -> bool:
    """Tell whether the Go compiler is installed."""
    return shutil.which("go") is not None


def has_package(path: str) -> bool:
    """Tell whether a Debian package has installed the Go package ``path``."""
    return (_GOPATH / "src" / path).is_dir()


class GoDriver:
    """A load generator built from ``loop.go`` and ``<peer>.go``, for servers at ``addresses``."""

    def __init__(self, peer: str, folder: Path, addresses: list[str]) -> None:
        self._binary = folder / f"{peer}-load"
        self._addresses = ",".join(addresses)
        sources = [str(_SOURCES / "loop.go"), str(_SOURCES / f"{peer}.go")]
        settings = ["env", f"GOPATH={_GOPATH}", "GO111MODULE=off", "GOFLAGS="]
        if "GOCACHE" not in os.environ and "HOME" not in os.environ:
            settings.append(f"GOCACHE={folder / 'go-cache'}")
        run([*settings, "go", "build", "-o", str(self._binary), *sources], _BUILD_SECONDS)

    def fill(self) -> None:
        """Write every key once."""
        self._run("fill", 1, 0.0, _FILL_SECONDS)

    def measure(self, op: str, clients: int, seconds: float) -> Sample:
        """Run one closed loop."""
        return Sample.from_map(self._run(op, clients, seconds, seconds + _GRACE_SECONDS))

    def _run(self, op: str, clients: int, seconds: float, limit_seconds: float) -> dict[str, object]:
        options = {
            "addresses": self._addresses, "op": op, "clients": clients, "seconds": seconds,
            "warmup": WARMUP_SECONDS, "keys": KEYS, "value": VALUE_BYTES,
        }  # fmt: skip
        command = [str(self._binary), *(f"-{name}={value}" for name, value in options.items())]
        printed = run(command, limit_seconds)
        try:
            return cast("dict[str, object]", json.loads(printed))
        except ValueError:
            raise BenchmarkError(f"{self._binary.name} printed no JSON: {printed!r}") from None
