"""A disk in memory that knows what is synced: it fills up, fails and crashes on demand, and a crash clones it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from errno import EIO, ENOSPC
from itertools import product
from random import Random

from kvbus.ports.disk import BLANK_NAME
from kvbus.sim.disk_file import MemoryFile, MemoryReadFile

_FULL, _FAILED = "No space left on device", "Input/output error"


class PowerCut(BaseException):
    """Raised by an ``on_step`` that ends the process in the middle of an operation."""


class MemoryDisk:
    """A :class:`~kvbus.ports.disk.Disk` in memory.

    ``capacity_bytes``, ``fail_sync`` and ``fail_write`` make it full or failing; ``on_step`` is called after every
    change, which is where a test takes crash images. A name that was created or removed is durable once its folder was
    synced; until then a power cut may leave either state.
    """

    def __init__(self) -> None:
        self.files: dict[str, MemoryFile] = {}
        # What the directory on the platter says; a file that has another name there has both after a power cut.
        self._durable_files: dict[str, MemoryFile] = {}
        self.capacity_bytes: int | None = None
        self.stamped = ""
        self.fail_sync = False
        self.fail_write = False
        self.syncs = 0
        self.writes = 0
        self.on_step: Callable[[], None] = lambda: None

    def stamp(self) -> str:
        """Return what a test says; a crash leaves it as it is."""
        return self.stamped

    def restamp(self) -> str:
        """Leave the stamp as a test has said it."""
        return self.stamped

    def list(self, folder: str = "") -> list[str]:
        """Return the sorted names of the files in ``folder``."""
        prefix = f"{folder}/" if folder else ""
        return sorted(
            path[len(prefix) :] for path in self.files if path.startswith(prefix) and "/" not in path[len(prefix) :]
        )

    def read(self, path: str, offset: int = 0, size: int = -1) -> bytes:
        """Return ``size`` bytes of the file from ``offset`` on; -1 means all of them."""
        return bytes(self._found(path).data[offset : None if size < 0 else offset + size])

    def open(self, path: str) -> MemoryReadFile:
        """Open the file for reading."""
        return MemoryReadFile(self._found(path))

    def create(self, path: str, *, fill_step_bytes: int = 0) -> MemoryFile:
        """Create a file for appending."""
        if path in self.files:
            raise FileExistsError(path)
        self.check(self.fail_write)
        self.files[path] = file = MemoryFile(self, fill_step_bytes)
        self.on_step()
        return file

    def blank(self, path: str, target: str, *, size_bytes: int) -> None:
        """Let zeros stand in the file and call it ``target``."""
        self.check(self.fail_write)
        file = self._found(path)
        self.files.pop(BLANK_NAME, None)
        self.files[BLANK_NAME] = file
        del self.files[path]
        self.on_step()
        try:
            if any(other is file for name, other in self.files.items() if name != BLANK_NAME):
                raise FileExistsError(path)
            file.blank(size_bytes)
            if target in self.files:
                raise FileExistsError(target)
            self.files[target] = file
            self.on_step()
        finally:
            self.files.pop(BLANK_NAME, None)
        self.on_step()

    def reuse(self, path: str, *, fill_step_bytes: int) -> MemoryFile:
        """Open a blank file for appending."""
        file = self._found(path)
        file.begin(fill_step_bytes)
        return file

    def replace(self, path: str, data: bytes) -> None:
        """Put ``data`` at ``path`` in one durable step."""
        self.check(self.fail_write or self.fail_sync)
        kept = self.room_for(len(data))
        temporary = self.files[path + ".tmp"] = MemoryFile(self, 0)
        temporary.data[:] = data[:kept]
        self.on_step()
        if kept < len(data):
            raise OSError(ENOSPC, _FULL)
        temporary.synced = len(data)
        self.on_step()
        self.files[path] = self.files.pop(path + ".tmp")
        self.on_step()
        self._make_names_durable(path, path + ".tmp")

    def sync(self, path: str) -> None:
        """Make all that the file holds durable, whoever wrote it."""
        self._found(path).sync()

    def sync_folder(self, folder: str = "") -> None:
        """Make the names in ``folder`` durable."""
        self.check(self.fail_sync)
        prefix = f"{folder}/" if folder else ""
        names = [path for path in {**self.files, **self._durable_files} if path.startswith(prefix)]
        self._make_names_durable(*(path for path in names if "/" not in path[len(prefix) :]))

    def remove(self, path: str) -> None:
        """Remove the file."""
        self.check(self.fail_write)
        self._found(path)
        del self.files[path]
        self.on_step()

    def check(self, fails: bool) -> None:
        """Fail as a broken disk does, if ``fails``."""
        if fails:
            raise OSError(EIO, _FAILED)

    def room_for(self, size: int) -> int:
        """Return how many of ``size`` more bytes fit."""
        if self.capacity_bytes is None:
            return size
        used = sum(len(file.data) for file in self.files.values())
        return max(min(size, self.capacity_bytes - used), 0)

    def crash(self, rng: Random) -> MemoryDisk:
        """Return what a power cut may leave: synced bytes and names stand, of the rest anything."""
        names = {**self._durable_files, **self.files}
        kept: dict[str, MemoryFile] = {}
        for path in names:
            before, now = self._durable_files.get(path), self.files.get(path)
            file = now if before is now else rng.choice((before, now))
            if file is not None:
                kept[path] = file
        return self._clone({path: file.crash(rng) for path, file in kept.items()})

    def images(self) -> Iterator[MemoryDisk]:
        """Yield what a power cut may leave, file by file as :meth:`MemoryFile.remains`, in every mixture."""
        choices: list[list[tuple[str, bytes | None]]] = []
        for path in {**self._durable_files, **self.files}:
            before, now = self._durable_files.get(path), self.files.get(path)
            files = [now] if before is now else [before, now]
            contents = [left for file in files for left in ([None] if file is None else file.remains())]
            choices.append([(path, left) for left in contents])
        for mixture in product(*choices):
            yield self._clone({path: left for path, left in mixture if left is not None})

    def kill(self) -> MemoryDisk:
        """Return what the end of the process leaves: every write stands, but what was not synced is not yet safe."""
        image = self._clone({path: bytes(file.data) for path, file in self.files.items()})
        for path, file in self.files.items():
            image.files[path].synced = file.synced
        image.capacity_bytes = self.capacity_bytes
        image._durable_files = {
            path: image.files[path] if self.files.get(path) is file else file.copy_to(image)
            for path, file in self._durable_files.items()
        }
        return image

    def _found(self, path: str) -> MemoryFile:
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    def _make_names_durable(self, *paths: str) -> None:
        for path in paths:
            if path in self.files:
                self._durable_files[path] = self.files[path]
            else:
                self._durable_files.pop(path, None)
        self.on_step()

    def _clone(self, contents: Mapping[str, bytes]) -> MemoryDisk:
        image = MemoryDisk()
        image.stamped = self.stamped
        for path, content in contents.items():
            image.files[path] = copy = MemoryFile(image, 0)
            copy.data[:] = content
            copy.synced = len(content)
        image._durable_files = dict(image.files)
        return image
