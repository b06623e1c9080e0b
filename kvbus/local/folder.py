"""A cluster on this machine: the folder that holds its nodes, and ``cluster.json``, which lists them.

``D/n1/config.toml``, ``D/n1/data`` and ``D/n1/log`` belong to the node n1. Source: PROTOCOL.md, "Command line and
local clusters".
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from time import monotonic, sleep
from typing import cast

from kvbus.errors import ConfigError
from kvbus.local.process import is_node, is_stopped, send_signal

HOST = "127.0.0.1"
PORTS_A_NODE = 10
STOP_SECONDS = 10.0
_POLL_SECONDS = 0.05
_PORT_NAMES = ("client", "peer", "gossip", "http")


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalNode:
    """One node's entry in ``cluster.json``. ``pid`` is None while it is stopped on purpose."""

    name: str
    client: str
    peer: str
    gossip: str
    http: str
    pid: int | None
    config: str
    data_dir: str

    @property
    def folder(self) -> Path:
        """The node's own folder."""
        return Path(self.config).parent

    @property
    def log(self) -> Path:
        """The file that takes what the node says."""
        return self.folder / "log"

    def is_running(self) -> bool:
        """Say whether the node's process is alive."""
        return is_node(self.pid, self.config)

    def is_paused(self) -> bool:
        """Say whether the node's process was stopped in its tracks."""
        return self.pid is not None and self.is_running() and is_stopped(self.pid)

    def pause(self) -> None:
        """Stop the node in its tracks, and wait until it stands still."""
        self._signal(signal.SIGSTOP)
        give_up = monotonic() + STOP_SECONDS
        while self.is_running() and not self.is_paused() and monotonic() < give_up:
            sleep(_POLL_SECONDS)

    def resume(self) -> None:
        """Let a paused node go on."""
        self._signal(signal.SIGCONT)

    def request_stop(self) -> None:
        """Ask the node to finish what it has begun and to end; a paused one must go on for that."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)

    def stop(self) -> bool:
        """Let the node drain, end it after ten seconds if it has not; say whether it ended by itself."""
        self.request_stop()
        if self.wait_for_end():
            return True
        self.kill()
        return False

    def kill(self) -> None:
        """End the node at once, as a crash would, and wait until it is gone."""
        self._signal(signal.SIGKILL)
        self.wait_for_end()

    def wait_for_end(self) -> bool:
        """Wait for the node's end, at most ten seconds; say whether it came."""
        give_up = monotonic() + STOP_SECONDS
        while self.is_running():
            if monotonic() >= give_up:
                return False
            sleep(_POLL_SECONDS)
        return True

    def _signal(self, number: signal.Signals) -> None:
        """Signal the process only if it is this node: its number may have been given to another one."""
        if self.pid is not None and self.is_running():
            send_signal(self.pid, number)


def planned_node(folder: Path, number: int, base_port: int, host: str = HOST) -> LocalNode:
    """Return the ``number``-th node (from 0) of a cluster in ``folder``; it has four ports of ten at ``host``.

    Raises:
        ConfigError: there are no such ports.
    """
    first = base_port + PORTS_A_NODE * number
    if first + len(_PORT_NAMES) > 65_536:
        raise ConfigError(f"--base-port {base_port} leaves no ports for {number + 1} nodes; choose a lower one")
    name = f"n{number + 1}"
    place = folder.absolute() / name
    return LocalNode(
        name=name,
        client=f"tcp://{host}:{first}",
        peer=f"tcp://{host}:{first + 1}",
        gossip=f"tcp://{host}:{first + 2}",
        http=f"{host}:{first + 3}",
        pid=None,
        config=str(place / "config.toml"),
        data_dir=str(place / "data"),
    )


def check_ports(nodes: Sequence[LocalNode]) -> None:
    """See that every port of ``nodes`` is free.

    Raises:
        ConfigError: one is taken; the message names it.
    """
    for node in nodes:
        for purpose in _PORT_NAMES:
            port = int(str(getattr(node, purpose)).rpartition(":")[2])
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError:
                    raise ConfigError(
                        f"port {port} ({node.name}'s {purpose} port) is taken by another process; "
                        "choose others with --base-port"
                    ) from None


class ClusterFolder:
    """``cluster.json`` in one folder.

    Raises:
        ConfigError: the folder's name is a file's.
    """

    def __init__(self, folder: Path) -> None:
        if folder.is_file():
            raise ConfigError(f"{folder} is no folder; choose another --dir")
        self.folder = folder
        self.path = folder / "cluster.json"

    def exists(self) -> bool:
        """Say whether a cluster was made here."""
        return self.path.exists()

    def nodes(self) -> list[LocalNode]:
        """Read the nodes.

        Raises:
            ConfigError: there is no cluster, or the file is damaged.
        """
        try:
            found = cast("Mapping[str, list[dict[str, object]]]", json.loads(self.path.read_bytes()))["nodes"]
            return [_node(entry) for entry in found]
        except FileNotFoundError:
            raise ConfigError(
                f"{self.folder} holds no cluster; make one: kvbus cluster up --dir {self.folder}"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(f"{self.path} cannot be read ({error}); restore it, or choose another --dir") from error

    def node(self, name: str) -> LocalNode:
        """Read one node.

        Raises:
            ConfigError: there is none of this name, or no cluster.
        """
        nodes = self.nodes()
        found = next((node for node in nodes if node.name == name), None)
        if found is None:
            raise ConfigError(f"{self.folder} has no node {name!r}; it has {', '.join(node.name for node in nodes)}")
        return found

    def write(self, nodes: Sequence[LocalNode]) -> None:
        """Replace the file in one step."""
        text = json.dumps({"nodes": [asdict(node) for node in nodes]}, indent=2) + "\n"
        fresh = self.path.with_suffix(".json.new")
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, self.path)

    def set_pid(self, name: str, pid: int | None) -> None:
        """Note that the node ``name`` runs as ``pid``, or is stopped (None)."""
        self.write([replace(node, pid=pid) if node.name == name else node for node in self.nodes()])


def _node(entry: Mapping[str, object]) -> LocalNode:
    pid = entry["pid"]
    texts = {each.name: str(entry[each.name]) for each in fields(LocalNode) if each.name != "pid"}
    return LocalNode(pid=pid if isinstance(pid, int) else None, **texts)
