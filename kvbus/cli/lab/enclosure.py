"""The namespaces around a lab, which the kernel takes down with all that is in them when the command ends.

::

    kvbus lab                     the command that was typed
     └ unshare                    dies with its parent (parent-death signal)
        └ python -m kvbus.cli.lab first process of a PID namespace, dies with its parent
           ├ node n1 …            die with the PID namespace
           └ the user's command

Bridge, devices and rules live in a network namespace that has no name, the data in a tmpfs of a private mount
namespace: nothing of them was ever on the host, so nobody has to remove it. The end may be a SIGKILL of any of these.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from select import select
from types import FrameType
from typing import NamedTuple

from kvbus.cli.lab.network import BRIDGE_RULES, DATA_MOUNT
from kvbus.cli.output import Output
from kvbus.errors import ConfigError, KvbusError

_ENTER = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
)
_PACKAGES = {
    "ip": "iproute2",
    "nft": "nftables",
    "mount": "mount",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
_ROOT = 0


class _Trial(NamedTuple):
    """A command that fails where the lab cannot be, and what mends that."""

    command: tuple[str, ...]
    needs: str
    mend: str


_TRIALS = (
    _Trial(
        ("true",),
        "namespaces of its own",
        "in a container, start that one with --privileged, else use a newer util-linux",
    ),
    _Trial(("mount", "--types", "tmpfs", "kvbus-lab", DATA_MOUNT), f"a tmpfs at {DATA_MOUNT}", "create that folder"),
    _Trial(
        ("ip", "link", "add", "kvbus-lab", "type", "bridge"),
        "a network bridge",
        "modprobe bridge, or a kernel with CONFIG_BRIDGE",
    ),
    _Trial(
        ("ip", "link", "add", "kvbus-lab", "type", "veth"),
        "pairs of virtual network devices",
        "modprobe veth, or a kernel with CONFIG_VETH",
    ),
    _Trial(
        ("nft", BRIDGE_RULES),
        "nftables rules on a bridge",
        "modprobe nf_tables, or a kernel with CONFIG_NF_TABLES_BRIDGE",
    ),
)


class LabEnded(KvbusError):
    """The lab was killed from outside."""


def run_enclosed(nodes: int, output: Output, command: Sequence[str]) -> int:
    """Run a lab of ``nodes`` nodes with the proof, or with ``command`` where there is one; return the exit code.

    Raises:
        ConfigError: this machine or the command lacks something; nothing was made.
        LabEnded: the lab was killed.
    """
    check_machine()
    # Last on the PATH, so that a command finds kvbus even where sudo has forgotten its folder.
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), sysconfig.get_path("scripts")))
    if command and shutil.which(command[0], path=path) is None:
        raise ConfigError(f"there is no command {command[0]!r}; write kvbus lab --run -- PROGRAM ARGUMENTS…")
    if command:
        leave_interrupts()
    lifeline, held = os.pipe()
    inside = (sys.executable, "-m", "kvbus.cli.lab", str(lifeline), str(nodes), output.value, "--", *command)
    environment = {**os.environ, "PATH": path}
    with subprocess.Popen((*_ENTER, *inside), env=environment, pass_fds=[lifeline]) as process:
        os.close(lifeline)
        code = process.wait()
    os.close(held)
    if code < 0:
        raise LabEnded(f"the lab was ended by {signal.Signals(-code).name}; nothing of it is left")
    return code


def check_enclosed(lifeline: int) -> None:
    """End this process where it is not in the lab's namespaces, or the command that holds ``lifeline`` has ended.

    That one may have died before the kernel was told to let the lab die with it.
    """
    if os.getpid() != 1:
        sys.exit("this is a part of kvbus lab; start that one")
    if select([lifeline], [], [], 0)[0]:
        sys.exit(1)
    os.close(lifeline)


def leave_interrupts() -> None:
    """Leave Ctrl-C, which everything at the terminal gets, to the others that get it.

    A handler does it; a command would inherit the signal's being ignored.
    """
    signal.signal(signal.SIGINT, _leave_it)


def check_machine() -> None:
    """See that a lab can be made here; nothing is made, but for namespaces that are gone at once.

    Raises:
        ConfigError: it cannot; the message says what is missing and how to get it.
    """
    check_user(sys.platform, os.geteuid())
    check_tools(os.environ.get("PATH", os.defpath))
    _check_kernel()


def check_user(platform: str, user: int) -> None:
    """See that there are network namespaces and that this user may make them.

    Raises:
        ConfigError: not here.
    """
    if platform != "linux":
        raise ConfigError(
            "kvbus lab needs the network namespaces of Linux; run it there, in a virtual machine for example"
        )
    if user != _ROOT:
        raise ConfigError(f"kvbus lab needs root for its network namespaces; run: sudo {sys.executable} -m kvbus lab")


def check_tools(path: str) -> None:
    """See that every tool is on ``path``, which is written as the variable PATH.

    Raises:
        ConfigError: one is not; the message names it and its package.
    """
    missing = [tool for tool in _PACKAGES if shutil.which(tool, path=path) is None]
    if missing:
        packages = " ".join(dict.fromkeys(_PACKAGES[tool] for tool in missing))
        raise ConfigError(
            f"kvbus lab finds no {', '.join(missing)} on the PATH (is /usr/sbin on it?); "
            f"install it, on Debian or Ubuntu with: apt-get install {packages}"
        )


def _check_kernel() -> None:
    """Try each thing that the lab will do, in namespaces that are gone at once."""
    for trial in _TRIALS:
        done = subprocess.run((*_ENTER, *trial.command), capture_output=True, text=True, check=False)
        if done.returncode:
            said = " ".join(done.stderr.split())
            raise ConfigError(f"kvbus lab needs {trial.needs}: {trial.mend} (`{trial.command[0]}` says: {said})")


def _leave_it(number: int, frame: FrameType | None) -> None:
    """Take a signal that is for others."""
