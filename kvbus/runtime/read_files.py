"""Files that are open for reading: as many as the process can spare, the others are opened again when they are read.

An engine reads from more tables than a process may have files open, and what it has open must leave room for sockets,
the log and a worker's files.
"""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from errno import EINVAL, EMFILE, ENFILE
from pathlib import Path
from typing import TypeVar
from weakref import ref

Opened = TypeVar("Opened")


class ReadFiles:
    """At most ``most`` open files; the one that was opened first is closed for the next one."""

    def __init__(self, most: int) -> None:
        self._most = most
        # By descriptor, the oldest first.
        self._open: OrderedDict[int, ref[OsReadFile]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, path: Path) -> OsReadFile:
        """Open a regular file.

        Raises:
            OSError: there is none of that name, or it cannot be opened.
        """
        return OsReadFile(self, path)

    def descriptor(self, file: OsReadFile, path: Path) -> int:
        """Open ``path`` for ``file``, which is closed, and return the descriptor."""
        while len(self._open) >= self._most:
            self._close_oldest()
        # Without NONBLOCK a pipe of that name would wait for a writer.
        descriptor = self.making_room(lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        self._open[descriptor] = ref(file)
        return descriptor

    def release(self, descriptor: int) -> None:
        """Close a file that is read no more."""
        del self._open[descriptor]
        os.close(descriptor)

    def making_room(self, act: Callable[[], Opened]) -> Opened:
        """Open something; where too many files are open, half of those for reading are closed, and it is tried again.

        Raises:
            OSError: as ``act``.
        """
        try:
            return act()
        except OSError as error:
            if error.errno not in (EMFILE, ENFILE) or not self._open:
                raise
        for _ in range((len(self._open) + 1) // 2):
            self._close_oldest()
        return act()

    def _close_oldest(self) -> None:
        descriptor, file = self._open.popitem(last=False)
        if (reader := file()) is not None:
            reader.was_closed()
        os.close(descriptor)


class OsReadFile:
    """A :class:`~kvbus.ports.disk.ReadFile` that is open while it is read; ``files`` may close it in between.

    As long as it is in use its name must stay.
    """

    __slots__ = ("__weakref__", "_descriptor", "_files", "_path", "size")

    def __init__(self, files: ReadFiles, path: Path) -> None:
        self._files = files
        self._path = path
        self._descriptor = -1
        self._descriptor = files.descriptor(self, path)
        found = os.fstat(self._descriptor)
        self.size = found.st_size
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise OSError(EINVAL, "Not a regular file", str(path))

    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on, fewer at the file's end."""
        descriptor = self._descriptor
        if descriptor < 0:
            descriptor = self._descriptor = self._files.descriptor(self, self._path)
        data = os.pread(descriptor, size, offset)
        while 0 < len(data) < size:
            # The kernel reads at most 2 GiB at once; nothing more means the end.
            part = os.pread(descriptor, size - len(data), offset + len(data))
            if not part:
                break
            data += part
        return data

    def close(self) -> None:
        """Release the file; a later read opens it again."""
        if self._descriptor >= 0:
            self._files.release(self._descriptor)
            self._descriptor = -1

    def was_closed(self) -> None:
        """Take note that the file is not open any more."""
        self._descriptor = -1

    def __del__(self) -> None:
        # A table that counts no more is read as long as a scan holds on to it; nobody knows which one is the last.
        self.close()
