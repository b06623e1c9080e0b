"""Ends the nodes of a temporary cluster whose owner was killed: ``python -m kvbus.local.keeper FOLDER``.

The owner tells each node that it starts, one line with its process id and its configuration file, and closes the pipe
when it is done; the pipe of a dead owner closes by itself. Then whatever still runs is killed, and the folder removed.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

from kvbus.local.process import is_node, send_signal


class Keeper:
    """The owner's end of a keeper's pipe."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kvbus.local.keeper", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def watch(self, pid: int, config: str) -> None:
        """Make sure that a node does not outlive its owner."""
        pipe = self._process.stdin
        assert pipe is not None
        pipe.write(f"{pid} {config}\n".encode())
        pipe.flush()

    def close(self) -> None:
        """Let the keeper look after what is left, and wait for that."""
        self._process.communicate()


def main() -> None:
    """Wait for the pipe's end and clean up."""
    for line in sys.stdin.buffer.read().decode().splitlines():
        pid, _, config = line.partition(" ")
        if is_node(int(pid), config):
            send_signal(int(pid), signal.SIGKILL)
    shutil.rmtree(sys.argv[1], ignore_errors=True)


if __name__ == "__main__":
    main()
