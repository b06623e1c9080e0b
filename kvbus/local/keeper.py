"""Ends the nodes of a temporary cluster whose owner was killed: ``python -m kvbus.local.keeper FOLDER``.

The owner tells each node that it starts, one line with its process id and its configuration file, and says ``done`` in
the end; the pipe of a dead owner closes by itself. Then whatever still runs is killed, and the folder removed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from kvbus.local.process import is_node, send_signal

_DONE = "done"


class Keeper:
    """The owner's end of a keeper's pipe."""

    def __init__(self, folder: Path) -> None:
        reading, self._pipe = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kvbus.local.keeper", str(folder)],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(reading)
        _open_pipes[self._pipe] = None

    def watch(self, pid: int, config: str) -> None:
        """Make sure that a node does not outlive its owner."""
        os.write(self._pipe, f"{pid} {config}\n".encode())

    def close(self) -> None:
        """Let the keeper look after what is left, and wait for that."""
        os.write(self._pipe, f"{_DONE}\n".encode())
        del _open_pipes[self._pipe]
        os.close(self._pipe)
        self._process.wait()


_open_pipes: dict[int, None] = {}


def _let_go() -> None:
    """Close the pipes in a forked child: it is not their owner, and may outlive it."""
    for pipe in _open_pipes:
        os.close(pipe)
    _open_pipes.clear()


os.register_at_fork(after_in_child=_let_go)


def main() -> None:
    """Wait for the owner's end and clean up."""
    nodes: list[str] = []
    for line in sys.stdin:
        if line.strip() == _DONE:
            break
        nodes.append(line.strip())
    for node in nodes:
        pid, _, config = node.partition(" ")
        if is_node(int(pid), config):
            send_signal(int(pid), signal.SIGKILL)
    shutil.rmtree(sys.argv[1], ignore_errors=True)


if __name__ == "__main__":
    main()
