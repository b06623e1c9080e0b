"""Node processes that run in a place of the test's choice: on a file system of its own, or under a tracer."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from typing import cast

from kvbus.client import Client
from kvbus.local.folder import LocalNode, planned_node
from kvbus.local.launch import start, wait_until_ready
from kvbus.local.setup import write_configs
from tests.live.ports import free_base_port

# Words in front of a command: no node of a test that was killed stays behind.
DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")
_END_SECONDS = 15.0
_CHANGE_SECONDS = 15.0


class PlacedNodes:
    """The nodes ``n1``, ``n2`` …, made but not started. They end with this process where ``within`` sees to it."""

    def __init__(self, folder: Path, count: int, settings: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        base = free_base_port(count)
        planned = [planned_node(folder, number, base) for number in range(count)]
        extra = folder / "extra.toml"
        extra.write_text(settings, encoding="utf-8")
        write_configs(planned, mode="ap", extra=extra, environ=os.environ)
        self.nodes: dict[str, LocalNode] = {node.name: node for node in planned}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, within: Mapping[str, Sequence[str]]) -> None:
        """Start the nodes that ``within`` names, each behind its words; wait until they and the others are whole."""
        for name in within:
            self.launch(name, within[name])
        running = [node for name, node in self.nodes.items() if name in self._processes]
        wait_until_ready([], running, lambda done, total: None)

    def launch(self, name: str, within: Sequence[str] = ()) -> None:
        """Start a node's process behind the words ``within``, and wait for nothing."""
        if name in self._processes:
            _clear(self._processes[name])
        started = start(self.nodes[name], within)
        self._processes[name] = started.process
        self.nodes[name] = replace(started.node, pid=started.process.pid)

    def client(self, name: str, deadline_ms: int = 3000) -> Client:
        """Open a client that talks to one node only, so that it coordinates."""
        return Client(self.nodes[name].client, routing="direct", deadline_ms=deadline_ms)

    def data(self, name: str) -> Path:
        """Return the node's data directory."""
        return Path(self.nodes[name].data_dir)

    def log(self, name: str) -> str:
        """Return all that a node has said."""
        return self.nodes[name].log.read_text(encoding="utf-8", errors="replace")

    def wait_for_exit(self, name: str) -> int:
        """Wait until a node's process ends; return its exit code."""
        return self._processes[name].wait(_END_SECONDS)

    def stop(self, name: str) -> int:
        """Ask a node to stop; return its exit code."""
        self._processes[name].terminate()
        return self.wait_for_exit(name)

    def kill(self, name: str) -> None:
        """End a node's process by SIGKILL."""
        self._processes[name].kill()
        self._processes[name].wait()

    def has_ended(self, name: str) -> bool:
        """Say whether a node's process has ended."""
        return self._processes[name].poll() is not None

    def stat(self, name: str, counter: str) -> int:
        """Return one of the engine's counters."""
        with self.client(name) as client:
            return cast("int", client.stats()[f"engine_{counter}"])

    def wait_for_stat(self, name: str, counter: str, expected: int) -> None:
        """Wait until one of the engine's counters is ``expected``."""
        give_up = monotonic() + _CHANGE_SECONDS
        while (found := self.stat(name, counter)) != expected:
            assert monotonic() < give_up, f"{name} has {counter} {found}, not {expected}: {self.log(name)[-2000:]}"
            sleep(0.05)

    def close(self) -> None:
        """End all that still run, with what they started."""
        for process in self._processes.values():
            _clear(process)


@contextmanager
def placed_nodes(folder: Path, count: int, settings: str) -> Iterator[PlacedNodes]:
    """Make nodes, whose processes do not outlive the test."""
    nodes = PlacedNodes(folder, count, settings)
    try:
        yield nodes
    finally:
        nodes.close()


def _clear(process: subprocess.Popen[bytes]) -> None:
    """End whatever is left of a process and of those that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
