"""Find the cluster that a command is for, and talk to it."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast
from urllib.parse import quote

import typer

from kvbus.errors import UnknownKeyspace
from kvbus.local.folder import ClusterFolder

if TYPE_CHECKING:
    from kvbus.client import Client

Routing = Literal["direct", "topology"]
_CONNECT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class NodeView:
    """A member as the topology tells it."""

    name: str
    client: str
    dc: str
    rack: str
    weight: float
    status: str


def addresses(folder: Path | None, connect: str | None) -> list[str]:
    """Return the client addresses to try, in order: from ``--connect``, ``--dir``, or their variables.

    Raises:
        typer.BadParameter: nothing says where the cluster is, or an address is malformed.
        ConfigError: the folder holds no cluster.
    """
    if connect is None and folder is None:
        connect = os.environ.get("KVBUS_CONNECT") or None
        named = os.environ.get("KVBUS_DIR")
        folder = Path(named) if named else None
    if connect is not None:
        return [_checked(part.strip()) for part in connect.split(",")]
    if folder is not None:
        return [node.client for node in ClusterFolder(folder).nodes()]
    raise typer.BadParameter(
        "say where the cluster is: --dir D for one on this machine, or --connect tcp://host:port[,…] "
        "(KVBUS_DIR and KVBUS_CONNECT do the same)"
    )


def _checked(address: str) -> str:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    is_port = port.isdecimal() and 0 < int(port) < 1 << 16
    if not address.startswith("tcp://") or not host or not is_port:
        raise typer.BadParameter(f"{address!r} is no node address; write tcp://host:port, several separated by commas")
    return address


def listens(address: str) -> bool:
    """Say whether somebody takes connections at ``tcp://host:port``."""
    return _connects(address) is True


def is_refused(address: str) -> bool:
    """Say whether the machine of ``tcp://host:port`` answers that nobody listens there."""
    return _connects(address) is False


def _connects(address: str) -> bool | None:
    """Try to connect; None when nothing is known, because nobody answered or there is no such address."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except ConnectionRefusedError:
        return False
    except (OSError, OverflowError):
        return None
    return True


class Connection:
    """A client of one node, which coordinates, and what that node says about the cluster."""

    def __init__(self, client: Client, keyspace: str) -> None:
        self.client = client
        self.keyspace = keyspace

    @cached_property
    def hello(self) -> Mapping[str, object]:
        """The node's introduction."""
        return self.client.hello()

    @cached_property
    def topology(self) -> Mapping[str, object]:
        """The cluster's members and who owns what, as the node knows it."""
        return self.client.topology()

    @property
    def nodes(self) -> list[NodeView]:
        """The members by short id."""
        entries = cast("Sequence[Mapping[str, object]]", self.topology["nodes"])
        return [
            NodeView(
                name=str(entry["name"]),
                client=str(entry["client"]),
                dc=str(entry["dc"]),
                rack=str(entry["rack"]),
                weight=float(cast("float", entry["weight"])),
                status=str(entry["status"]),
            )
            for entry in entries
        ]

    def mode(self) -> str:
        """Return the mode of the command's keyspace.

        Raises:
            UnknownKeyspace: there is no such keyspace.
        """
        keyspaces = cast("Mapping[str, Mapping[str, object]]", self.hello["keyspaces"])
        if self.keyspace not in keyspaces:
            raise UnknownKeyspace(f"no keyspace {self.keyspace!r}; there are: {', '.join(sorted(keyspaces))}")
        return str(keyspaces[self.keyspace]["mode"])

    def clock(self, ctx: bytes | None) -> list[tuple[str, int]]:
        """Return a context's number of events by server name."""
        if not ctx:
            return []
        from kvbus.plugins import token_clock

        events = token_clock(self.mode(), ctx)
        return sorted((self._name(server), count) for server, count in events.items())

    def dots(self, ctx: bytes | None) -> list[tuple[str, int, int, int]]:
        """Return a context's events as runs: (server name, epoch, first counter, last counter)."""
        if not ctx:
            return []
        from kvbus.plugins import token_dots

        runs = token_dots(self.mode(), ctx)
        return sorted((self._name(server), epoch, first, last) for server, epoch, first, last in runs)

    def _name(self, server: int) -> str:
        nodes = self.nodes
        return nodes[server].name if server < len(nodes) else f"#{server}"


@contextmanager
def connected(
    folder: Path | None, connect: str | None, keyspace: str, routing: Routing = "direct"
) -> Generator[Connection]:
    """Connect to the first address that answers; with ``direct`` routing that node coordinates all requests.

    Raises:
        Unreachable: nobody listens at any of them.
    """
    from kvbus.client import Client, Unreachable

    tried = addresses(folder, connect)
    for number, address in enumerate(tried):
        if listens(address):
            hosts = ",".join(each.removeprefix("tcp://") for each in tried[number:])
            with Client.from_url(f"kvbus://{hosts}/{quote(keyspace, safe='')}", routing=routing) as client:
                yield Connection(client, keyspace)
            return
    raise Unreachable(f"no node listens at {', '.join(tried)}; start one or give other addresses")
