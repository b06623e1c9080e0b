"""Reports on single files of a verification, and what stands between a file and its report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from kvbus.ports.disk import Folder, ReadFile
from kvbus.ports.engine_tools import Damage, FileReport
from kvbus_storage.format_error import VersionError


class Findings(NamedTuple):
    """What reading a file has shown; see :class:`~kvbus.ports.engine_tools.FileReport`."""

    holds: str
    damage: Sequence[Damage] = ()
    notes: Sequence[str] = ()


def checked(folder: Folder, name: str, kind: str, check: Callable[[ReadFile], Findings]) -> FileReport:
    """Open the file, have it checked and report; what cannot be read is damaged."""
    size_bytes = 0
    try:
        file = folder.open(name)
        size_bytes = file.size
        try:
            found = check(file)
        finally:
            file.close()
    except VersionError as error:
        found = Findings("", [Damage(None, f"the file {error}: a newer kvbus wrote it; check it with that version")])
    except OSError as error:
        found = Findings("", [Damage(None, f"the file cannot be read: {error.strerror or error}")])
    return FileReport(
        name=name,
        kind=kind,
        state="damaged" if found.damage else "ok",
        size_bytes=size_bytes,
        holds=found.holds,
        damage=found.damage,
        notes=found.notes,
    )


def missing(name: str, kind: str, why: str) -> FileReport:
    """Report that a file is not there although it must be."""
    damage = [Damage(None, f"the file is missing: {why}")]
    return FileReport(name=name, kind=kind, state="damaged", size_bytes=0, holds="", damage=damage)


def leftover(folder: Folder, name: str, kind: str, why: str) -> FileReport:
    """Report that a file counts no more."""
    return FileReport(name=name, kind=kind, state="leftover", size_bytes=size_of(folder, name), holds=why)


def size_of(folder: Folder, name: str) -> int:
    """Return the bytes in a file."""
    file = folder.open(name)
    try:
        return file.size
    finally:
        file.close()


def in_order(damage: Sequence[Damage]) -> list[Damage]:
    """Return damage in the order of the file's bytes."""
    return sorted(damage, key=lambda each: each.offset or 0)


def counted(count: int, one: str, many: str = "") -> str:
    """Return a count and its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
