"""Sweep: files that count no more go, in a worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvbus.ports.disk import Disk
from kvbus_storage.lsm.catalog import remove_files
from kvbus_storage.table.writer import TableMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepTask:
    """``names`` are files that no manifest and no reader that comes counts."""

    disk: Disk
    names: Sequence[str]


def sweep(task: SweepTask) -> list[TableMeta]:
    """Remove the files; there are no new tables.

    Raises:
        OSError: the disk is failing.
    """
    remove_files(task.disk, task.names)
    return []
