"""Sweep: files that count no more go, or become the log's next segment, in a worker."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from kvbus.ports.disk import Disk
from kvbus_storage.log.format import segment_name
from kvbus_storage.lsm.catalog import remove_files
from kvbus_storage.table.writer import TableMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepTask:
    """``names`` are files that no manifest and no reader that comes counts.

    Where ``spare`` is a number, the last one becomes a blank file for the segment of that number, if there is none.
    """

    disk: Disk
    names: Sequence[str]
    spare: int | None


def sweep(task: SweepTask) -> list[TableMeta]:
    """Remove the files; there are no new tables.

    Raises:
        OSError: the disk is failing.
    """
    if task.spare is not None:
        with suppress(FileExistsError, FileNotFoundError):
            task.disk.blank(task.names[-1], segment_name(task.spare))
            task.disk.sync_folder()
    for name in task.names:
        # What the file system does to give up the blocks of many files at once, a sync of the log would wait for.
        remove_files(task.disk, [name])
        task.disk.sync_folder()
    return []
