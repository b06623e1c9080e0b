"""Redis as a system: a primary and two replicas on loopback, each logging every write at once (AOF always)."""

from __future__ import annotations

import shutil
import socket
from time import monotonic, sleep

from benchmarks.go_driver import GoDriver, has_go
from benchmarks.measurement import BenchmarkError, Sample, Scenario, SystemName
from benchmarks.processes import HOST, Children, free_ports

_SERVERS = 3
_READY_SECONDS = 20.0
_POLL_SECONDS = 0.05


class Redis:
    """A put is SET and WAIT 1: the primary has logged it, and one replica has it."""

    name: SystemName = "redis"

    def __init__(self, children: Children) -> None:
        self._children = children
        self._driver: GoDriver | None = None
        self._pids: list[int] = []

    def missing(self) -> str | None:
        """Say which of Redis and the compiler is not installed."""
        found = {"redis-server": shutil.which("redis-server"), "go": has_go()}
        absent = [what for what, there in found.items() if not there]
        return f"no {', no '.join(absent)}; on Debian: apt-get install redis-server golang-go" if absent else None

    def start(self) -> None:
        """Build the load generator, start the servers, write every key once."""
        first = free_ports(_SERVERS)
        self._driver = GoDriver("redis", self._children.folder, [f"{HOST}:{first}"])
        for number in range(_SERVERS):
            name, port = f"redis-{number}", first + number
            data = self._children.folder / f"{name}.data"
            data.mkdir()
            command = [
                "redis-server", "--bind", HOST, "--port", str(port), "--dir", str(data), "--save", "",
                "--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0",
            ]  # fmt: skip
            replication = ["--replicaof", f"{HOST} {first}"] if number else []
            process = self._children.spawn(name, [*command, *replication])
            self._children.wait_for_port(name, process, port)
            self._pids.append(process.pid)
        _wait_for_replicas(first)
        self._driver.fill()

    def measure(self, scenario: Scenario, seconds: float) -> Sample:
        """Run one closed loop."""
        assert self._driver is not None
        return self._driver.measure(scenario.op, scenario.outstanding, seconds)

    def process_ids(self) -> list[int]:
        """Return the servers' process ids."""
        return self._pids


def _wait_for_replicas(port: int) -> None:
    """Wait until the primary says that every replica follows it."""
    give_up = monotonic() + _READY_SECONDS
    while monotonic() < give_up:
        with socket.create_connection((HOST, port), timeout=5) as asked:
            asked.sendall(b"INFO replication\r\n")
            if asked.recv(65_536).count(b"state=online") == _SERVERS - 1:
                return
        sleep(_POLL_SECONDS)
    raise BenchmarkError(f"the Redis replicas do not follow their primary within {_READY_SECONDS:.0f} s")
