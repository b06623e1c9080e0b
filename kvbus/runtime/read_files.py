"""Files that are open for reading: as many as the process can spare, the others are opened again when they are read.

An engine reads from more tables than a process may have files open, and what it has open must leave room for sockets,
the log and a worker's files.
"""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from errno import EBADF, EINVAL, EMFILE, ENFILE
from pathlib import Path

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

    def __len__(self) -> int:
        return len(self._open)

    def open(self, path: Path) -> OsReadFile:
        """Open a regular file.

        Raises:
            OSError: there is none of that name, or it cannot be opened.
        """
        return OsReadFile(self, path)

    def take(self, path: Path) -> Handle:
        """Open ``path`` for a file that is read, and close others where there are too many."""
        while len(self._open) >= self._most:
            self._close_oldest()
        for _ in range(_TRIES):
            try:
                return self._take(path)
            except OSError as error:
                if error.errno not in (EMFILE, ENFILE) or not self._open:
                    raise
            # A client that connects may be faster: so few are given up for it.
            self._close_oldest()
        return self._take(path)

    def _take(self, path: Path) -> Handle:
        # Without NONBLOCK a pipe of that name would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        handle = self._open[descriptor] = Handle(descriptor)
        return handle

    def release(self, handle: Handle) -> None:
        """Close a file, unless it is closed."""
        if handle.descriptor >= 0:
            del self._open[handle.descriptor]
            _close(handle)

    def _close_oldest(self) -> None:
        if self._open:
            _, handle = self._open.popitem(last=False)
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
        self._handle = files.take(path)
        found = os.fstat(self._handle.descriptor)
        self.size = found.st_size
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise OSError(EINVAL, "Not a regular file", str(path))

    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on, fewer at the file's end."""
        handle = self._handle
        if handle is None or handle.descriptor < 0:
            if self._path is None:
                raise OSError(EBADF, "The file is closed")
            handle = self._handle = self._files.take(self._path)
        data = os.pread(handle.descriptor, size, offset)
        while 0 < len(data) < size:
            # The kernel reads at most 2 GiB at once; nothing more means the end.
            part = os.pread(handle.descriptor, size - len(data), offset + len(data))
            if not part:
                break
            data += part
        return data

    def close(self) -> None:
        """Release the file."""
        self._path = None
        if self._handle is not None:
            self._files.release(self._handle)

    def __del__(self) -> None:
        # A table that counts no more is read as long as a scan holds on to it; nobody knows which one is the last.
        self.close()


def _close(handle: Handle) -> None:
    descriptor, handle.descriptor = handle.descriptor, -1
    os.close(descriptor)
