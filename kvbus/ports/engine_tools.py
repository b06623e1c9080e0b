"""What looks at an engine's files while no node has them open, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from kvbus.ports.disk import Folder, ReadFile

Cell = str | int


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong, and at which byte of the file, None where it is about the file as a whole."""

    offset: int | None
    what: str


@dataclass(slots=True, kw_only=True)
class Listing:
    """Rows of one kind out of a file. Cells of the columns ``keys`` may be cut, those of ``prose`` wrapped.

    ``of`` names what they are, in the plural. Only the first ``limit`` rows are kept; ``total`` counts all.
    """

    of: str
    columns: tuple[str, ...]
    limit: int
    keys: tuple[str, ...] = ()
    prose: tuple[str, ...] = ()
    rows: list[tuple[Cell, ...]] = field(default_factory=list[tuple[Cell, ...]])
    total: int = 0

    def add(self, *row: Cell) -> None:
        """Add a row, in the order of the columns."""
        self.total += 1
        if self.total <= self.limit:
            self.rows.append(row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What one file holds: ``fields`` by name, ``listings``, and what is wrong with it."""

    kind: str
    version: int
    size_bytes: int
    fields: Mapping[str, Cell]
    listings: Sequence[Listing]
    damage: Sequence[Damage]


State = Literal["ok", "damaged", "leftover", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """What a verification says of one file.

    ``leftover``: it counts no more, and the engine's next start removes it. ``other``: it is not the engine's and was
    not read. ``holds`` is for people; ``notes`` are what a start would log and get over.
    """

    name: str
    kind: str
    state: State
    size_bytes: int
    holds: str
    damage: Sequence[Damage] = ()
    notes: Sequence[str] = ()


class EngineTools(Protocol):
    """What an engine's package exports under the name ``TOOLS``."""

    def inspect(self, file: ReadFile, name: str, *, limit: int, keys: bool) -> Inspection:
        """Tell what the file ``name`` holds, at most ``limit`` rows a listing; with ``keys`` every key is one.

        Raises:
            ConfigError: it is no file of the engine, or a newer version wrote it.
        """
        ...

    def verify(self, folder: Folder) -> Iterator[FileReport]:
        """Read and check everything that the engine keeps in ``folder``, a file at a time.

        Raises:
            ConfigError: a newer version wrote it.
        """
        ...
