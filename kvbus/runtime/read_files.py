"""Files that are open for reading: as many as the process can spare, the others are opened again when they are read.

An engine reads from more tables than a process may have files open, and what it has open must leave room for sockets,
the log and a worker's files. Clients that connect may take up even that; then files are read where no socket is.
"""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from errno import EBADF, EINVAL, EMFILE, ENFILE
from pathlib import Path

from kvbus.runtime.separate_files import SeparateFiles

_NO_MORE = (EMFILE, ENFILE)
_TRIES = 8


class Handle:
    """An open file's descriptor, which the file and :class:`ReadFiles` share: -1 once one of them has closed it."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor


class ReadFiles:
    """At most ``most`` open files; the one that was opened first is closed for the next one."""

    def __init__(self, most: int) -> None:
        self._most = most
        # By descriptor, the oldest first.
        self._open: OrderedDict[int, Handle] = OrderedDict()
        self._separate: SeparateFiles | None = None

    def __len__(self) -> int:
        return len(self._open)

    def open(self, path: Path) -> OsReadFile:
        """Open a regular file.

        Raises:
            OSError: there is none of that name, or it cannot be opened.
        """
        return OsReadFile(self, path)

    def take(self, path: Path) -> Handle | None:
        """Open ``path``, and close another one where there are too many; None where no more may be open."""
        try:
            descriptor = _open(path)
        except OSError as error:
            if error.errno not in _NO_MORE:
                raise
            # To close another one first would not help: the next client that connects may take its place.
            return None
        while len(self._open) >= self._most:
            self._close_oldest()
        handle = self._open[descriptor] = Handle(descriptor)
        return handle

    def read_separately(self, path: Path, offset: int, size: int) -> bytes:
        """Return ``size`` bytes of the file from ``offset`` on, fewer at its end, though no more files may be open."""
        if self._separate is None:
            self._separate = SeparateFiles()
        try:
            return self._separate.do(_read_once, path, offset, size)
        except OSError as error:
            if error.errno not in _NO_MORE:
                raise
            return self._read_in_anothers_place(path, offset, size, error)

    def _read_in_anothers_place(self, path: Path, offset: int, size: int, reason: OSError) -> bytes:
        """Close other files for this one, which is not certain to help."""
        for _ in range(_TRIES):
            self._close_oldest()
            handle = self.take(path)
            if handle is not None:
                return _read(handle.descriptor, offset, size)
        raise reason

    def _close_oldest(self) -> None:
        if self._open:
            _, oldest = self._open.popitem(last=False)
            _close(oldest)

    def release(self, handle: Handle) -> None:
        """Close a file, unless it is closed."""
        if handle.descriptor >= 0:
            del self._open[handle.descriptor]
            _close(handle)


class OsReadFile:
    """A :class:`~kvbus.ports.disk.ReadFile` that is open while it is read; ``files`` may close it in between.

    As long as it is in use its name must stay.
    """

    __slots__ = ("__weakref__", "_files", "_handle", "_path", "size")

    def __init__(self, files: ReadFiles, path: Path) -> None:
        self._files = files
        self._path: Path | None = path
        self._handle: Handle | None = None
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise OSError(EINVAL, "Not a regular file", str(path))
        self.size = found.st_size
        self._handle = files.take(path)

    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on, fewer at the file's end."""
        handle = self._handle
        if handle is None or handle.descriptor < 0:
            if self._path is None:
                raise OSError(EBADF, "The file is closed")
            handle = self._handle = self._files.take(self._path)
            if handle is None:
                return self._files.read_separately(self._path, offset, size)
        return _read(handle.descriptor, offset, size)

    def close(self) -> None:
        """Release the file."""
        self._path = None
        if self._handle is not None:
            self._files.release(self._handle)

    def __del__(self) -> None:
        # A table that counts no more is read as long as a scan holds on to it; nobody knows which one is the last.
        self.close()


def _open(path: Path) -> int:
    """Return a descriptor of ``path``; a pipe of that name does not wait for a writer."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def _read(descriptor: int, offset: int, size: int) -> bytes:
    data = os.pread(descriptor, size, offset)
    while 0 < len(data) < size:
        # The kernel reads at most 2 GiB at once; nothing more means the end.
        part = os.pread(descriptor, size - len(data), offset + len(data))
        if not part:
            break
        data += part
    return data


def _read_once(path: Path, offset: int, size: int) -> bytes:
    descriptor = _open(path)
    try:
        return _read(descriptor, offset, size)
    finally:
        os.close(descriptor)


def _close(handle: Handle) -> None:
    descriptor, handle.descriptor = handle.descriptor, -1
    os.close(descriptor)
