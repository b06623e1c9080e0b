"""etcd as a system: three members on loopback, each with its data and log in the run's folder."""

from __future__ import annotations

import shutil
from subprocess import Popen

from benchmarks.go_driver import GoDriver, has_go, has_package
from benchmarks.measurement import Sample, Scenario, SystemName
from benchmarks.processes import HOST, Children, free_ports

_MEMBERS = 3
_GO_CLIENT = "go.etcd.io/etcd/clientv3"


class Etcd:
    """A cluster with etcd's default settings, and its compiled client."""

    name: SystemName = "etcd"

    def __init__(self, children: Children) -> None:
        self._children = children
        self._driver: GoDriver | None = None
        self._pids: list[int] = []

    def missing(self) -> str | None:
        """Say which of etcd, the compiler and etcd's Go client is not installed."""
        found = {"etcd": shutil.which("etcd"), "go": has_go(), f"Go package {_GO_CLIENT}": has_package(_GO_CLIENT)}
        absent = [what for what, there in found.items() if not there]
        if not absent:
            return None
        return f"no {', no '.join(absent)}; on Debian: apt-get install etcd-server golang-go golang-etcd-server-dev"

    def start(self) -> None:
        """Build the client, start three members, write every key once."""
        first = free_ports(2 * _MEMBERS)
        clients = [f"{HOST}:{first + 2 * number}" for number in range(_MEMBERS)]
        peers = [f"http://{HOST}:{first + 2 * number + 1}" for number in range(_MEMBERS)]
        self._driver = GoDriver("etcd", self._children.folder, clients)
        together = ",".join(f"etcd-{number}={peer}" for number, peer in enumerate(peers))
        members: dict[str, Popen[bytes]] = {}
        for number, (client, peer) in enumerate(zip(clients, peers, strict=True)):
            name = f"etcd-{number}"
            command = [
                "etcd", "--name", name, "--data-dir", str(self._children.folder / f"{name}.data"),
                "--listen-client-urls", f"http://{client}", "--advertise-client-urls", f"http://{client}",
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", together, "--initial-cluster-state", "new", "--logger", "zap",
            ]  # fmt: skip
            members[name] = self._children.spawn(name, command)
        for number, (name, process) in enumerate(members.items()):
            self._children.wait_for_port(name, process, first + 2 * number)
        self._pids = [process.pid for process in members.values()]
        self._driver.fill()

    def measure(self, scenario: Scenario, seconds: float) -> Sample:
        """Run one closed loop; etcd's gets are linearizable."""
        assert self._driver is not None
        return self._driver.measure(scenario.op, scenario.outstanding, seconds)

    def process_ids(self) -> list[int]:
        """Return the members' process ids."""
        return self._pids
