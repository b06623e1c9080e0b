"""The demo's cluster: three node processes in a temporary folder, gone when the demo ends."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from kvbus.cli.cluster_setup import write_configs
from kvbus.cli.launch import start, wait_until_ready
from kvbus.cli.local_cluster import HOST, PORTS_A_NODE, planned_node
from kvbus.client import Client

_FIRST_PORT = 17_400
_PORT_STEP = 100
_TRIES = 100


class Stage:
    """Three nodes that can be killed and started again."""

    def __init__(self, count: int = 3) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="kvbus-demo-"))
        base = _free_base_port(count)
        self.nodes = [planned_node(self._folder, number, base) for number in range(count)]

    def __enter__(self) -> Self:
        try:
            write_configs(self.nodes, mode="ap", extra=None, environ=os.environ)
            started = [start(node) for node in self.nodes]
            self.nodes = [replace(each.node, pid=each.process.pid) for each in started]
            wait_until_ready(started, [], _ignore)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def client(self, number: int) -> Client:
        """Open a client that talks to node ``number`` only, so that it coordinates."""
        return Client(self.nodes[number].client, routing="direct")

    def cluster_client(self) -> Client:
        """Open a client that knows all nodes and goes to a replica."""
        return Client([node.client for node in self.nodes])

    def kill(self, number: int) -> None:
        """End a node as a crash would."""
        self.nodes[number].kill()

    def restart(self, number: int) -> None:
        """Start a killed node and wait until all three see each other."""
        started = start(self.nodes[number])
        self.nodes[number] = replace(started.node, pid=started.process.pid)
        wait_until_ready([started], [node for node in self.nodes if node.name != started.node.name], _ignore)

    def log_bytes(self) -> int:
        """Return what the nodes' data take on the disk."""
        return sum(file.stat().st_size for node in self.nodes for file in Path(node.data_dir).rglob("*"))

    def _end(self) -> None:
        for node in self.nodes:
            if node.pid is not None:
                node.request_stop()
        for node in self.nodes:
            if node.pid is not None and not node.wait_for_end():
                node.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def _ignore(done: int, total: int) -> None:
    """Take the progress that nobody watches: the start takes about a second."""


def _free_base_port(count: int) -> int:
    """Return the first base port from which every node's four ports are free."""
    for base in range(_FIRST_PORT, _FIRST_PORT + _TRIES * _PORT_STEP, _PORT_STEP):
        ports = [base + PORTS_A_NODE * node + purpose for node in range(count) for purpose in range(4)]
        if all(_is_free(port) for port in ports):
            return base
    raise OSError(f"no {count * 4} free ports above {_FIRST_PORT}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
