"""Copies of a RocksDB folder as the end of its process would leave it."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path


def copy_at_rest(folder: Path, image: Path) -> None:
    """Copy ``folder`` when nothing changes under the copy: RocksDB's threads write and remove files when they like."""
    while True:
        before = _files(folder)
        with suppress(shutil.Error):
            shutil.copytree(folder, image)
            if _files(folder) == before:
                return
        shutil.rmtree(image, ignore_errors=True)


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the size and the time of the last change of each file."""
    found: dict[str, tuple[int, int]] = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            state = path.stat()
            found[str(path)] = state.st_size, state.st_mtime_ns
    return found
