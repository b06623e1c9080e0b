"""Real node processes on loopback, started, stopped and killed through the command line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom
from time import monotonic, sleep
from urllib.error import HTTPError

from kvbus.cli.local_cluster import PORTS_A_NODE, ClusterFolder, LocalNode, check_ports, planned_node
from kvbus.errors import ConfigError
from tests.live.wire_socket import WireSocket

_TRIES = 20
_COMMAND_SECONDS = 90
# Below the range from which the system gives ports to outgoing connections.
_FIRST_PORT, _LAST_PORT = 12_000, 32_000


def run_kvbus(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line of the code under test, be it a checkout's or an installed wheel's."""
    return subprocess.run(
        [sys.executable, "-m", "kvbus", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=_COMMAND_SECONDS,
        check=False,
    )


def free_base_port(nodes: int) -> int:
    """Return a first port for ``nodes`` nodes of which none is taken now."""
    for _ in range(_TRIES):
        base = SystemRandom().randrange(_FIRST_PORT, _LAST_PORT - nodes * PORTS_A_NODE, PORTS_A_NODE)
        try:
            check_ports([planned_node(Path(), number, base) for number in range(nodes)])
        except ConfigError:
            continue
        return base
    raise RuntimeError("found no free ports for a local cluster")


class LocalCluster:
    """The nodes of one folder. Names are ``n1``, ``n2``, …; each command waits until it is done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._place = ClusterFolder(folder)

    def node(self, name: str) -> LocalNode:
        """Return the node's entry in ``cluster.json``."""
        return self._place.node(name)

    @property
    def names(self) -> list[str]:
        """The names of all nodes, running or not."""
        return [node.name for node in self._place.nodes()]

    @property
    def addresses(self) -> list[str]:
        """The client addresses of all nodes."""
        return [node.client for node in self._place.nodes()]

    def command(self, *arguments: str) -> str:
        """Run ``kvbus cluster ARGUMENTS --dir …``; return what it printed."""
        done = run_kvbus("cluster", *arguments, "--dir", str(self.folder))
        assert done.returncode == 0, f"kvbus cluster {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, name: str) -> None:
        """Start the node and wait until it serves and all see each other."""
        self.command("start", name)

    def kill(self, name: str) -> None:
        """End the node by SIGKILL, at once: without the command line's start-up."""
        os.kill(self.pid(name), signal.SIGKILL)
        self.wait_for_end(name)
        self._place.set_pid(name, None)

    def stop(self, name: str) -> None:
        """Stop the node cleanly."""
        self.command("stop", name)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the node."""
        os.kill(self.pid(name), number)

    def wait_for_end(self, name: str, timeout_seconds: float = 10.0) -> None:
        """Wait until the node's process has ended."""
        node, give_up = self.node(name), monotonic() + timeout_seconds
        while node.is_running():
            assert monotonic() < give_up, f"{name} still runs after {timeout_seconds} s"
            sleep(0.005)

    def pid(self, name: str) -> int:
        """Return the node's process id, which must be alive."""
        node = self.node(name)
        assert node.pid is not None
        assert node.is_running(), f"{name} has ended:\n{self.log(name)[-4000:]}"
        return node.pid

    def log(self, name: str) -> str:
        """Return all that the node has said so far."""
        return self.node(name).log.read_text(encoding="utf-8", errors="replace")

    def memory_kib(self, name: str) -> int:
        """Return the node's resident memory that is its own (RssAnon)."""
        status = Path(f"/proc/{self.pid(name)}/status").read_text(encoding="ascii")
        found = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1])

    def http(self, name: str, path: str, *, method: str = "GET") -> tuple[int, str, str]:
        """Ask the node's HTTP port; return status, content type and body."""
        request = urllib.request.Request(f"http://{self.node(name).http}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.headers.get("Content-Type", ""), answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.headers.get("Content-Type", ""), error.read().decode()

    def metric(self, name: str, sample: str) -> float:
        """Return one sample of the node's metrics, written as in the exposition; 0 where there is none."""
        _, _, body = self.http(name, "/metrics")
        for line in body.splitlines():
            if line.startswith(f"{sample} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def connect(self, name: str) -> WireSocket:
        """Open a raw DEALER to the node's client port."""
        return WireSocket(self.node(name).client)

    def assert_unharmed(self, pids: Sequence[int]) -> None:
        """See that the same processes run as before and none has said that it met a fatal error."""
        assert [self.pid(name) for name in self.names] == list(pids)
        for name in self.names:
            assert '"event": "fatal"' not in self.log(name), self.log(name)[-4000:]

    @property
    def pids(self) -> list[int]:
        """The process ids of all nodes."""
        return [self.pid(name) for name in self.names]


@contextmanager
def local_cluster(folder: Path, *, nodes: int = 3, settings: str = "") -> Iterator[LocalCluster]:
    """Run a cluster in ``folder``; ``settings`` is TOML for all nodes. Its processes never outlive the test."""
    extra: list[str] = []
    folder.mkdir(parents=True, exist_ok=True)
    if settings:
        (folder / "extra.toml").write_text(settings, encoding="utf-8")
        extra = ["--config", str(folder / "extra.toml")]
    cluster = LocalCluster(folder)
    cluster.command("up", "--nodes", str(nodes), "--base-port", str(free_base_port(nodes)), *extra)
    try:
        yield cluster
    finally:
        for name in cluster.names:
            node = cluster.node(name)
            if node.is_running() and node.pid is not None:
                os.kill(node.pid, signal.SIGKILL)
