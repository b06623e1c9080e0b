"""A process that has the command line loaded and forks for each command, so that none pays for the imports anew.

Each command is a process of its own all the same: its arguments, environment, streams and exit code are real.
"""

from __future__ import annotations

import gc
import json
import os
import pkgutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryFile
from typing import cast

_COMMAND_SECONDS = 90.0
_RUN = b"!"
_PACKAGES = ("kvbus", "kvbus_modes", "kvbus_storage")
# What commands import only when they need it, from libraries that they need nothing else of.
_ALSO = ("asyncio", "rich.console", "rich.progress", "rich.table", "uvicorn")


def environment() -> dict[str, str]:
    """Return this process's environment, in which Python finds the code under test where this process found it."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


class CommandServer:
    """The forking process, as the tests hold it; it runs one command at a time."""

    def __init__(self) -> None:
        self._link, remote = socket.socketpair()
        with remote:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__)), str(remote.fileno())],
                env=environment(),
                pass_fds=[remote.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run ``kvbus ARGUMENTS`` here and now, with nothing on standard input; a command that hangs is killed."""
        with TemporaryFile("w+") as request, TemporaryFile("w+") as out, TemporaryFile("w+") as err:
            json.dump({"arguments": arguments, "environment": environment(), "folder": os.getcwd()}, request)
            request.seek(0)
            socket.send_fds(self._link, [_RUN], [stream.fileno() for stream in (request, out, err)])
            code = self._link.recv(1)
            if not code:
                raise RuntimeError("the process that runs commands has ended; its standard error says why")
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(
                ["kvbus", *arguments], int.from_bytes(code, signed=True), out.read(), err.read()
            )

    def close(self) -> None:
        """Let the process end."""
        self._link.close()
        self._process.wait()


def _serve(link: socket.socket) -> None:
    fork = get_context("fork")
    while True:
        word, streams, _, _ = socket.recv_fds(link, len(_RUN), 3)
        if not word:
            return
        child = fork.Process(target=_run, args=streams)
        child.start()
        for stream in streams:
            os.close(stream)
        child.join(_COMMAND_SECONDS)
        if child.exitcode is None:
            child.kill()
            child.join()
        link.send((child.exitcode or 0).to_bytes(1, signed=True))


def _run(request: int, out: int, err: int) -> None:
    with open(request) as file:
        command = cast("dict[str, str]", json.load(file))
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.chdir(command["folder"])
    os.environ.clear()
    os.environ.update(cast("Mapping[str, str]", command["environment"]))
    sys.argv = ["kvbus", *command["arguments"]]
    import_module("kvbus.cli.main").main()


def _load() -> None:
    for package in _PACKAGES:
        for module in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
            if not module.name.endswith(".__main__"):
                import_module(module.name)
    for name in _ALSO:
        import_module(name)
    # A collection in a child would write to, and so copy, all that it shares with this process.
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    _load()
    _serve(socket.socket(fileno=int(sys.argv[1])))
