"""File systems that a test makes for itself: seen nowhere else, and gone however the test ends.

A process holds a mount namespace of its own and dies with the test; whatever the test runs in the namespace dies with
it, too. With the last of them the kernel takes the mounts down, and with a mount its loop device.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Self

import pytest

from tests.live.placed_nodes import DIE_WITH_PARENT

_PACKAGES = {
    "fallocate": "util-linux",
    "prlimit": "util-linux",
    "mkfs.ext4": "e2fsprogs",
    "mount": "mount",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "strace": "strace",
    "umount": "mount",
    "unshare": "util-linux",
}
_MOUNT_TOOLS = ("mount", "nsenter", "setpriv", "umount", "unshare")
_IMAGE_TOOLS = ("fallocate", "mkfs.ext4")
_BUSY_SECONDS = 5.0


class PrivateMounts:
    """A mount namespace. ``within`` are words that run what follows them in it, as the same process."""

    def __init__(self) -> None:
        held = "echo; exec cat"
        self._holder = subprocess.Popen(
            [*DIE_WITH_PARENT, "unshare", "--mount", "--propagation", "private", "sh", "-c", held],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"\n", "no namespace was made"
        self.within = ("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", *DIE_WITH_PARENT)

    def run(self, *command: str) -> None:
        """Run a command in the namespace, which must succeed."""
        done = subprocess.run((*self.within, *command), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"

    def mount_memory(self, folder: Path, size_bytes: int) -> None:
        """Put an empty file system in memory at ``folder``."""
        self.run("mount", "--types", "tmpfs", "--options", f"size={size_bytes}", "kvbus-test", str(folder))

    def mount_image(self, image: Path, folder: Path) -> None:
        """Put the file system in ``image`` at ``folder``, through a loop device that goes with the mount."""
        self.run("mount", "--options", "loop", str(image), str(folder))

    def unmount(self, folder: Path) -> None:
        """Take the file system at ``folder`` away, as soon as those who used it have let it go."""
        give_up = monotonic() + _BUSY_SECONDS
        while subprocess.run((*self.within, "umount", str(folder)), capture_output=True, check=False).returncode:
            assert monotonic() < give_up, f"{folder} is still in use"
            sleep(0.02)

    def view(self, path: Path) -> Path:
        """Return where this process finds what is at ``path`` in the namespace."""
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def close(self) -> None:
        """Let the namespace go."""
        self._holder.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make_image(image: Path, size_bytes: int) -> None:
    """Make an ext4 file system in a sparse file."""
    with image.open("wb") as file:
        file.truncate(size_bytes)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True, capture_output=True)


def need_tools(*tools: str) -> None:
    """Skip where this is not root's Linux or a program is missing; the reason names its package."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root on Linux")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        packages = " ".join(dict.fromkeys(_PACKAGES[tool] for tool in missing))
        pytest.skip(f"finds no {', '.join(missing)} on the PATH; on Debian or Ubuntu: apt-get install {packages}")


def need_mounts() -> None:
    """Skip where no file system can be mounted in a namespace."""
    need_tools(*_MOUNT_TOOLS)
    _skip_for(_why_no_memory_mount())


def need_images() -> None:
    """Skip where no ext4 image can be mounted in a namespace."""
    need_mounts()
    need_tools(*_IMAGE_TOOLS)
    _skip_for(_why_no_image_mount())


def _skip_for(reason: str) -> None:
    if reason:
        pytest.skip(reason)


@cache
def _why_no_memory_mount() -> str:
    command = ["unshare", "--mount", "mount", "--types", "tmpfs", "kvbus-test", "/mnt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"cannot mount in a namespace (in a container: --privileged): {done.stderr}" if done.returncode else ""


@cache
def _why_no_image_mount() -> str:
    script = 'set -e; image=$(mktemp); trap "rm $image" EXIT; truncate --size 4M "$image"; mkfs.ext4 -q -F "$image"; '
    command = ["unshare", "--mount", "sh", "-c", script + 'mount -o loop "$image" /mnt; umount /mnt']
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"cannot mount an ext4 image through a loop device: {done.stderr}" if done.returncode else ""
