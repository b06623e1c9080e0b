"""Making what jobs have written count, and telling failures that may pass from those that end the engine."""

from __future__ import annotations

import logging
from collections.abc import Callable

from kvbus.errors import CorruptionError, ReadOnly, WorkerDied
from kvbus_storage.log.journal import Journal
from kvbus_storage.lsm.catalog import Catalog
from kvbus_storage.lsm.manifest_format import Edit
from kvbus_storage.lsm.pace import Pace
from kvbus_storage.lsm.picking import fitting_guards
from kvbus_storage.options import EngineOptions
from kvbus_storage.room import is_lack_of_room

logger = logging.getLogger(__name__)


class Installer:
    """Changes which tables count. ``failures`` counts jobs and edits that failed.

    ``is_busy`` is true while the worker writes tables: those are no leftovers.
    """

    def __init__(self, options: EngineOptions, journal: Journal, catalog: Catalog, pace: Pace) -> None:
        self._options = options
        self._journal = journal
        self._catalog = catalog
        self._pace = pace
        self.is_busy = False
        self.failures = 0
        self._has_leftovers = False

    def is_ready(self) -> bool:
        """Do what a lack of room was in the way of before, and say whether the next job may begin.

        No table is written without a manifest: a start would take tables that none names for damage.
        """
        if self._has_leftovers:
            self.remove_leftovers()
        return not self._has_leftovers and self.guarded(self._catalog.ensure_manifest) is None

    def install(self, edit: Edit) -> None:
        """Make an edit so, and the guards fit the tables that there are now, if there is room for that.

        Raises:
            CorruptionError: a table that it adds cannot be read.
            OSError: the disk is full or failing.
        """
        self._catalog.install(edit)
        guards = fitting_guards(self._catalog.levels, self._options)
        if guards != list(self._catalog.levels.guards):
            try:
                self._catalog.install(Edit(guards=guards))
            except OSError as error:
                if not is_lack_of_room(error):
                    raise
                self._pace.found_no_room()

    def guarded(self, act: Callable[[], None]) -> Exception | None:
        """Act; return what was in the way, where a later try may succeed.

        Raises:
            OSError: the disk is failing; the engine takes no more.
        """
        try:
            act()
        except CorruptionError as error:
            # What the worker has just written does not read: the disk may do better next time.
            self.failed("install", error)
            return error
        except ReadOnly as error:
            logger.warning("what was written is not installed, and will be tried again: %s", error)
            self._pace.found_no_room()
            self.remove_leftovers()
            return error
        except OSError as error:
            if not is_lack_of_room(error):
                self._journal.stop(error)
                raise
            self.failed("install", error)
            return error
        return None

    def failed(self, what: str, error: Exception) -> None:
        """Take note of a failure that may pass.

        Raises:
            Exception: ``error``, which will not pass.
        """
        self.failures += 1
        if isinstance(error, OSError) and not isinstance(error, (FileExistsError, FileNotFoundError)):
            if not is_lack_of_room(error):
                self._journal.stop(error)
                raise error
            # Writes go on as long as the log itself has room.
            self._pace.found_no_room()
        elif not isinstance(error, (WorkerDied, CorruptionError, FileExistsError, FileNotFoundError)):
            raise error
        logger.warning("%s failed and will be tried again: %s", what, error)
        self.remove_leftovers()

    def remove_leftovers(self) -> None:
        """Remove what a job that failed has written, now or before the next job; its numbers are not used again.

        Raises:
            OSError: the disk is failing; the engine takes no more.
        """
        self._has_leftovers = True
        if self.is_busy:
            return
        try:
            self._catalog.next_number = max(self._catalog.next_number, self._catalog.remove_leftovers() + 1)
        except OSError as error:
            if not is_lack_of_room(error):
                self._journal.stop(error)
                raise
            self._pace.found_no_room()
            return
        self._has_leftovers = False
