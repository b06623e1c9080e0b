"""The tables that count, and the manifest that says so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from errno import EIO
from weakref import finalize

from kvbus.errors import CorruptionError
from kvbus.ports.disk import Disk
from kvbus_storage.format_error import FormatError
from kvbus_storage.lsm.levels import Levels
from kvbus_storage.lsm.manifest import Manifest, apply_all, make_only, read_manifest, write_manifest
from kvbus_storage.lsm.manifest_format import AddedTable, Edit, manifest_name
from kvbus_storage.room import is_lack_of_room
from kvbus_storage.table.cache import BlockCache
from kvbus_storage.table.format import table_name, table_number
from kvbus_storage.table.table import DamagedTable, open_table, open_table_or_damage

logger = logging.getLogger(__name__)

_MANIFEST_BYTES = 1 << 20
"""Bytes at which a new manifest is begun."""


class Catalog:
    """All tables, opened; made by :func:`open_catalog`.

    ``base`` is the log's first segment that counts, ``flushed_lsn`` the newest LSN in the tables, ``applied`` the
    index up to which each Raft group's entries are in them.
    """

    def __init__(self, disk: Disk, cache: BlockCache, manifest: int, whole: Edit) -> None:
        self._disk = disk
        self._cache = cache
        self._number = manifest
        self._manifest: Manifest | None = None
        assert whole.base is not None
        assert whole.flushed_lsn is not None
        self.base = whole.base
        self.flushed_lsn = whole.flushed_lsn
        self.applied = dict(whole.applied)
        # Names of files that count no more and that nobody reads; a start removes what is left of them.
        self.trash: list[str] = []
        # The numbers of tables that count no more and are read from all the same.
        self._read_still: dict[int, None] = {}
        tables = [(each.level, each.run, open_table_or_damage(disk, each.meta, cache)) for each in whole.added]
        self.levels = Levels().changed(tables, (), whole.guards)
        self.hide(whole.hidden)
        numbers = [table.number for _, _, table in tables] + [run.number for run in self.levels.runs]
        self.next_number = max(numbers, default=0) + 1

    def begin(self) -> None:
        """Start a manifest of this process's own and remove tables that no edit names.

        Raises:
            OSError: the disk is failing.
        """
        try:
            self._roll()
        except OSError as error:
            if not is_lack_of_room(error):
                raise
            logger.warning("the disk is too full for a new manifest; the old one still counts")
        self.next_number = max(self.next_number, self.remove_leftovers() + 1)

    def ensure_manifest(self) -> None:
        """Start the manifest, if a full disk refused it before.

        Raises:
            OSError: the disk is full or failing.
        """
        if self._manifest is None:
            self._roll()

    def install(self, edit: Edit) -> None:
        """Make ``edit`` so: open what it adds, write it to the manifest, then what it makes superfluous is trash.

        Raises:
            CorruptionError: a table that it adds cannot be read; nothing changed.
            OSError: the disk is full or failing; nothing changed.
        """
        tables = {table.number: table for table in self.levels.tables()}
        added = [
            (each.level, each.run, tables.get(each.meta.number) or open_table(self._disk, each.meta, self._cache))
            for each in edit.added
        ]
        self._write(edit)
        self.levels = self.levels.changed(added, edit.removed, edit.guards)
        self.hide(edit.hidden)
        self.applied |= edit.applied
        if edit.base is not None and edit.flushed_lsn is not None:
            self.base, self.flushed_lsn = edit.base, edit.flushed_lsn
        for number in edit.removed:
            # Whoever reads from it may have to open its file again.
            self._read_still[number] = None
            finalize(tables[number].file, self._is_read_no_more, number).atexit = False

    def hide(self, hidden: Iterable[tuple[int, bytes, bytes]]) -> None:
        """Drop ranges from tables in memory, ``(table number, start, end)``: the log or a later edit says it."""
        self.levels = self.levels.without(hidden)

    def take_number(self) -> int:
        """Return a number that no table and no run has had."""
        self.next_number += 1
        return self.next_number - 1

    @property
    def damaged(self) -> list[int]:
        """The numbers of tables that could not be opened."""
        return [table.number for table in self.levels.tables() if isinstance(table, DamagedTable)]

    def remove_leftovers(self) -> int:
        """Remove the files of tables that do not count, while no job writes any; return the highest number among them.

        0 stands for none. While a table is damaged nothing goes: a person may make use of it.
        """
        known = {table.number for table in self.levels.tables()}.union(self._read_still)
        numbers = [number for name in self._disk.list() if (number := table_number(name)) is not None]
        leftovers = [number for number in numbers if number not in known]
        if not self.damaged:
            for number in leftovers:
                logger.info("%s is a leftover; removed", table_name(number))
            remove_files(self._disk, [table_name(number) for number in leftovers])
        return max(leftovers, default=0)

    def close(self) -> None:
        """Release all files."""
        for table in self.levels.tables():
            table.close()
        if self._manifest is not None:
            self._manifest.close()
            self._manifest = None

    def _is_read_no_more(self, number: int) -> None:
        del self._read_still[number]
        self.trash.append(table_name(number))

    def _write(self, edit: Edit) -> None:
        if self._manifest is None or self._manifest.size_bytes >= _MANIFEST_BYTES:
            self._roll()
        manifest = self._manifest
        assert manifest is not None
        size_bytes = manifest.size_bytes
        try:
            manifest.append(edit)
        except OSError as error:
            if is_lack_of_room(error):
                self._cut_back(manifest, size_bytes)
            raise

    def _cut_back(self, manifest: Manifest, size_bytes: int) -> None:
        try:
            manifest.cut_back(size_bytes)
        except OSError as error:
            # No full disk is in the way of that. The edit may be there or not, and nobody may go on with either.
            raise OSError(EIO, f"the end of the manifest is unknown: {error}") from error

    def _roll(self) -> None:
        manifest = write_manifest(self._disk, self._number + 1, self._everything())
        # From here on it is whole, and not to be written anew: it may be the only one.
        self._number += 1
        try:
            make_only(self._disk, self._number)
        except BaseException:
            manifest.close()
            raise
        if self._manifest is not None:
            self._manifest.close()
        self._manifest = manifest

    def _everything(self) -> Edit:
        return Edit(
            added=[AddedTable(run.level, run.number, table.meta) for run in self.levels.runs for table in run.tables],
            hidden=[(table.number, start, end) for table in self.levels.tables() for start, end in table.hidden],
            guards=list(self.levels.guards) or None,
            base=self.base,
            flushed_lsn=self.flushed_lsn,
            applied=self.applied,
        )


def remove_files(disk: Disk, names: Iterable[str]) -> None:
    """Remove files, where they are still there."""
    for name in names:
        with suppress(FileNotFoundError):
            disk.remove(name)


def open_catalog(disk: Disk, cache: BlockCache, first_base: Callable[[], int]) -> Catalog:
    """Read the manifest and open the tables that it names; ``first_base`` is asked where there is none.

    Raises:
        CorruptionError: the manifest or a table is damaged or missing.
        ConfigError: a newer kvbus wrote one of them.
    """
    number, edits = read_manifest(disk)
    try:
        whole = apply_all(edits)
    except FormatError as error:
        raise CorruptionError(f"the manifest {error}", manifest_name(number), 0) from error
    if not edits:
        whole.base = first_base()
    return Catalog(disk, cache, number, whole)
