"""A cluster of real processes on loopback behind the fixture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic, sleep
from typing import cast

from kvbus.client import Client
from kvbus.client.url import DEFAULT_KEYSPACE
from kvbus.core.sides import Way
from kvbus.errors import ClientError, ConfigError
from kvbus.local.folder import LocalNode
from kvbus.local.launch import StartError, readiness
from kvbus.local.temporary import TemporaryCluster
from kvbus.testing.convergence import digests_converged
from kvbus.testing.harness.cluster import Cluster, NotConverged

_LOOK_SECONDS = 0.05
_ORDER_MS = 2000
_START_SECONDS = 30.0
_STEADY_SECONDS = 0.5


class RealCluster(Cluster):
    """Node processes in a temporary folder. Cuts are made inside the nodes; clients reach every node.

    Raises:
        ConfigError, StartError: a keyspace's settings are wrong, or a node did not start.
    """

    def __init__(self, nodes: int, keyspaces: Mapping[str, Mapping[str, object]]) -> None:
        self._processes = TemporaryCluster(nodes, keyspaces).__enter__()
        self._keyspaces = list(keyspaces)
        self._clients: list[Client] = []
        self._lost: tuple[object, ...] = ()
        self._steady_since = 0.0
        super().__init__(list(self._processes.nodes))

    @property
    def addresses(self) -> list[str]:
        """The nodes' client addresses, ``tcp://host:port``, for code with sockets of its own."""
        return [node.client for node in self._processes.nodes.values()]

    def client(self, name: str | None = None, *, keyspace: str = DEFAULT_KEYSPACE, deadline_ms: int = 5000) -> Client:
        """Open a blocking client: of the node ``name`` alone, or of all nodes; it is closed with the cluster."""
        if name is not None:
            self._node(name)
            client = self._processes.client(name, keyspace=keyspace, deadline_ms=deadline_ms)
        else:
            client = self._processes.cluster_client(keyspace=keyspace, deadline_ms=deadline_ms)
        self._clients.append(client)
        return client

    def kill(self, name: str) -> None:
        """End a node at once (SIGKILL)."""
        self._node(name).kill()

    def stop(self, name: str) -> None:
        """Stop a node cleanly (SIGTERM), and wait until it has ended."""
        self._node(name).stop()

    def start(self, name: str) -> None:
        """Start a node that was killed or stopped, and wait until it serves; cuts that are in force hold for it."""
        self._node(name)
        self._processes.launch(name)
        self._wait(lambda: self._unready(name), _START_SECONDS)
        for ways in self._cuts.values():
            self._cut(ways)

    def is_up(self, name: str) -> bool:
        """Say whether a node's process is there, paused or not."""
        return self._node(name).is_running()

    def resume(self, name: str) -> None:
        """Let a paused node go on (SIGCONT), under the cuts that are in force now."""
        self._node(name).resume()
        self._heal()
        for ways in self._cuts.values():
            self._cut(ways)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        sleep(seconds)

    def now(self) -> float:
        """Return the monotonic clock, in seconds."""
        return monotonic()

    def close(self) -> None:
        """Close the clients, end the nodes and remove their data."""
        try:
            for client in self._clients:
                client.close()
        finally:
            self._processes.close()

    def _node(self, name: str) -> LocalNode:
        node = self._processes.nodes.get(name)
        if node is None:
            raise ConfigError(f"no node {name!r}; there are: {', '.join(self.names)}")
        return node

    def _cut(self, ways: Sequence[Way]) -> None:
        self._processes.cut(ways)

    def _heal(self) -> None:
        self._processes.heal()

    def _pause(self, name: str) -> None:
        self._node(name).pause()

    def _unready(self, name: str) -> str:
        said = self._processes.last_words(name)
        if said is not None:
            raise StartError(f"{name} ended while it started: {said}")
        return "" if readiness(self._node(name).http) else f"{name} does not serve"

    def _wait(self, flaw: Callable[[], str], timeout_s: float) -> None:
        self._steady_since = monotonic()
        end = self._steady_since + timeout_s
        while said := flaw():
            if monotonic() >= end:
                raise NotConverged(f"after {timeout_s:g} s: {said}")
            sleep(_LOOK_SECONDS)

    def _unlinked(self) -> str:
        for name in self.names:
            members = readiness(self._node(name).http).get("members")
            if not isinstance(members, dict):
                return f"{name} does not answer"
            states = cast("Mapping[str, object]", members)
            away = [other for other in self.names if states.get(other) != "up"]
            if away:
                return f"{name} has no link to {', '.join(away)}"
        return self._unsteady()

    def _unsteady(self) -> str:
        """Say whether links were lost a moment ago: a node that stood still does not yet know what it has lost."""
        try:
            lost = tuple(self._stats(name)["links_lost_total"] for name in self.names)
        except ClientError as error:
            return str(error)
        if lost != self._lost:
            self._lost, self._steady_since = lost, monotonic()
        return "" if monotonic() - self._steady_since >= _STEADY_SECONDS else "links were lost a moment ago"

    def _stats(self, name: str) -> Mapping[str, object]:
        with self._processes.client(name, deadline_ms=_ORDER_MS) as client:
            return client.stats()

    def _differing(self) -> str:
        for keyspace in self._keyspaces:
            try:
                found = {name: self._digests(name, keyspace) for name in self.names}
            except ClientError as error:
                return str(error)
            verdict = digests_converged(found)
            if verdict.ok is False:
                return f"keyspace {keyspace}: {verdict.reason}"
        return ""

    def _digests(self, name: str, keyspace: str) -> dict[int, str]:
        with self._processes.client(name, keyspace=keyspace, deadline_ms=_ORDER_MS) as client:
            told = cast("Mapping[str, str]", client.admin("digests")["digests"])
        return {int(partition): digest for partition, digest in told.items()}
