"""How the two clients become programs, and what a machine must have for that."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from shutil import copyfile, which

import pytest

NODE_FOLDER = Path(__file__).parent / "node"
_SOURCE = Path(__file__).parent / "c" / "client.c"
_LIBRARIES = ("libzmq", "libcbor")
_OLDEST_NODE = 18
# Below the limit for a test, so that an installation that hangs is a reason to skip and no failure.
_INSTALL_TIMEOUT_SECONDS = 90
_WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Werror")


def node_command(folder: Path = NODE_FOLDER) -> list[str]:
    """Return the Node client's command, with its packages installed as the lock says; skip where that cannot be."""
    _need("node", "nodejs")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    found = re.match(r"v(\d+)\.", version)
    if found is None or int(found[1]) < _OLDEST_NODE:
        pytest.skip(f"node is {version}: install {_OLDEST_NODE} or newer")
    lock, installed = folder / "package-lock.json", folder / "node_modules" / ".installed-lock.json"
    if not installed.exists() or installed.read_bytes() != lock.read_bytes():
        _need("npm", "npm")
        _install(folder)
        copyfile(lock, installed)
    return ["node", str(folder / "driver.mjs")]


def _install(folder: Path) -> None:
    for command in (
        ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"],
        # No script of a package has run, so this shows whether there is a binary for this machine.
        ["node", "--eval", "require('zeromq')"],
    ):
        told = _complaint(command, folder)
        if told is not None:
            pytest.skip(f"{' '.join(command)} in {folder} failed; mend that first:\n{told}")


def _complaint(command: Sequence[str], folder: Path) -> str | None:
    """Run a command; return what it complained of, or None if it went well."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=_INSTALL_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"it took longer than {_INSTALL_TIMEOUT_SECONDS} s"
    return done.stderr[-2000:] if done.returncode else None


def c_command(folder: Path) -> list[str]:
    """Compile the C client into ``folder`` and return its command; skip where a compiler or a library is missing."""
    _need("cc", "gcc and libc6-dev")
    _need("pkg-config", "pkg-config")
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", *_LIBRARIES], capture_output=True, text=True, check=False
    )
    if flags.returncode:
        pytest.skip(f"install {' and '.join(_LIBRARIES)} (Debian: libzmq3-dev, libcbor-dev): {flags.stderr.strip()}")
    program = folder / "client"
    compile_it = ["cc", *_WARNINGS, "-O1", str(_SOURCE), *flags.stdout.split(), "-o", str(program)]
    done = subprocess.run(compile_it, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [str(program)]


def _need(program: str, package: str) -> None:
    if which(program) is None:
        pytest.skip(f"there is no {program}: install it (Debian: {package})")
