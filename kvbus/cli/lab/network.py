"""The lab's network: one bridge, one namespace a node, and the directions that are cut.

Every frame between two nodes crosses the bridge, where nftables sees both ports; so one set of (sender, receiver) holds
all cuts, also those in one direction. A process beside the nodes talks over the bridge's own address, which no cut
concerns: it reaches every node at all times, as somebody who watches.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from kvbus.core.sides import Way
from kvbus.errors import ConfigError
from kvbus.local.folder import ClusterFolder

LAB_VARIABLE = "KVBUS_LAB"
# A tmpfs on every Linux, and one that nobody misses while another one covers it.
DATA_MOUNT = "/dev/shm"
_FOLDER = Path(DATA_MOUNT, "kvbus-lab")
_BRIDGE = "kvbus-lab"
_BRIDGE_ADDRESS = "10.77.0.254/24"
_OUTER = "outer"
_TABLE = "bridge kvbus_lab"
# Address resolution passes: without it a cut in one direction turns into one in both after some seconds.
_RULES = f"""
table {_TABLE} {{
    set cut {{ type ifname . ifname; }}
    chain between_nodes {{
        type filter hook forward priority 0; policy accept;
        ether type arp accept
        iifname . oifname @cut drop
    }}
}}
"""
BRIDGE_RULES = _RULES


def address_of(number: int) -> str:
    """Return the IPv4 address of the ``number``-th node (from 0)."""
    return f"10.77.0.{number + 1}"


class Network:
    """A lab's network, as seen from any of its namespaces. ``names``: the nodes', in their order."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        self.names = list(names)

    def inside(self, name: str) -> list[str]:
        """Return the words in front of a command that run it in the namespace of the node ``name``."""
        return ["nsenter", f"--net={self._namespace(name)}"]

    def cut(self, ways: Sequence[Way]) -> None:
        """Drop what passes in these directions, beside all that is dropped already."""
        pairs = ", ".join(f'"{sender}" . "{receiver}"' for sender, receiver in ways)
        self._nft(f"add element {_TABLE} cut {{ {pairs} }}")

    def heal(self) -> None:
        """Let everything pass again."""
        self._nft(f"flush set {_TABLE} cut")

    def build(self) -> None:
        """Make the folder, the bridge and the nodes' namespaces, in fresh outer namespaces.

        Raises:
            ConfigError: a step fails; the message holds the tool's own words.
        """
        _run(["mount", "--types", "tmpfs", "kvbus-lab", DATA_MOUNT])
        self._namespace(_OUTER).parent.mkdir(parents=True)
        self._namespace(_OUTER).touch()
        _run(["mount", "--bind", "/proc/self/ns/net", str(self._namespace(_OUTER))])
        _run(
            ["ip", "-batch", "-"],
            "link set lo up",
            f"link add {_BRIDGE} type bridge",
            f"addr add {_BRIDGE_ADDRESS} dev {_BRIDGE}",
            f"link set {_BRIDGE} up",
        )
        for number, name in enumerate(self.names):
            self._join(name, address_of(number))
        self._nft(_RULES)

    def _join(self, name: str, address: str) -> None:
        """Make one node's namespace and plug it into the bridge; the bridge's port has the node's name."""
        place = self._namespace(name)
        place.touch()
        _run(["unshare", f"--net={place}", "true"])
        _run(
            ["ip", "-batch", "-"],
            f"link add name {name} type veth peer name eth0 netns {place}",
            f"link set {name} master {_BRIDGE} up",
        )
        _run(
            [*self.inside(name), "ip", "-batch", "-"],
            "link set lo up",
            f"addr add {address}/24 dev eth0",
            "link set eth0 up",
        )

    def _namespace(self, name: str) -> Path:
        return self.folder / "net" / name

    def _nft(self, text: str) -> None:
        # Whoever runs in a node's namespace cuts as well, and the rules are in the outer one.
        _run([*self.inside(_OUTER), "nft", "-f", "-"], text)


def new_network(count: int) -> Network:
    """Return the network of a lab of ``count`` nodes, n1 to the last; it is not built yet."""
    return Network(_FOLDER, [f"n{number + 1}" for number in range(count)])


def surrounding_network() -> Network:
    """Return the network of the lab that this process runs in.

    Raises:
        ConfigError: it runs in none.
    """
    named = os.environ.get(LAB_VARIABLE)
    if not named:
        raise ConfigError(
            f"this is no lab ({LAB_VARIABLE} is not set); cut and heal work in a command that a lab runs: "
            "kvbus lab --run -- COMMAND"
        )
    folder = Path(named)
    if not (folder / "net" / _OUTER).exists():
        raise ConfigError(f"{LAB_VARIABLE} names {folder}, where no lab is; start one: kvbus lab --run -- COMMAND")
    return Network(folder, [node.name for node in ClusterFolder(folder).nodes()])


def _run(command: Sequence[str], *lines: str) -> None:
    """Run a tool with ``lines`` on its standard input.

    Raises:
        ConfigError: it failed.
    """
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split())
        raise ConfigError(f"the lab's network refuses a step; `{' '.join(command)}` says: {said}")
