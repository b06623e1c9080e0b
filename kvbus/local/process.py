"""One node's process on this machine: start it, recognise it, signal it, read its last words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def spawn(config: Path, log: Path, within: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start ``kvbus node --config CONFIG`` detached from this terminal; what it says is appended to ``log``.

    ``within``: words that run what follows them in another place, such as a network namespace, as the same process.
    """
    with log.open("ab") as out:
        return subprocess.Popen(
            [*within, sys.executable, "-m", "kvbus", "node", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def is_node(pid: int | None, config: str) -> bool:
    """Say whether process ``pid`` is alive and is the node that runs with the file ``config``.

    A process id is given again after a node's end, so the command line must name that very file.
    """
    return pid is not None and config in _command_line(pid)


def is_stopped(pid: int) -> bool:
    """Say whether a process stands still until it is sent SIGCONT."""
    try:
        # The command's name, in brackets, may itself hold anything; the state is the letter behind it.
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2]
    except OSError:
        if Path("/proc/self/stat").exists():
            return False
        asked = ["ps", "-o", "state=", "-p", str(pid)]
        state = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    return state.strip()[:1] in ("T", "t")


def _command_line(pid: int) -> list[str]:
    """Return a process's arguments; none when it has ended, even if nobody has collected it."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
    except FileNotFoundError:
        if Path("/proc/self/cmdline").exists():
            return []
    except OSError:
        return []
    shown = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.split(" ")


def send_signal(pid: int, number: signal.Signals) -> None:
    """Send a signal; a process that has ended is left in peace."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def last_line(log: Path, start: int) -> str:
    """Return the last line that holds text in ``log`` behind byte ``start``."""
    try:
        with log.open("rb") as file:
            file.seek(start)
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
