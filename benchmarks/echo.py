"""The raw ROUTER echo as a system: what ZeroMQ and Python cost without a store."""

from __future__ import annotations

from benchmarks.measurement import GRACE_SECONDS, Sample, Scenario, SystemName
from benchmarks.processes import Children, Conversation, free_ports, module


class Echo:
    """One server process and one load generator."""

    name: SystemName = "echo"

    def __init__(self, children: Children) -> None:
        self._children = children
        self._load: Conversation | None = None
        self._pids: list[int] = []

    def missing(self) -> str | None:
        """Nothing is ever missing."""
        return None

    def start(self) -> None:
        """Start the server and its load generator."""
        port = free_ports(1)
        server = self._children.spawn("echo", module("benchmarks.echo_server", str(port)))
        self._children.wait_for_port("echo", server, port)
        self._pids = [server.pid]
        self._load = Conversation(self._children, "echo-load", module("benchmarks.echo_load", str(port)))

    def measure(self, scenario: Scenario, seconds: float) -> Sample:
        """Run one closed loop."""
        assert self._load is not None
        request = {"outstanding": scenario.outstanding, "seconds": seconds}
        return Sample.from_map(self._load.ask(request, seconds + GRACE_SECONDS))

    def process_ids(self) -> list[int]:
        """Return the server's process id."""
        return self._pids
