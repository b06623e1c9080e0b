"""Child processes of a run: started in a folder, spoken to in JSON lines, and all stopped when the run ends."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import SystemRandom
from time import monotonic, sleep
from types import TracebackType
from typing import cast

from benchmarks.measurement import BenchmarkError

HOST = "127.0.0.1"
CHECKOUT = Path(__file__).resolve().parents[1]
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.05
# Below the range from which systems take ports for outgoing connections.
_FIRST_PORT, _LAST_PORT = 20_000, 30_000


class Children:
    """The processes of one run. Leaving the context stops each by its process id, the last one first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cleanup = ExitStack()

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A second Ctrl-C must not leave half of them running; every stop is bounded in time.
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.cleanup.close()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def spawn(self, name: str, command: Sequence[str], *, speaks: bool = False) -> subprocess.Popen[bytes]:
        """Start ``command``; what it says goes to ``name.log``, or its standard input and output to us (``speaks``)."""
        with self.log(name).open("ab") as log:
            # A session of its own: Ctrl-C must reach nobody but us, so that everything is stopped in order.
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if speaks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if speaks else log,
                stderr=log,
                env=environment(),
                cwd=self.folder,
                start_new_session=True,
            )
        self.cleanup.callback(_stop, process)
        return process

    def log(self, name: str) -> Path:
        """Return the file that takes what the child ``name`` says."""
        return self.folder / f"{name}.log"

    def wait_for_port(self, name: str, process: subprocess.Popen[bytes], port: int, seconds: float = 20.0) -> None:
        """Wait until ``process`` takes connections at ``port``.

        Raises:
            BenchmarkError: it ended or does not serve in time; the message holds the end of its log.
        """
        give_up = monotonic() + seconds
        while True:
            try:
                socket.create_connection((HOST, port), timeout=1).close()
            except OSError:
                if process.poll() is not None or monotonic() >= give_up:
                    raise BenchmarkError(f"{name} does not serve port {port}:\n{tail(self.log(name))}") from None
                sleep(_POLL_SECONDS)
            else:
                return


class Conversation:
    """A load generator that stays up: one JSON line in, one JSON line out."""

    def __init__(self, children: Children, name: str, command: Sequence[str]) -> None:
        self._name = name
        self._log = children.log(name)
        self._process = children.spawn(name, command, speaks=True)

    def ask(self, request: Mapping[str, object], seconds: float) -> dict[str, object]:
        """Send ``request`` and wait for the reply.

        Raises:
            BenchmarkError: the load generator ended or does not answer in time; the message holds its log's end.
        """
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        line = b""
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], seconds)
            if ready:
                line = process.stdout.readline()
        except BrokenPipeError:
            pass
        if not line:
            raise BenchmarkError(f"{self._name} gave no answer to {dict(request)!r}:\n{tail(self._log)}")
        return cast("dict[str, object]", json.loads(line))


def run(command: Sequence[str], seconds: float) -> str:
    """Run ``command`` to its end and return what it printed.

    Raises:
        BenchmarkError: it failed or took longer than ``seconds``; the message holds what it said.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=CHECKOUT,
    )
    try:
        printed, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{' '.join(command)} did not end within {seconds:.0f} s") from None
    finally:
        _interrupt(process)
    if process.returncode:
        raise BenchmarkError(f"{' '.join(command)} failed ({process.returncode}):\n{said[-2000:]}{printed[-500:]}")
    return printed


def module(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a Python module with this very interpreter."""
    return [sys.executable, "-m", name, *arguments]


def environment() -> dict[str, str]:
    """Return our environment without kvbus settings, and with the checkout's source roots, installed or not."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KVBUS_")}
    roots = [str(CHECKOUT / root) for root in (".", "modes", "storage")]
    return {**kept, "PYTHONPATH": os.pathsep.join([*roots, *filter(None, [kept.get("PYTHONPATH")])])}


def free_ports(count: int) -> int:
    """Return the first of ``count`` adjacent loopback ports that nobody uses now.

    Raises:
        BenchmarkError: there is no such row of ports.
    """
    luck = SystemRandom()
    for _ in range(100):
        first = luck.randrange(_FIRST_PORT, _LAST_PORT - count)
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise BenchmarkError(f"no {count} adjacent ports are free between {_FIRST_PORT} and {_LAST_PORT}; close something")


def tail(log: Path) -> str:
    """Return the last lines of a log file; empty when there is none."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    except OSError:
        return ""


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _interrupt(process: subprocess.Popen[str]) -> None:
    """End a command that still runs; an interrupted one may first undo what it has begun."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
