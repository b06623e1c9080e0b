"""Merging and picking: the newest state wins, a compaction is bounded, levels never overlap, removals go last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvbus.sim.disk import MemoryDisk
from kvbus_storage import EngineOptions
from kvbus_storage.lsm.compaction import CompactionTask, Input, compact
from kvbus_storage.lsm.drops import Drop, hidden_by
from kvbus_storage.lsm.levels import Levels, Probes
from kvbus_storage.lsm.merge import Chunk, merge
from kvbus_storage.lsm.picking import Compaction, Picker, fitting_guards
from kvbus_storage.removed import REMOVED
from kvbus_storage.table.cache import BlockCache
from kvbus_storage.table.output import OutputPlan, write_tables
from kvbus_storage.table.table import Table, open_table

OPTIONS = EngineOptions(level0_runs=2, level1_bytes=4096, level_ratio=2, guard_bytes=2048, table_bytes=1024)
LOWEST, HIGHEST = b"", b"\xff" * 8

Entries = dict[bytes, bytes]

small_runs = st.lists(
    st.dictionaries(st.text("ab", max_size=3).map(str.encode), st.sampled_from((b"1", b"2", REMOVED))), max_size=5
)


@given(small_runs, st.integers(1, 4))
def test_merge_keeps_the_newest_state_of_each_key_in_order(runs: list[Entries], size: int) -> None:
    expected: Entries = {}
    for run in reversed(runs):
        expected.update(run)
    parts = [[*run_chunks(run, size)] for run in runs]
    merged = [pair for keys, records in merge(parts) for pair in zip(keys, records, strict=True)]
    assert merged == sorted(expected.items())
    assert [record is REMOVED for _, record in merged] == [expected[key] is REMOVED for key, _ in merged]


@given(small_runs)
def test_merge_takes_empty_chunks_and_gives_none(runs: list[Entries]) -> None:
    parts = [[([], []), *run_chunks(run, 2), ([], [])] for run in runs]
    assert all(keys for keys, _ in merge(parts))


def test_merge_reads_no_further_than_it_must() -> None:
    read: list[int] = []

    def run() -> Iterator[Chunk]:
        for number in range(100):
            read.append(number)
            yield [b"%03d" % number], [b""]

    merged = merge([run(), run()])
    next(merged)
    assert len(read) == 2


def run_chunks(entries: Entries, size: int) -> Iterator[Chunk]:
    keys = sorted(entries)
    for begin in range(0, len(keys), size):
        part = keys[begin : begin + size]
        yield part, [entries[key] for key in part]


class Tables:
    """Levels of real tables in memory, changed as an engine changes them."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.levels = Levels()
        self._cache = BlockCache(1 << 20)
        self._next = 1

    def write(self, entries: Entries) -> list[Table]:
        metas = write_tables(self.disk, run_chunks(entries, 10), self._plan(0))
        self._next += len(metas) + 1
        return [open_table(self.disk, meta, self._cache) for meta in metas]

    def add(self, level: int, entries: Entries) -> None:
        run = self._next if level == 0 else 0
        self.levels = self.levels.changed([(level, run, table) for table in self.write(entries)], ())

    def compact(self, picked: Compaction) -> None:
        if picked.moves:
            self.levels = self.levels.changed([(picked.to, 0, picked.tables[0])], ())
        else:
            runs = [[Input(number=table.number, hidden=table.hidden) for table in run] for run in picked.runs]
            metas = compact(
                CompactionTask(
                    disk=self.disk, runs=runs, drops_removals=picked.drops_removals, output=self._plan(picked.to)
                )
            )
            self._next += len(metas) + 1
            added = [(picked.to, 0, open_table(self.disk, meta, self._cache)) for meta in metas]
            self.levels = self.levels.changed(added, [table.number for table in picked.tables])
        self.levels = self.levels.changed((), (), fitting_guards(self.levels, OPTIONS))

    def state(self) -> Entries:
        chunks = merge(self.levels.scan(LOWEST, HIGHEST))
        pairs = [pair for keys, records in chunks for pair in zip(keys, records, strict=True)]
        return {key: record for key, record in pairs if record is not REMOVED}

    def find(self, key: bytes) -> bytes | None:
        found = self.levels.find(key, Probes())
        return None if found is REMOVED else found

    def _plan(self, level: int) -> OutputPlan:
        return OutputPlan(
            first_number=self._next,
            lsn=1,
            guards=self.levels.guards if level < 2 else (),
            table_bytes=OPTIONS.table_bytes,
            block_bytes=64,
            compression="none",
        )


def check_levels(levels: Levels) -> None:
    for run in levels.runs:
        assert all(one.last_key < other.first_key for one, other in pairwise(run.tables)), "a run's tables overlap"
    for level in range(1, 7):
        assert len(levels.level(level)) <= 1


@pytest.mark.parametrize("seed", range(3))
def test_compactions_of_random_work_keep_every_state_and_end(seed: int) -> None:
    random, tables, picker, expected = Random(seed), Tables(), Picker(OPTIONS), Entries()
    for step in range(40):
        entries = {
            b"%04d" % random.randrange(2000): random.choice((REMOVED, random.randbytes(30), random.randbytes(30)))
            for _ in range(random.randint(1, 60))
        }
        tables.add(0, entries)
        expected |= entries
        while (picked := picker.pick(tables.levels)) is not None:
            tables.compact(picked)
            check_levels(tables.levels)
        shown = {key: record for key, record in expected.items() if record is not REMOVED}
        if step % 8 == 7:
            assert tables.state() == shown
    for key in expected:
        assert tables.find(key) == shown.get(key)
    assert max(run.level for run in tables.levels.runs) >= 3
    while (picked := picker.pick(tables.levels, all_of_it=True)) is not None:
        tables.compact(picked)
    assert tables.state() == shown
    assert len(tables.levels.runs) == 1
    assert sum(table.meta.entries for table in tables.levels.tables()) == len(shown), "no removal is left"


def test_one_compaction_from_level_0_takes_what_lies_between_two_guards() -> None:
    tables, picker = Tables(), Picker(OPTIONS)
    for number in range(20):
        tables.add(0, {b"%04d" % key: b"%04d" % number * 10 for key in range(number % 3, 1000, 10)})
        largest = 0
        while (picked := picker.pick(tables.levels)) is not None:
            largest = max(largest, sum(table.meta.size_bytes for table in picked.tables))
            tables.compact(picked)
    everything = sum(table.meta.size_bytes for table in tables.levels.tables())
    assert len(tables.levels.guards) > 3
    assert everything > 12_000
    assert largest < everything / 2
    assert largest < 4 * (OPTIONS.guard_bytes + 2 * OPTIONS.table_bytes)


def test_level_0_is_compacted_only_where_it_is_deep() -> None:
    tables, picker = Tables(), Picker(OPTIONS)
    tables.add(0, {b"a": b"1"})
    assert picker.pick(tables.levels) is None
    tables.add(0, {b"a": b"2"})
    picked = picker.pick(tables.levels)
    assert picked is not None
    assert [len(run) for run in picked.runs] == [1, 1]
    tables.compact(picked)
    assert tables.find(b"a") == b"2"


def test_of_many_runs_over_each_other_the_oldest_go_down_first() -> None:
    tables, picker = Tables(), Picker(OPTIONS)
    for number in range(20):
        tables.add(0, {b"a": b"%d" % number, b"%02d" % number: b""})
    taken: list[int] = []
    while (picked := picker.pick(tables.levels)) is not None:
        taken.append(
            sum(
                table.number in {each.number for run in tables.levels.level(0) for each in run.tables}
                for table in picked.tables
            )
        )
        tables.compact(picked)
        assert tables.find(b"a") == b"19"
    assert taken == [8, 8, 4]
    assert tables.state() == {b"a": b"19", **{b"%02d" % number: b"" for number in range(20)}}


def test_removal_is_kept_over_an_older_state_and_dropped_over_nothing() -> None:
    tables, picker = Tables(), Picker(OPTIONS)
    tables.add(2, {b"a": b"old", b"c": b"old"})
    tables.add(0, {b"a": REMOVED, b"b": b"1"})
    tables.add(0, {b"b": REMOVED})
    picked = picker.pick(tables.levels)
    assert picked is not None
    assert not picked.drops_removals
    tables.compact(picked)
    assert tables.state() == {b"c": b"old"}
    while (picked := picker.pick(tables.levels, all_of_it=True)) is not None:
        assert not picked.moves, "a table with removals is rewritten on its way down"
        tables.compact(picked)
    assert tables.state() == {b"c": b"old"}
    assert sum(table.meta.entries for table in tables.levels.tables()) == 1


def test_removals_beside_other_keys_of_deeper_levels_are_dropped() -> None:
    tables, picker = Tables(), Picker(OPTIONS)
    tables.add(3, {b"x": b"old"})
    tables.add(0, {b"a": REMOVED, b"b": b"1"})
    tables.add(0, {b"a": REMOVED})
    picked = picker.pick(tables.levels)
    assert picked is not None
    assert picked.drops_removals


def test_table_alone_moves_down_without_being_read() -> None:
    tables, picker = Tables(), Picker(OPTIONS)
    tables.add(0, {b"a": b"1"})
    before = tables.disk.list()
    picked = picker.pick(tables.levels, all_of_it=True)
    assert picked is not None
    assert (picked.moves, picked.to) == (True, 1)
    tables.compact(picked)
    assert (tables.disk.list(), [run.level for run in tables.levels.runs]) == (before, [1])
    assert picker.pick(tables.levels, all_of_it=True) is None


def test_every_table_of_a_level_that_is_too_large_has_its_turn() -> None:
    tables, picker = Tables(), Picker(OPTIONS)
    tables.add(1, {b"%04d" % key: bytes(30) for key in range(400)})
    first_keys = [table.first_key for table in tables.levels.level(1)[0].tables]
    taken: list[bytes] = []
    for _ in first_keys:
        picked = picker.pick(tables.levels)
        assert picked is not None
        taken += [table.first_key for table in picked.runs[0]]
    assert sorted(taken) == first_keys


def test_hidden_range_is_left_out_of_what_a_compaction_writes() -> None:
    tables, picker = Tables(), Picker(OPTIONS)
    tables.add(0, {b"%d" % key: b"old" for key in range(10)})
    numbers = [table.number for table in tables.levels.tables()]
    ranges = ((b"2", b"5"), (b"4", b"7"))
    tables.levels = tables.levels.without([(number, start, end) for number in numbers for start, end in ranges])
    tables.add(0, {b"3": b"new"})
    picked = picker.pick(tables.levels)
    assert picked is not None
    tables.compact(picked)
    assert sorted(tables.state()) == [b"0", b"1", b"3", b"7", b"8", b"9"]
    assert sum(table.meta.entries for table in tables.levels.tables()) == 6


def test_guards_part_level_1_into_pieces_of_about_their_size() -> None:
    tables = Tables()
    tables.add(1, {b"%04d" % key: bytes(30) for key in range(1000)})
    options = replace(OPTIONS, guard_bytes=5000, level1_bytes=50_000)
    guards = fitting_guards(tables.levels, options)
    tables.levels = tables.levels.changed((), (), guards)
    assert fitting_guards(tables.levels, options) == guards
    size = sum(table.meta.size_bytes for table in tables.levels.tables())
    assert size / 8000 < len(guards) + 1 < size / 4000


def test_guards_of_keys_that_are_loaded_no_more_go() -> None:
    tables, picker = Tables(), Picker(OPTIONS)
    for number in range(60):
        tables.add(0, {b"%06d" % key: bytes(30) for key in range(number * 100, number * 100 + 100)})
        while (picked := picker.pick(tables.levels)) is not None:
            tables.compact(picked)
    assert len(tables.levels.guards) <= 4 * OPTIONS.level1_bytes // OPTIONS.guard_bytes


def test_dropped_keys_in_ranges_apart_from_a_table_are_not_noted() -> None:
    tables = Tables()
    tables.add(1, {b"c": b"1", b"d": b"2"})
    (meta,) = [table.meta for table in tables.levels.tables()]
    drops = [Drop(meta.lsn + 1, start, end) for start, end in ((b"a", b"c"), (b"d", b"e"), (b"d0", b"e"))]
    assert hidden_by(drops, [meta]) == [(meta.number, b"d", b"e")]
