"""The file system as an engine sees it, narrow enough for a crash-clone to stand in for it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

BLANK_NAME = "blank.tmp"
"""What a file is called while :meth:`Disk.blank` writes zeros to it; nobody needs it."""


class AppendFile(Protocol):
    """A file opened for appending."""

    @property
    def offset(self) -> int:
        """Bytes written so far: where the next append lands."""
        ...

    def append(self, data: bytes) -> None:
        """Write all of ``data`` at the end; a short write is continued.

        Raises:
            OSError: the disk is full or failing; a part of ``data`` may have been written.
        """
        ...

    def sync(self) -> None:
        """Make all appended bytes durable (fdatasync).

        Raises:
            OSError: the kernel may have dropped the pages; the caller must not go on with this file.
        """
        ...

    def cut_back(self, offset: int) -> None:
        """Drop what lies behind ``offset``, durably: the mend after a failed append.

        Raises:
            OSError: what the file holds behind ``offset`` is unknown; the caller must not go on with it.
        """
        ...

    def close(self, *, keeps_fill: bool = False) -> None:
        """Release the file without syncing; the fill behind its last byte goes, unless it is kept to save time."""
        ...


class ReadFile(Protocol):
    """A file opened for reading; its name must stay while it is."""

    @property
    def size(self) -> int:
        """Bytes in the file when it was opened."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on, fewer at the file's end.

        Raises:
            OSError: the disk cannot read them.
        """
        ...

    def close(self) -> None:
        """Release the file; a second close does nothing."""
        ...


class Folder(Protocol):
    """One data directory to read from. Paths are relative to it, with ``/`` between their parts."""

    def list(self, folder: str = "") -> list[str]:
        """Return the sorted names of the files in ``folder``; empty when it does not exist."""
        ...

    def read(self, path: str, offset: int = 0, size: int = -1) -> bytes:
        """Return ``size`` bytes of the file from ``offset`` on, fewer at its end; -1 means all of them.

        Raises:
            FileNotFoundError: there is no such file.
        """
        ...

    def open(self, path: str) -> ReadFile:
        """Open the file for reading.

        Raises:
            FileNotFoundError: there is no such file.
        """
        ...


class Disk(Folder, Protocol):
    """One data directory to read from and to write to.

    What a job of a :class:`~kvbus.ports.worker.Worker` is given must survive pickling, and the copy works on the same
    files.
    """

    def create(self, path: str, *, fill_step_bytes: int = 0) -> AppendFile:
        """Create a file for appending; its name is durable after :meth:`sync_folder`. Folders are made as needed.

        With ``fill_step_bytes`` the file is filled with zeros ahead of its tail, a step at a time: a sync that need not
        journal a new file size is faster. After a crash up to one step of zeros may follow the last byte.

        Raises:
            FileExistsError: the file exists.
        """
        ...

    def blank(self, path: str, target: str, *, size_bytes: int) -> None:
        """Let zeros stand in the file, ``size_bytes`` or as many as it has, durably, then call it ``target``.

        The zeros are written a bit at a time; the name is durable after :meth:`sync_folder`. Whatever is in the way,
        the file goes from ``path``; an interruption may leave it as BLANK_NAME.

        Raises:
            FileNotFoundError: there is no such file.
            FileExistsError: there is a file of the other name, which stays as it is, or the file has a third name.
            OSError: the disk is full or failing, or gives no file a second name.
        """
        ...

    def reuse(self, path: str, *, fill_step_bytes: int) -> AppendFile:
        """Open a file that :meth:`blank` has left for appending from its first byte on.

        It is as :meth:`create` makes one, but for its fill, as many zeros as it had bytes.

        Raises:
            FileNotFoundError: there is no such file.
        """
        ...

    def replace(self, path: str, data: bytes) -> None:
        """Put ``data`` at ``path`` in one durable step: temporary file, sync, rename, directory sync."""
        ...

    def sync(self, path: str) -> None:
        """Make all that the file holds durable, whoever wrote it: a process that was killed left some of it unsynced.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: as :meth:`AppendFile.sync`.
        """
        ...

    def sync_folder(self, folder: str = "") -> None:
        """Make the names in ``folder`` durable: those that were created, and that others were removed.

        Raises:
            OSError: as :meth:`AppendFile.sync`.
        """
        ...

    def remove(self, path: str) -> None:
        """Remove the file; after a power cut it may be back unless :meth:`sync_folder` was called.

        Raises:
            FileNotFoundError: there is no such file.
        """
        ...


class HeldDisk(Disk, Protocol):
    """A disk that this process has to itself."""

    def stamp(self) -> str:
        """Return what stays the same until :meth:`restamp` while this is the same directory; a copy has another."""
        ...

    def restamp(self) -> str:
        """Return another stamp, which holds from now on: so a copy made before is one, whatever tool puts it back."""
        ...


@runtime_checkable
class FolderDisk(Disk, Protocol):
    """A disk that is a folder of the operating system, whose files an engine's library can open by itself."""

    @property
    def root(self) -> str:
        """The folder's absolute path."""
        ...
