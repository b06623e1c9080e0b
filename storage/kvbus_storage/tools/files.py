"""The engine's tools as kvbus finds them."""

from __future__ import annotations

from collections.abc import Iterator

from kvbus.ports.disk import Folder, ReadFile
from kvbus.ports.engine_tools import FileReport, Inspection
from kvbus_storage.tools.inspection import inspect
from kvbus_storage.tools.verification import verify


class FileTools:
    """The :class:`~kvbus.ports.engine_tools.EngineTools` of both engines, which share their files."""

    def inspect(self, file: ReadFile, name: str, *, limit: int, keys: bool) -> Inspection:
        """Tell what the file ``name`` holds (see the port)."""
        return inspect(file, name, limit=limit, keys=keys)

    def verify(self, folder: Folder) -> Iterator[FileReport]:
        """Read and check everything in ``folder`` (see the port)."""
        return verify(folder)
