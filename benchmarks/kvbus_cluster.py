"""kvbus as a system: three nodes on loopback, made by ``kvbus cluster up`` with its own settings."""

from __future__ import annotations

import json
from typing import cast

from benchmarks.measurement import GRACE_SECONDS, Sample, Scenario, SystemName
from benchmarks.processes import Children, Conversation, free_ports, module, run

_NODES = 3
_PORTS_A_NODE = 10
_FILL_SECONDS = 120.0
_COMMAND_SECONDS = 60.0


class Kvbus:
    """A cluster and one load generator."""

    name: SystemName = "kvbus"

    def __init__(self, children: Children) -> None:
        self._children = children
        self._folder = children.folder / "kvbus"
        self._load: Conversation | None = None
        self._pids: list[int] = []

    def missing(self) -> str | None:
        """Nothing is ever missing."""
        return None

    def start(self) -> None:
        """Start three nodes and fill them."""
        base = free_ports(_NODES * _PORTS_A_NODE)
        self._children.cleanup.callback(self._down)
        up = ("up", "--dir", str(self._folder), "--nodes", str(_NODES), "--base-port", str(base))
        run(module("kvbus", "cluster", *up), _COMMAND_SECONDS)
        nodes = self._nodes()
        self._pids = [pid for node in nodes if isinstance(pid := node["pid"], int)]
        addresses = ",".join(str(node["client"]) for node in nodes)
        self._load = Conversation(self._children, "kvbus-load", module("benchmarks.kvbus_load", addresses))
        self._load.ask({"op": "fill"}, _FILL_SECONDS)

    def measure(self, scenario: Scenario, seconds: float) -> Sample:
        """Run one closed loop."""
        assert self._load is not None
        request = {
            "op": scenario.op,
            "outstanding": scenario.outstanding,
            "packing": scenario.packing,
            "seconds": seconds,
        }
        return Sample.from_map(self._load.ask(request, seconds + GRACE_SECONDS))

    def process_ids(self) -> list[int]:
        """Return the nodes' process ids."""
        return self._pids

    def _nodes(self) -> list[dict[str, object]]:
        text = (self._folder / "cluster.json").read_text(encoding="utf-8")
        return cast("list[dict[str, object]]", json.loads(text)["nodes"])

    def _down(self) -> None:
        if (self._folder / "cluster.json").exists():
            run(module("kvbus", "cluster", "down", "--dir", str(self._folder)), _COMMAND_SECONDS)
