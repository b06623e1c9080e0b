"""A cluster in virtual time behind the fixture: seconds pass in no time, and a seed repeats everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf

from kvbus.client.url import DEFAULT_KEYSPACE
from kvbus.core.keyspace import Keyspace
from kvbus.core.sides import Way
from kvbus.errors import ConfigError
from kvbus.sim.client import SimClient
from kvbus.sim.world import World
from kvbus.testing.convergence import digests_converged
from kvbus.testing.harness.cluster import Cluster, NotConverged

_LOOK_SECONDS = 0.05


class SimulatedCluster(Cluster):
    """A world as a cluster under test. A call of a client lets virtual time pass until its reply.

    ``keyspaces`` are as in a configuration; ``seed`` decides every delay. ``world`` gives the rest: clocks, disks,
    lossy lines.
    """

    def __init__(self, nodes: int, keyspaces: Mapping[str, Keyspace], *, seed: int = 0) -> None:
        self.seed = seed
        self.world = World(nodes, seed=seed, keyspaces=keyspaces)
        super().__init__(self.world.names)
        self.world.settle()

    @property
    def addresses(self) -> list[str]:
        """There are none.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "the simulated cluster has no sockets; code with sockets of its own needs a real one: "
            'mark the test with kvbus(mode="real"), or run pytest with --kvbus-mode real'
        )

    def client(
        self, name: str | None = None, *, keyspace: str = DEFAULT_KEYSPACE, deadline_ms: int = 5000
    ) -> SimClient:
        """Open a blocking client: of the node ``name``, whose side of a cut it shares, or of all nodes."""
        if name is not None:
            self._check(name)
        return self.world.client(name, keyspace=keyspace, deadline_ms=deadline_ms)

    def kill(self, name: str) -> None:
        """End a node at once, as SIGKILL does; ``world.lose_power`` is worse."""
        self._check(name)
        self.world.kill(name)

    def stop(self, name: str) -> None:
        """Stop a node cleanly, and wait until it has ended."""
        self._check(name)
        self.world.stop(name)
        self._wait(lambda: f"{name} did not stop" if self.is_up(name) else "", 10.0)

    def start(self, name: str) -> None:
        """Start a node that was killed or stopped."""
        self._check(name)
        self.world.start(name)

    def is_up(self, name: str) -> bool:
        """Say whether a node's process is there, paused or not."""
        self._check(name)
        return self.world.processes[name].is_up

    def resume(self, name: str) -> None:
        """Let a paused node go on."""
        self.world.resume(name)

    def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        if not 0 <= seconds < inf:
            raise ValueError(f"sleep takes a number of seconds, not {seconds}")
        self.world.timeline.run(seconds)

    def now(self) -> float:
        """Return the virtual time, in seconds."""
        return self.world.timeline.now

    def close(self) -> None:
        """Nothing is left of a world that nobody holds."""

    def _cut(self, ways: Sequence[Way]) -> None:
        self.world.cut(ways)

    def _heal(self) -> None:
        self.world.heal()

    def _check(self, name: str) -> None:
        if name not in self.names:
            raise ConfigError(f"no node {name!r}; there are: {', '.join(self.names)}")

    def _pause(self, name: str) -> None:
        self._check(name)
        self.world.pause(name)

    def _wait(self, flaw: Callable[[], str], timeout_s: float) -> None:
        end = self.now() + timeout_s
        while said := flaw():
            if self.now() >= end:
                raise NotConverged(f"after {timeout_s:g} virtual seconds: {said}")
            self.sleep(_LOOK_SECONDS)

    def _unlinked(self) -> str:
        for name, process in self.world.processes.items():
            if not process.is_up or process.is_paused:
                return f"{name} is {'paused' if process.is_up else 'down'}"
            away = [self.world.name_of(peer) for peer, link in process.peers.items() if not link.is_up]
            if away:
                return f"{name} has no link to {', '.join(away)}"
        return ""

    def _differing(self) -> str:
        keyspaces = self.world.processes[self.names[0]].config.keyspaces
        verdicts = (digests_converged(self.world.digests(name)) for name in keyspaces)
        return next((verdict.reason for verdict in verdicts if verdict.ok is False), "")
