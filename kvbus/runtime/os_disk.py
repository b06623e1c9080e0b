"""The real disk: one data directory, held by one process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from errno import EEXIST
from pathlib import Path
from time import sleep

from kvbus.errors import ConfigError
from kvbus.ports.disk import BLANK_NAME
from kvbus.runtime.open_files import most_read_files
from kvbus.runtime.read_files import OsReadFile, ReadFiles

_LOCK_NAME = "LOCK"
_LOCK_TRIES, _LOCK_PAUSE_SECONDS = 10, 0.05
_TEMPORARY_SUFFIX = ".tmp"
_BLANK_STEP_BYTES = 64 << 10

# macOS has no fdatasync.
_sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


class OsFolder:
    """A :class:`~kvbus.ports.disk.Disk` in the directory ``root`` without a claim to it, for its holder's helpers."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Path(root).absolute()
        self._files = ReadFiles(most_read_files())

    @property
    def root(self) -> str:
        """The folder's absolute path."""
        return str(self._root)

    def list(self, folder: str = "") -> list[str]:
        """Return the sorted names of the files in ``folder``; empty when it does not exist."""
        try:
            with os.scandir(self._path(folder)) as entries:
                names = sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
        except FileNotFoundError:
            return []
        return [name for name in names if folder or name != _LOCK_NAME]

    def read(self, path: str, offset: int = 0, size: int = -1) -> bytes:
        """Return ``size`` bytes of the file from ``offset`` on, fewer at its end; -1 means all of them."""
        file = self.open(path)
        try:
            return file.read(offset, max(file.size - offset, 0) if size < 0 else size)
        finally:
            file.close()

    def open(self, path: str) -> OsReadFile:
        """Open the file for reading."""
        return self._files.open(self._path(path))

    def create(self, path: str, *, fill_step_bytes: int = 0) -> OsAppendFile:
        """Create a file for appending (see the port)."""
        target = self._path(path)
        _make_folder(target.parent)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        return OsAppendFile(descriptor, fill_step_bytes)

    def blank(self, path: str, target: str, *, size_bytes: int) -> None:
        """Let zeros stand in the file and call it ``target`` (see the port)."""
        # Under a name of its own: whoever tries again what was interrupted must not blank what is in use by then. A
        # rename to another name of the same file would leave both.
        blank = self._path(target).with_name(BLANK_NAME)
        blank.unlink(missing_ok=True)
        self._path(path).replace(blank)
        try:
            _fill_with_zeros(blank, size_bytes)
            # A rename would take the place of a file that has the name by now.
            self._path(target).hardlink_to(blank)
        finally:
            blank.unlink(missing_ok=True)

    def reuse(self, path: str, *, fill_step_bytes: int) -> OsAppendFile:
        """Open a blank file for appending (see the port)."""
        descriptor = os.open(self._path(path), os.O_WRONLY | os.O_CLOEXEC)
        return OsAppendFile(descriptor, fill_step_bytes, filled=os.fstat(descriptor).st_size)

    def replace(self, path: str, data: bytes) -> None:
        """Put ``data`` at ``path`` in one durable step: temporary file, sync, rename, directory sync."""
        target = self._path(path)
        temporary = target.with_name(target.name + _TEMPORARY_SUFFIX)
        _make_folder(target.parent)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            _write_all(descriptor, data, 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(target)
        _sync_folder(target.parent)

    def sync(self, path: str) -> None:
        """Make all that the file holds durable, whoever wrote it."""
        descriptor = os.open(self._path(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            _sync_data(descriptor)
        finally:
            os.close(descriptor)

    def sync_folder(self, folder: str = "") -> None:
        """Make the names in ``folder`` durable."""
        _sync_folder(self._path(folder))

    def remove(self, path: str) -> None:
        """Remove the file (see the port)."""
        self._path(path).unlink()

    def __reduce__(self) -> tuple[type[OsFolder], tuple[str]]:
        return OsFolder, (str(self._root),)

    def _path(self, path: str) -> Path:
        parts = path.split("/") if path else []
        if ".." in parts or path.startswith("/"):
            raise ValueError(f"{path!r} leads out of the data directory")
        return self._root.joinpath(*parts)


class OsDisk(OsFolder):
    """A :class:`~kvbus.ports.disk.Disk` in the directory ``root``, held until the close; made where it is missing.

    Raises:
        ConfigError: another process holds the directory.
        OSError: the directory cannot be made or written.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        super().__init__(root)
        _make_folder(self._root)
        self._lock = os.open(self._root / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _take_lock(self._lock)
        except BlockingIOError as error:
            os.close(self._lock)
            raise ConfigError(
                f"{self._root} is used by another process: stop it, or give this node a data directory of its own"
            ) from error

    def stamp(self) -> str:
        """Return what a copy does not share: the lock file's number, and when it came there, which no tool can set."""
        found = os.fstat(self._lock)
        return f"{found.st_dev:x}-{found.st_ino:x}-{found.st_ctime_ns:x}"

    def restamp(self) -> str:
        """Touch the lock file (see the port): a tool that leaves alone what looks the same would leave it as it is."""
        os.utime(self._lock)
        os.fsync(self._lock)
        return self.stamp()

    def close(self) -> None:
        """Let another process have the directory."""
        os.close(self._lock)


class OsFolderAtRest(OsFolder):
    """The directory ``root`` while no node holds it, to be read: until the close no node can take it.

    Nothing is written, so a directory without a lock file, such as a copy, is not kept from a node that starts in it.

    Raises:
        ConfigError: there is no such directory, or a node holds it.
        OSError: it cannot be read.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        super().__init__(root)
        if not self._root.is_dir():
            raise ConfigError(f"{self._root} is no directory; name a node's data_dir")
        self._lock: int | None = None
        try:
            self._lock = os.open(self._root / _LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return
        except BlockingIOError as error:
            self.close()
            raise ConfigError(
                f"{self._root} is used by a running node, which changes it all the time: "
                "stop the node first (kvbus cluster stop NAME), or take a copy of the directory"
            ) from error

    def close(self) -> None:
        """Let a node have the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class OsAppendFile:
    """A :class:`~kvbus.ports.disk.AppendFile` over a file descriptor that it owns."""

    def __init__(self, descriptor: int, fill_step_bytes: int, *, filled: int = 0) -> None:
        self._descriptor = descriptor
        self._offset = 0
        # Where the zeros end that lie ahead of the tail.
        self._filled = filled
        self._fill = bytes(fill_step_bytes)

    @property
    def offset(self) -> int:
        """Bytes written so far: where the next append lands."""
        return self._offset

    def append(self, data: bytes) -> None:
        """Write all of ``data`` at the end; a short write is continued."""
        end = self._offset + len(data)
        if self._fill and end > self._filled:
            self._fill_ahead(end)
        _write_all(self._descriptor, data, self._offset)
        self._offset = end

    def sync(self) -> None:
        """Make all appended bytes durable (fdatasync)."""
        _sync_data(self._descriptor)

    def cut_back(self, offset: int) -> None:
        """Drop what lies behind ``offset``, durably."""
        os.ftruncate(self._descriptor, offset)
        _sync_data(self._descriptor)
        self._offset = self._filled = offset

    def close(self, *, keeps_fill: bool = False) -> None:
        """Release the file without syncing (see the port)."""
        try:
            if self._filled > self._offset and not keeps_fill:
                os.ftruncate(self._descriptor, self._offset)
        finally:
            os.close(self._descriptor)

    def _fill_ahead(self, end: int) -> None:
        """Fill the next step, behind what ``end`` is about to overwrite."""
        start = max(self._filled, end)
        try:
            _write_all(self._descriptor, self._fill, start)
        except OSError:
            # The fill only saves time. Where it does not fit, the data may still, and its own write says what is wrong.
            os.ftruncate(self._descriptor, max(self._filled, self._offset))
            self._fill = b""
            return
        self._filled = start + len(self._fill)


def _take_lock(descriptor: int) -> None:
    """Lock the file, or raise BlockingIOError.

    A process that was killed while it started a child leaves the lock to that for some milliseconds.
    """
    for _ in range(_LOCK_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        sleep(_LOCK_PAUSE_SECONDS)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    written = os.pwrite(descriptor, data, offset)
    while written < len(data):
        written += os.pwrite(descriptor, memoryview(data)[written:], offset + written)


def _fill_with_zeros(path: Path, size_bytes: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if found.st_nlink != 1:
            raise FileExistsError(EEXIST, "It has another name, too", str(path))
        if found.st_size > size_bytes:
            os.ftruncate(descriptor, size_bytes)
        size = min(found.st_size, size_bytes)
        for offset in range(0, size, _BLANK_STEP_BYTES):
            # Syncs of other files would wait for longer steps.
            _write_all(descriptor, bytes(min(_BLANK_STEP_BYTES, size - offset)), offset)
            _sync_data(descriptor)
    finally:
        os.close(descriptor)


def _make_folder(folder: Path) -> None:
    """Make ``folder`` and its missing parents, each durable in its own parent."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
