"""Ranges of keys that were dropped at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvbus_storage.table.writer import TableMeta


@dataclass(frozen=True, slots=True)
class Drop:
    """A range of keys that was dropped by the record with ``lsn``: it hides what older tables hold."""

    lsn: int
    start: bytes
    end: bytes


def hidden_by(drops: Sequence[Drop], metas: Sequence[TableMeta]) -> list[tuple[int, bytes, bytes]]:
    """Return what ``drops`` hide in older tables: ``(table number, start, end)``."""
    return [
        (meta.number, drop.start, drop.end)
        for drop in drops
        for meta in metas
        if drop.lsn > meta.lsn and drop.start <= meta.last_key and meta.first_key < drop.end
    ]
