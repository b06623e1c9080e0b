"""Sweep: files that count no more go, or become the log's next segment, in a worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from errno import EIO

from kvbus.ports.disk import Disk
from kvbus_storage.log.commit_log import FILL_STEP_BYTES
from kvbus_storage.log.format import segment_name, segment_number
from kvbus_storage.log.journal import Journal
from kvbus_storage.lsm.catalog import Catalog, remove_files
from kvbus_storage.room import is_lack_of_room

# Beyond, the log fills ahead itself: a spare takes disk space, and a flush waits while zeros are written to it.
_MOST_SPARE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepTask:
    """``names`` are files that no manifest and no reader that comes counts.

    Where ``spare`` is a number, the last one becomes a blank file for the segment of that number, if there is none, of
    at most ``spare_bytes``. What the file system does to give up the blocks of many files at once, a sync of the log
    would wait for: so they may go ``one_by_one``, which takes longer.
    """

    disk: Disk
    names: Sequence[str]
    spare: int | None
    spare_bytes: int
    one_by_one: bool


class Sweeper:
    """Says which files are to go, and hands the blank one that comes of it to the log.

    ``flushed_segment_bytes`` are those of the newest segment that was flushed, without the zeros ahead of its tail: the
    next ones may be about as large.
    """

    def __init__(self, disk: Disk, journal: Journal, catalog: Catalog) -> None:
        self._disk = disk
        self._journal = journal
        self._catalog = catalog
        self.flushed_segment_bytes = 0

    def task(self, *, one_by_one: bool) -> SweepTask:
        """Return what there is to do: there is something."""
        # Segments last: the log can use one of them again.
        trash, self._catalog.trash = self._catalog.trash, []
        names = sorted(trash, key=lambda name: segment_number(name) or 0)
        return SweepTask(
            disk=self._disk,
            names=names,
            spare=self._journal.wanted_spare if segment_number(names[-1]) is not None else None,
            spare_bytes=min(self.flushed_segment_bytes, _MOST_SPARE_BYTES) + FILL_STEP_BYTES,
            one_by_one=one_by_one,
        )

    def failed(self, task: SweepTask) -> None:
        """Let the files wait for the next sweep."""
        self._catalog.trash += task.names

    def ended(self, task: SweepTask, *, makes_spares: bool) -> None:
        """Take note of what :func:`sweep` says."""
        if not makes_spares:
            self._journal.want_no_spares()
        elif task.spare is not None:
            self._journal.take_spare(task.spare)


def sweep(task: SweepTask) -> bool:
    """Remove the files; return False where the disk makes no blank ones, which only save time.

    Raises:
        OSError: the disk is failing.
    """
    makes_spares = task.spare is None or _make_spare(task.disk, task.names[-1], task.spare, task.spare_bytes)
    for name in task.names:
        remove_files(task.disk, [name])
        if task.one_by_one:
            task.disk.sync_folder()
    return makes_spares


def _make_spare(disk: Disk, name: str, segment: int, size_bytes: int) -> bool:
    try:
        disk.blank(name, segment_name(segment), size_bytes=size_bytes)
    except (FileExistsError, FileNotFoundError):
        # The segment has begun meanwhile, or an earlier try was interrupted and may have given the name.
        pass
    except OSError as error:
        if error.errno == EIO:
            raise
        return is_lack_of_room(error)
    disk.sync_folder()
    return True
