"""Bugs planted in the log-structured engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kvbus.sim.disk import MemoryDisk
from kvbus_storage.lsm import compaction, flush
from kvbus_storage.lsm.catalog import Catalog
from kvbus_storage.lsm.generations import Generations
from kvbus_storage.lsm.maintenance import Maintenance
from kvbus_storage.lsm.manifest import Manifest
from kvbus_storage.lsm.manifest_format import Edit
from kvbus_storage.lsm.recent import RecentRecords
from kvbus_storage.removed import REMOVED
from kvbus_storage.table.bloom import Filter
from kvbus_storage.table.writer import TableMeta, TableWriter
from tests.mutants.planting import Mutant, replace_function, replace_method


def manifest_edit_dropped() -> None:
    """The manifest does not get every third edit."""
    original = Manifest.append
    edits = 0

    def append(self: Manifest, edit: Edit) -> None:
        nonlocal edits
        edits += 1
        if edits % 3:
            original(self, edit)

    replace_method(Manifest, "append", append)


def bloom_on_half_the_keys() -> None:
    """A table's filter knows every other key."""
    original = Filter.of_hashes

    def of_hashes(hashes: Sequence[int]) -> Filter:
        return original(hashes[::2])

    replace_method(Filter, "of_hashes", staticmethod(of_hashes))


def older_record_wins() -> None:
    """Of equal keys a compaction keeps what the oldest run holds."""
    original = compaction.compact

    def compact(task: compaction.CompactionTask) -> list[TableMeta]:
        return original(replace(task, runs=task.runs[::-1]))

    replace_function(original, compact)


def names_not_durable() -> None:
    """Nobody syncs the directory."""
    replace_method(MemoryDisk, "sync_folder", lambda self, folder="": None)


def table_not_synced() -> None:
    """A table counts before its bytes are safe."""
    original = TableWriter.finish

    def finish(self: TableWriter, lsn: int) -> TableMeta:
        self._file = _NeverSynced(self._file)
        return original(self, lsn)

    replace_method(TableWriter, "finish", finish)


class _NeverSynced:
    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def sync(self) -> None:
        """Do nothing."""


def segments_removed_before_the_edit() -> None:
    """A flush removes its log segments before the manifest says that the tables count."""
    original = Catalog.install

    def install(self: Catalog, edit: Edit) -> None:
        for segment in range(self.base, edit.base or 0):
            name = f"log-{segment:08d}"
            if name in self._disk.list():
                self._disk.remove(name)
                self._disk.sync_folder()
        original(self, edit)

    replace_method(Catalog, "install", install)


def frozen_memtable_not_read() -> None:
    """What waits for its flush is not looked at."""
    replace_method(Generations, "find", lambda self, keys: self.active.multi_get(keys))


def written_key_stays_at_hand() -> None:
    """A record that was read from a table stands at hand although its key is written again."""
    replace_method(RecentRecords, "forget", lambda self, keys: None)


def flushed_record_comes_back() -> None:
    """A record that goes over from a flushed memtable to those at hand may have been replaced meanwhile."""

    def hand_on(self: Generations, most: int) -> dict[bytes, bytes]:
        taken = {} if self.flushed is None else self.flushed.take_out(most)
        if not self.flushed:
            self.flushed = None
        return {key: record for key, record in taken.items() if record is not REMOVED}

    replace_method(Generations, "hand_on", hand_on)


def flush_skips_a_segment() -> None:
    """A flush reads the last of its segments only."""
    original = flush.flush

    def last_only(task: flush.FlushTask) -> list[TableMeta]:
        return original(replace(task, segments=task.segments[-1:]))

    replace_function(original, last_only)


def segment_too_many() -> None:
    """With the flushed segments the open one goes."""
    original = Catalog.install

    def install(self: Catalog, edit: Edit) -> None:
        original(self, edit)
        if edit.base is not None:
            self.trash.append(f"log-{edit.base:08d}")

    replace_method(Catalog, "install", install)


def input_kept() -> None:
    """A compaction's last input, which is in the level of its output or the oldest run, stays in use."""
    original = Maintenance._install

    def install(self: Maintenance, edit: Edit) -> None:
        if edit.base is None:
            edit.removed = edit.removed[:-1]
        original(self, edit)

    replace_method(Maintenance, "_install", install)


MUTANTS = [
    Mutant("manifest-edit-dropped", "the manifest misses every third edit", manifest_edit_dropped),
    Mutant("bloom-on-half", "a filter knows every other key", bloom_on_half_the_keys),
    Mutant("older-record-wins", "a compaction keeps the older of two records", older_record_wins),
    Mutant("names-not-durable", "nobody syncs the directory", names_not_durable),
    Mutant("table-not-synced", "a table counts before its bytes are safe", table_not_synced),
    Mutant("segments-removed-first", "log segments go before the edit is written", segments_removed_before_the_edit),
    Mutant("frozen-not-read", "what waits for its flush is not read", frozen_memtable_not_read),
    Mutant("written-key-stays-at-hand", "a key that is written stays among those at hand", written_key_stays_at_hand),
    Mutant("flushed-record-comes-back", "a flushed record comes back after a newer one", flushed_record_comes_back),
    Mutant("flush-skips-segment", "a flush reads the last segment only", flush_skips_a_segment),
    Mutant("segment-too-many", "a flush removes one log segment too many", segment_too_many),
    Mutant("input-kept", "a compaction's last input stays in use", input_kept),
]
