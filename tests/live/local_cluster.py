"""Real node processes on loopback, started, stopped and killed through the command line."""

from __future__ import annotations

import atexit
import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from time import monotonic, sleep
from urllib.error import HTTPError

from kvbus.local.folder import ClusterFolder, LocalNode
from kvbus.local.launch import readiness
from tests.live.command_server import CommandServer
from tests.live.ports import free_base_port
from tests.live.wire_socket import WireSocket, code_of


@cache
def _command_server() -> CommandServer:
    server = CommandServer()
    atexit.register(server.close)
    return server


def run_kvbus(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line of the code under test, be it a checkout's or an installed wheel's."""
    return _command_server().run(arguments)


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

    def restore(self) -> None:
        """Start every node that has ended, and wait until all serve and see each other."""
        for name in self.names:
            if not self.node(name).is_running():
                self.start(name)
        if not all(map(self._sees_all, self.names)):
            self.wait_until_whole()

    def wait_until_whole(self, timeout_seconds: float = 10.0) -> None:
        """Write on all replicas through each node until it succeeds there and the node sees all others.

        Seeing is not enough to wait for: a node that hung is silent to those that await an answer which is lost, until
        it says something, and so until it is asked something.
        """
        give_up = monotonic() + timeout_seconds
        for name in self.names:
            with self.connect(name) as wire:
                while True:
                    ctx = wire.ask(op="get", key=b"whole").get("ctx")
                    put = wire.ask(op="put", key=b"whole", value=b"v", ctx=ctx, w=len(self.names), deadline_ms=200)
                    if code_of(put) == "ok" and self._sees_all(name):
                        break
                    assert monotonic() < give_up, f"{name} is not whole after {timeout_seconds} s: {put}"
                    sleep(0.02)

    def _sees_all(self, name: str) -> bool:
        return readiness(self.node(name).http) == {"ready": True, "members": dict.fromkeys(self.names, "up")}

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

    def processor_seconds(self, name: str) -> float:
        """Return the processor time that the node has used."""
        fields = Path(f"/proc/{self.pid(name)}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def largest_mappings(self, name: str) -> str:
        """Return where the node's own memory lies: the five largest mappings, KiB and name."""
        smaps = Path(f"/proc/{self.pid(name)}/smaps").read_text(encoding="utf-8")
        found = re.findall(r"^[0-9a-f]+-[0-9a-f]+ (.*)$(?s:.*?)^Anonymous: +(\d+) kB$", smaps, re.MULTILINE)
        largest = sorted(((int(kib), place.split()[-1]) for place, kib in found), reverse=True)[:5]
        return ", ".join(f"{kib} in {place}" for kib, place in largest)

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
