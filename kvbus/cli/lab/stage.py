"""The lab's cluster: a node process in each namespace, and what each of them sees."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import monotonic, sleep
from typing import cast

from kvbus.cli.lab.network import LAB_VARIABLE, Network, address_of, new_network
from kvbus.client import Client
from kvbus.core.ring import key_hash, partition_of, partition_shift
from kvbus.core.sides import Way
from kvbus.local.folder import ClusterFolder, LocalNode, planned_node
from kvbus.local.launch import readiness, start, wait_until_ready
from kvbus.local.setup import write_configs

FIRST_PORT = 7400
_KEYSPACE = "default"
_POLL_SECONDS = 0.02


class Stage:
    """A cluster of ``count`` nodes, each in a network namespace of its own. It ends with this process."""

    def __init__(self, count: int) -> None:
        self.network: Network = new_network(count)
        self.nodes: list[LocalNode] = [
            planned_node(self.network.folder, number, FIRST_PORT, host=address_of(number)) for number in range(count)
        ]

    def start(self, progress: Callable[[int, int], None]) -> None:
        """Build the network, start the nodes in it and wait until all see each other.

        Raises:
            ConfigError: the network cannot be built, or a setting in the environment is wrong.
            StartError: a node ended.
        """
        self.network.build()
        write_configs(self.nodes, mode="ap", extra=None, environ=os.environ, insecure=True)
        started = [start(node, within=self.network.inside(node.name)) for node in self.nodes]
        self.nodes = [replace(each.node, pid=each.process.pid) for each in started]
        ClusterFolder(self.network.folder).write(self.nodes)
        wait_until_ready(started, [], progress)

    def environment(self) -> dict[str, str]:
        """Return the environment in which a command finds the nodes and the lab."""
        kept = {name: value for name, value in os.environ.items() if name != "KVBUS_DIR"}
        addresses = ",".join(node.client for node in self.nodes)
        return {**kept, "KVBUS_CONNECT": addresses, LAB_VARIABLE: str(self.network.folder)}

    def client(self, name: str) -> Client:
        """Open a client beside the nodes that talks to the node ``name`` only; cuts do not concern it."""
        return Client(self.node(name).client, routing="direct")

    def node(self, name: str) -> LocalNode:
        """Return the node ``name``."""
        return next(node for node in self.nodes if node.name == name)

    def replicas(self, key: bytes) -> list[str]:
        """Return the names of the nodes that hold ``key``, the preferred one first."""
        with self.client(self.nodes[0].name) as client:
            topology = client.topology()
        members = cast("Sequence[Mapping[str, object]]", topology["nodes"])
        owners = cast("Sequence[Sequence[int]]", topology["owners"])
        partition = partition_of(key_hash(_KEYSPACE, key), partition_shift(len(owners)))
        return [str(members[index]["name"]) for index in owners[partition]]

    def state(self, way: Way) -> str:
        """Return the link's state, ``up``, ``silent`` or ``down``, as the first node of ``way`` sees the second."""
        members = readiness(self.node(way[0]).http).get("members")
        return str(cast("Mapping[str, object]", members).get(way[1])) if isinstance(members, dict) else ""

    def wait_for(self, state: str, ways: Sequence[Way], limit_seconds: float) -> dict[Way, float]:
        """Wait until each of ``ways`` has had that state; return after how many seconds, without those that had not."""
        begun = monotonic()
        seen: dict[Way, float] = {}
        while len(seen) < len(ways) and monotonic() - begun < limit_seconds:
            for way in ways:
                if way not in seen and self.state(way) == state:
                    seen[way] = monotonic() - begun
            sleep(_POLL_SECONDS)
        return seen
