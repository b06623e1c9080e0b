"""A cluster of node processes in a temporary folder, gone when its owner is done with it, or dead."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from kvbus.client import Client
from kvbus.core.sides import Way
from kvbus.errors import ConfigError
from kvbus.local.folder import LocalNode, planned_node
from kvbus.local.keeper import Keeper
from kvbus.local.launch import Started, start, wait_until_ready
from kvbus.local.ports import PortBlock
from kvbus.local.process import last_line
from kvbus.local.setup import write_configs
from kvbus.local.toml_text import toml_text

_ORDER_MS = 2000


class TemporaryCluster:
    """Node processes ``n1``, ``n2`` …; its ``with`` block starts and ends them.

    ``keyspaces`` are tables of settings as in a configuration; the one keyspace "default" is AP where none are given.
    """

    def __init__(self, count: int = 3, keyspaces: Mapping[str, Mapping[str, object]] | None = None) -> None:
        self._ports = PortBlock(count)
        self.folder = Path(tempfile.mkdtemp(prefix="kvbus-"))
        planned = [planned_node(self.folder, number, self._ports.base) for number in range(count)]
        self.nodes: dict[str, LocalNode] = {node.name: node for node in planned}
        self._keyspaces = keyspaces
        self._started: dict[str, Started] = {}
        self._keeper: Keeper | None = None

    def __enter__(self) -> Self:
        try:
            self._keeper = Keeper(self.folder)
            self._write_configs()
            started = [self._launch(name) for name in self.nodes]
            wait_until_ready(started, [], _ignore)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def client(self, name: str, *, keyspace: str = "default", deadline_ms: int = 5000) -> Client:
        """Open a client that talks to the node ``name`` only, so that it coordinates."""
        return Client(self.nodes[name].client, routing="direct", keyspace=keyspace, deadline_ms=deadline_ms)

    def cluster_client(self, *, keyspace: str = "default", deadline_ms: int = 5000) -> Client:
        """Open a client that knows all nodes and goes to a replica."""
        return Client([node.client for node in self.nodes.values()], keyspace=keyspace, deadline_ms=deadline_ms)

    def start(self, name: str) -> None:
        """Start a node that does not run, and wait until it and those that run see each other.

        Raises:
            StartError: it ended, or the time is up.
        """
        others = [node for node in self.nodes.values() if node.name != name and node.is_running()]
        wait_until_ready([self._launch(name)], others, _ignore)

    def launch(self, name: str) -> None:
        """Start a node that does not run, and wait for nobody.

        Raises:
            ConfigError: it runs.
        """
        self._launch(name)

    def last_words(self, name: str) -> str | None:
        """Return what a node said last if its process has ended by itself since its start; None while it runs."""
        started = self._started[name]
        if started.process.poll() is None:
            return None
        return last_line(started.node.log, started.log_start) or f"see {started.node.log}"

    def cut(self, ways: Sequence[Way]) -> None:
        """Cut directions, by the names of sender and receiver, at both of their ends."""
        self._order([name for name in self.nodes if any(name in way for way in ways)], "partition", ways)

    def heal(self) -> None:
        """End every cut."""
        self._order(list(self.nodes), "heal", ())

    def data_bytes(self) -> int:
        """Return what the nodes' data take on the disk."""
        return sum(file.stat().st_size for node in self.nodes.values() for file in Path(node.data_dir).rglob("*"))

    def close(self) -> None:
        """End all nodes and remove their folder: nothing of it is wanted any more, so nobody stops in order."""
        for node in self.nodes.values():
            node.kill()
        for started in self._started.values():
            started.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
        self._ports.close()

    def _write_configs(self) -> None:
        extra: Path | None = None
        if self._keyspaces is not None:
            extra = self.folder / "keyspaces.toml"
            tables = {name: dict(settings) for name, settings in self._keyspaces.items()}
            extra.write_text(toml_text({"keyspaces": tables}), encoding="utf-8")
        write_configs(list(self.nodes.values()), mode="ap", extra=extra, environ=os.environ)

    def _order(self, names: Sequence[str], operation: str, ways: Sequence[Way]) -> None:
        """Tell nodes what to cut or to heal; one that is down or paused cannot be told, and its peers do it for it."""
        for name in names:
            node = self.nodes[name]
            if node.is_running() and not node.is_paused():
                with self.client(name, deadline_ms=_ORDER_MS) as client:
                    client.admin(operation, {"ways": [list(way) for way in ways]} if ways else {})

    def _launch(self, name: str) -> Started:
        if self.nodes[name].is_running():
            raise ConfigError(f"{name} is up; kill or stop it before you start it")
        earlier = self._started.get(name)
        if earlier is not None:
            earlier.process.wait()
        started = self._started[name] = start(self.nodes[name])
        self.nodes[name] = replace(started.node, pid=started.process.pid)
        if self._keeper is not None:
            self._keeper.watch(started.process.pid, started.node.config)
        return started


def _ignore(done: int, total: int) -> None:
    """Take the progress that nobody watches: the start takes about a second."""
