"""One node's configuration, checked as a whole: what :func:`kvbus.runtime.server.run_node` is given.

``load_config`` reads the file and the environment that it is handed, once, at the start; nothing below it does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path

from kvbus.core.keyspace import Keyspace, space_of
from kvbus.core.placement import Member as Placed
from kvbus.core.placement import load_bounds
from kvbus.core.topology import Member
from kvbus.errors import ConfigError
from kvbus.plugins import engine_plugin
from kvbus.ports.engine import EngineSettings
from kvbus.ports.mode import Limits
from kvbus.settings import KeyspaceSection, Location, MemberEntry, Origin, Settings, read_settings

_SERVED_MODES = ("ap",)
_COMING_MODES = ("cp",)
# R and W where a keyspace names none.
_TARGET = 2
_ADDRESS = re.compile(r"(?P<scheme>tcp://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+|\*):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Listen:
    """The addresses that this node binds: three ZeroMQ end points ``tcp://host:port`` and ``host:port`` for HTTP."""

    client: str
    peer: str
    gossip: str
    http: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeConfig:
    """Everything that one node must know at its start.

    ``members`` holds all initial members, this one included; ``replicas`` is N, or N in each data centre.
    ``data_dir`` is a path that is only looked at when the node starts.
    """

    name: str
    data_dir: str
    listen: Listen
    cluster: str
    partitions: int
    replicas: int | Mapping[str, int]
    members: tuple[Member, ...]
    keyspaces: Mapping[str, Keyspace]
    engine: str = "lsm"
    storage: EngineSettings = field(default_factory=EngineSettings)
    limits: Limits = field(default_factory=Limits)
    insecure: bool = False
    faults_enabled: bool = False

    def agreement(self) -> str:
        """Return the digest (SHA-256, hex) of what all members must agree on.

        These are the members, partitions, replicas, and the keyspaces' names and modes.
        """
        agreed = {
            "members": sorted([m.name, m.client, m.peer, m.gossip, m.dc, m.rack, m.weight] for m in self.members),
            "partitions": self.partitions,
            "replicas": self.replicas if isinstance(self.replicas, int) else dict(self.replicas),
            "keyspaces": sorted([keyspace.name, keyspace.mode] for keyspace in self.keyspaces.values()),
        }
        return sha256(json.dumps(agreed, sort_keys=True).encode()).hexdigest()

    def effective(self) -> dict[str, object]:
        """Return the configuration in the file's own sections and keys, defaults filled in."""
        me = next(member for member in self.members if member.name == self.name)
        listen, limits = self.listen, self.limits
        return {
            "node": {
                "name": self.name, "data_dir": self.data_dir, "dc": me.dc, "rack": me.rack, "weight": me.weight,
            },
            "listen": {
                "client": listen.client, "peer": listen.peer, "gossip": listen.gossip, "http": listen.http,
            },
            "cluster": {
                "name": self.cluster,
                "partitions": self.partitions,
                "replicas": self.replicas if isinstance(self.replicas, int) else dict(self.replicas),
                "initial_members": [_entry(member) for member in self.members],
            },
            "keyspaces": {
                name: {"mode": space.mode, "r": space.r, "w": space.w, "availability": space.availability}
                for name, space in self.keyspaces.items()
            },
            "durability": {"sync": self.storage.sync, "interval_ms": self.storage.interval_ms},
            "storage": {
                "engine": self.engine,
                "memory_budget": self.storage.memory_bytes,
                "compression": self.storage.compression,
                "flush_age_s": self.storage.flush_age_s,
                "compaction_rate": self.storage.compaction_bytes_s,
            },
            "limits": {
                "value_bytes": limits.value_bytes, "pending_ops": limits.pending_ops, "siblings": limits.siblings,
            },
            "security": {"insecure": self.insecure},
            "faults": {"enabled": self.faults_enabled},
        }  # fmt: skip


def load_config(path: Path, environ: Mapping[str, str]) -> NodeConfig:
    """Read and check the configuration file at ``path`` with ``environ`` laid over it.

    A relative ``data_dir`` starts at the file's folder. The directory itself is not looked at.

    Raises:
        ConfigError: something is wrong; the message names the key, where it stands, and the mend.
    """
    settings, origin = read_settings(path, environ)
    return _Checker(settings, origin).config()


class _Checker:
    """Checks what pydantic cannot: how the keys of one file go together."""

    def __init__(self, settings: Settings, origin: Origin) -> None:
        self._settings = settings
        self._origin = origin

    def config(self) -> NodeConfig:
        settings = self._settings
        if settings.cluster.join is not None:
            raise self._origin.error(
                ("cluster", "join"), "joining a running cluster is not available yet; list initial_members"
            )
        listen = self._listen()
        members = self._members(listen)
        replicas = self._replicas(members)
        limits = settings.limits
        return NodeConfig(
            name=settings.node.name,
            data_dir=str(self._origin.path.parent.absolute() / settings.node.data_dir),
            listen=listen,
            cluster=settings.cluster.name,
            partitions=settings.cluster.partitions,
            replicas=replicas,
            members=members,
            keyspaces=self._keyspaces(replicas),
            engine=self._engine(),
            storage=EngineSettings(
                sync=settings.durability.sync,
                interval_ms=settings.durability.interval_ms,
                memory_bytes=settings.storage.memory_budget,
                compression=settings.storage.compression,
                flush_age_s=settings.storage.flush_age_s,
                compaction_bytes_s=settings.storage.compaction_rate,
            ),
            limits=Limits(value_bytes=limits.value_bytes, pending_ops=limits.pending_ops, siblings=limits.siblings),
            insecure=settings.security.insecure,
            faults_enabled=settings.faults.enabled,
        )

    def _listen(self) -> Listen:
        section = self._settings.listen
        given = {"client": section.client, "peer": section.peer, "gossip": section.gossip, "http": section.http}
        taken: dict[tuple[str, int], str] = {}
        for key, address in given.items():
            host, port = self._address(("listen", key), address)
            if (host, port) in taken:
                raise self._origin.error(
                    ("listen", key), f"{address!r} is {taken[host, port]}'s too; give each its port"
                )
            taken[host, port] = key
            if not _is_loopback(host) and not self._settings.security.insecure:
                raise self._origin.error(
                    ("listen", key),
                    f"{address!r} is open to other machines in plain text; listen on 127.0.0.1, "
                    "or say [security] insecure = true",
                )
        return Listen(**given)

    def _members(self, listen: Listen) -> tuple[Member, ...]:
        node = self._settings.node
        entries = self._settings.cluster.initial_members
        if entries is None:
            return (
                Member(
                    name=node.name, client=listen.client, peer=listen.peer, gossip=listen.gossip,
                    dc=node.dc or "dc1", rack=node.rack or "r1", weight=node.weight or 1.0,
                ),
            )  # fmt: skip
        seen: dict[str, None] = {}
        for number, entry in enumerate(entries):
            for key in ("name", "client", "peer", "gossip"):
                location, value = ("cluster", "initial_members", number, key), str(getattr(entry, key))
                if key != "name":
                    self._address(location, value)
                if value in seen:
                    raise self._origin.error(location, f"{value!r} stands there twice; give each member its own")
                seen[value] = None
        mine = next((entry for entry in entries if entry.name == node.name), None)
        if mine is None:
            raise self._origin.error(
                ("cluster", "initial_members"),
                f"[node] name {node.name!r} is not among {', '.join(entry.name for entry in entries)}; add it",
            )
        for key in ("dc", "rack", "weight"):
            if getattr(node, key) not in (None, getattr(mine, key)):
                raise self._origin.error(
                    ("node", key),
                    f"{getattr(node, key)!r} is not {getattr(mine, key)!r} as in initial_members; make them equal",
                )
        return tuple(Member(**entry.model_dump()) for entry in entries)

    def _replicas(self, members: tuple[Member, ...]) -> int | dict[str, int]:
        cluster = self._settings.cluster
        placed = [Placed(name=m.name, dc=m.dc, rack=m.rack, weight=m.weight) for m in members]
        if isinstance(cluster.replicas, dict):
            places = sorted({member.dc for member in members})
            for dc in cluster.replicas:
                if dc not in places:
                    problem = f"no member lies in {dc!r}, only in {', '.join(places)}; correct one or the other"
                    raise self._origin.error(("cluster", "replicas"), problem)
        try:
            load_bounds(placed, partitions=cluster.partitions, replicas=cluster.replicas)
        except ValueError as error:
            key = "partitions" if str(error).startswith("partitions") else "replicas"
            raise self._origin.error(("cluster", key), str(error)) from None
        return cluster.replicas

    def _keyspaces(self, replicas: int | dict[str, int]) -> dict[str, Keyspace]:
        n = replicas if isinstance(replicas, int) else sum(replicas.values())
        sections = self._settings.keyspaces or {"default": KeyspaceSection()}
        keyspaces: dict[str, Keyspace] = {}
        numbers: dict[int, str] = {}
        for name, section in sections.items():
            self._check_mode(name, section.mode)
            for key, size in (("r", section.r), ("w", section.w)):
                if size is not None and size > n:
                    problem = f"{size} of N = {n} replicas cannot answer; take 1 to {n}, or raise [cluster] replicas"
                    raise self._origin.error(("keyspaces", name, key), problem)
            twin = numbers.setdefault(space_of(name), name)
            if twin != name:
                problem = f"its name has the same hash as that of {twin!r}; rename one of the two"
                raise self._origin.error(("keyspaces", name), problem)
            keyspaces[name] = Keyspace(
                name=name,
                mode=section.mode,
                n=n,
                r=section.r or min(_TARGET, n),
                w=section.w or min(_TARGET, n),
                availability=section.availability,
            )
        return keyspaces

    def _engine(self) -> str:
        name = self._settings.storage.engine
        try:
            engine_plugin(name)
        except ConfigError as error:
            raise self._origin.error(("storage", "engine"), str(error)) from None
        return name

    def _check_mode(self, name: str, mode: str) -> None:
        if mode in _COMING_MODES:
            raise self._origin.error(("keyspaces", name, "mode"), f"mode {mode} is not available yet; use ap")
        if mode not in _SERVED_MODES:
            problem = f"there is no mode {mode!r}; choose one of: {', '.join(_SERVED_MODES)}"
            raise self._origin.error(("keyspaces", name, "mode"), problem)

    def _address(self, location: Location, address: str) -> tuple[str, int]:
        """Return host and port; the HTTP address alone has no ``tcp://`` in front."""
        scheme = "" if location[-1] == "http" else "tcp://"
        match = _ADDRESS.fullmatch(address)
        port = int(match["port"]) if match else 0
        if match is None or (match["scheme"] or "") != scheme or not 1 <= port <= 65_535:
            raise self._origin.error(location, f"{address!r} is no address; write {scheme}host:port")
        return match["host"].strip("[]"), port


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _entry(member: Member) -> dict[str, object]:
    return {name: getattr(member, name) for name in MemberEntry.model_fields}
