"""Who may open a link: judges a peer's hello. Source: PEER_PROTOCOL.md, "Handshake"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kvbus.core.types import NodeIndex
from kvbus.wire.peer_frames import PEER_PROTOCOL_VERSION, Hello


class Known(NamedTuple):
    """What this node remembers of a member: the id of its data directory and its highest incarnation."""

    node_id: str
    incarnation: int


class Handshake:
    """Compares hellos with this node's own and with what it remembers.

    ``known`` is durable: a member whose data directory was emptied comes with another id, and may not write under
    its old short id, because it would issue dots a second time.
    """

    def __init__(self, own: Hello, members: Mapping[str, NodeIndex], known: Mapping[str, Known]) -> None:
        self.own = own
        self._members = members
        self.known = dict(known)

    def judge(self, hello: Hello) -> str | None:
        """Return why the hello is refused, or None; an accepted one is remembered."""
        own = self.own
        if hello.version != PEER_PROTOCOL_VERSION:
            return f"peer protocol {hello.version}, this node speaks {PEER_PROTOCOL_VERSION}; upgrade the older node"
        if hello.cluster != own.cluster:
            return f"cluster {hello.cluster!r} is not {own.cluster!r}; correct [cluster] name or the member addresses"
        if hello.name not in self._members or hello.name == own.name:
            return f"{hello.name!r} is no other member of this cluster; correct [cluster] initial_members"
        if hello.agreement != own.agreement:
            return (
                f"{hello.name} was configured with other members, partitions, replicas or keyspaces than {own.name}; "
                "make [cluster] and [keyspaces] equal on all nodes"
            )
        known = self.known.get(hello.name)
        if known is not None and known.node_id != hello.node_id:
            return (
                f"{hello.name} comes with another data directory than before; start it with its own one "
                "(an emptied node would use version numbers a second time)"
            )
        if known is not None and known.incarnation > hello.incarnation:
            return f"{hello.name} is an older start of a node that has restarted since; stop the older process"
        self.known[hello.name] = Known(hello.node_id, hello.incarnation)
        return None

    def member(self, name: str) -> NodeIndex:
        """Return the short id of a member that was accepted."""
        return self._members[name]
