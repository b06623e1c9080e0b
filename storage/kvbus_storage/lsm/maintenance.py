"""Flush and compaction of one engine: what the worker does next, and what becomes of its results.

One job at a time, a flush before a compaction::

    idle ──submit──▶ busy ──result──▶ install: manifest edit, then the old files go ──▶ idle
                       └────error──▶ leftovers go; the next look tries again
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from kvbus.errors import CorruptionError, ReadOnly
from kvbus.ports.disk import Disk
from kvbus.ports.worker import Argument, Result, Worker, keep_on
from kvbus_storage.log.format import segment_name
from kvbus_storage.log.journal import Journal
from kvbus_storage.lsm.catalog import Catalog, remove_files
from kvbus_storage.lsm.compaction import CompactionTask, Input, compact
from kvbus_storage.lsm.drops import Drop, hidden_by
from kvbus_storage.lsm.flush import FlushTask, flush, in_chunks
from kvbus_storage.lsm.generations import Generation, Generations
from kvbus_storage.lsm.ingestion import Ingestion, Ingestions, IngestTask, ingest
from kvbus_storage.lsm.installation import Installer
from kvbus_storage.lsm.manifest_format import AddedTable, Edit
from kvbus_storage.lsm.pace import Pace
from kvbus_storage.lsm.picking import Compaction, Picker
from kvbus_storage.lsm.sweep import Sweeper, SweepTask, sweep
from kvbus_storage.options import EngineOptions
from kvbus_storage.raft_log import SegmentRaftLog
from kvbus_storage.removed import REMOVED
from kvbus_storage.room import is_lack_of_room
from kvbus_storage.table.format import table_number
from kvbus_storage.table.output import OutputPlan, write_tables
from kvbus_storage.table.writer import LONG_SYNC_BYTES, SHORT_SYNC_BYTES, TableMeta

logger = logging.getLogger(__name__)

_MOVES_AN_EDIT = 16

Outcome = list[TableMeta] | Exception


class Maintenance:
    """Keeps level 0 shallow and memory small.

    ``pace`` says who waits for whom. ``drops`` are those whose log records are not covered by a flush yet.
    """

    def __init__(
        self,
        disk: Disk,
        options: EngineOptions,
        worker: Worker,
        journal: Journal,
        generations: Generations,
        catalog: Catalog,
        raft: SegmentRaftLog,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._disk = disk
        self._options = options
        self._worker = worker
        self._journal = journal
        self._generations = generations
        self._catalog = catalog
        self._raft = raft
        self._picker = Picker(options)
        self._clock = clock
        self._submitted_at = 0.0
        self._busy_tables: frozenset[int] = frozenset()
        # Numbers of inputs that could not be read: compaction leaves them alone.
        self._damaged = dict.fromkeys(catalog.damaged)
        self._ingests = Ingestions()
        self._sweeper = Sweeper(disk, journal, catalog)
        self.wants_all = False
        self.pace = Pace(options, clock)
        self.drops: list[Drop] = []
        self._installer = Installer(options, journal, catalog, self.pace)
        self.flushes = self.compactions = 0
        self.flushed_bytes = self.compacted_bytes = 0
        self.flush_seconds = self.compaction_seconds = 0.0

    @property
    def failures(self) -> int:
        """How many jobs and edits failed and were tried again."""
        return self._installer.failures

    @property
    def depth(self) -> int:
        """Runs over each other in level 0."""
        return self._picker.depth(self._catalog.levels)

    def weigh(self) -> None:
        """Say how long writers are to rest, by what waits, or that there is no memory for more writes."""
        waiting = self._generations.frozen
        self.pace.weigh(len(waiting), self.depth)
        # A worker may be held up for ever.
        self._journal.crowd(sum(each.memtable.memory_bytes for each in waiting) >= self._options.waiting_bytes)

    @property
    def damaged(self) -> int:
        """How many tables compaction leaves alone, because they cannot be read."""
        if not self._damaged:
            return 0
        return sum(table.number in self._damaged for table in self._catalog.levels.tables())

    def flush_next(self) -> bool:
        """Let the worker flush the oldest generation that waits, if it is idle; say whether it does now."""
        waiting = self._generations.frozen
        if not waiting or not self._is_free():
            return False
        generation = waiting[-1]
        if generation.segments[-1][0] == self._journal.segment and not self._journal.ensure_segment():
            # There is no room for the segment behind it, which must be there before this one goes.
            return False
        task = FlushTask(disk=self._disk, segments=generation.segments, output=self._output(generation.lsn, level=0))
        self._submit(flush, task, partial(self._flush_ended, generation))
        return True

    def tidy_next(self) -> bool:
        """Let the worker do what there is but flushes, if it is idle; say whether it does now."""
        return self._sweep_next() or self._ingest_next() or self._compact_next()

    def _compact_next(self) -> bool:
        if self._generations.frozen or not self._is_free() or not self.pace.may_compact(self.depth):
            return False
        picked = self._pick()
        if picked is None:
            return False
        # The inputs' hidden keys are left out: drops that stay in the log hide nothing in what comes of them.
        lsns = [drop.lsn for drop in self.drops if drop.lsn <= self._journal.synced_lsn]
        lsns += [table.meta.lsn for table in picked.tables]
        inputs = [[Input(number=table.number, hidden=table.hidden) for table in run] for run in picked.runs]
        task = CompactionTask(
            disk=self._disk,
            runs=inputs,
            drops_removals=picked.drops_removals,
            output=self._output(max(lsns), level=picked.to),
        )
        self._busy_tables = frozenset(table.number for table in picked.tables)
        read_bytes = sum(table.meta.size_bytes for table in picked.tables)
        self.pace.compacts(read_bytes)
        self._submit(compact, task, partial(self._compaction_ended, task, picked.to, picked.run))
        return True

    def _pick(self) -> Compaction | None:
        """Return the next compaction that is a job; tables that only have to move do so at once, some in one edit."""
        levels, moves = self._catalog.levels, dict[int, AddedTable]()
        while picked := self._picker.pick(levels, self._damaged, all_of_it=self.wants_all):
            if not picked.moves or len(moves) == _MOVES_AN_EDIT:
                break
            (table,) = picked.tables
            moves[table.number] = AddedTable(picked.to, 0, table.meta)
            levels = levels.changed([(picked.to, 0, table)], ())
        if moves:
            if self._installer.guarded(partial(self._install, Edit(added=list(moves.values())))) is not None:
                return None
            # There may be other guards now.
            picked = self._picker.pick(self._catalog.levels, self._damaged, all_of_it=self.wants_all)
            if picked is not None and picked.moves:
                return None
        if picked is None:
            self.wants_all = False
        return picked

    def _ingest_next(self) -> bool:
        if not self._ingests or self._generations.frozen or self.must_flush_first or not self._is_free():
            return False
        ingestion = self._ingests.take()
        if ingestion is None:
            return False
        # The number of its newest batch must not be given to another one after a power cut.
        self._journal.sync()
        task = IngestTask(disk=self._disk, files=ingestion.files, output=self._output(self._journal.last_lsn, level=1))
        self._submit(ingest, task, partial(self._ingest_ended, ingestion))
        return True

    @property
    def must_flush_first(self) -> bool:
        """Whether files wait to be ingested, and what stands in memory for removed keys would hide what is in them."""
        active = self._generations.active
        return bool(self._ingests) and active.has_removals and len(active) > 0

    def ingest(self, ingestion: Ingestion) -> None:
        """Ingest files as soon as the worker can."""
        self._ingests.add(ingestion)
        self._go_on()

    def catch_up(self) -> None:
        """Flush here what a start found in the log and one memtable would not hold; what a full disk refuses waits.

        Raises:
            OSError: the disk is failing.
        """
        while len(waiting := self._generations.frozen) > 1:
            try:
                self.write_here(waiting[-1])
            except (OSError, ReadOnly) as error:
                if isinstance(error, OSError) and not is_lack_of_room(error):
                    raise
                logger.warning("there is no room to flush what the log holds; it stays in memory: %s", error)
                self._installer.remove_leftovers()
                return

    def write_here(self, generation: Generation) -> None:
        """Flush the oldest generation in this process, out of memory: at a start, or where the log cannot be read.

        Raises:
            OSError: the disk is full or failing.
        """
        self._catalog.ensure_manifest()
        records = {
            key: record for key, record in generation.memtable.items() if record is not REMOVED or self._has_tables()
        }
        output = replace(self._output(generation.lsn, level=0), give_way=keep_on)
        metas = write_tables(self._disk, in_chunks(records), output)
        self._install_flush(generation, metas)

    def drop(self, drop: Drop) -> None:
        """Hide a range of keys that the log says was dropped; tables of which nothing is left go."""
        self.drops.append(drop)
        self._generations.drop(drop.start, drop.end)
        self._catalog.hide(hidden_by([drop], [table.meta for table in self._catalog.levels.tables()]))
        self._remove_hidden_tables()

    def _is_free(self) -> bool:
        """Say whether the worker may be given a job."""
        is_free = not self._installer.is_busy and self._journal.running and self.pace.may_work()
        return is_free and self._installer.is_ready()

    def _has_tables(self) -> bool:
        return bool(self._catalog.levels.runs)

    def _output(self, lsn: int, *, level: int) -> OutputPlan:
        options = self._options
        return OutputPlan(
            first_number=self._catalog.next_number,
            lsn=lsn,
            guards=self._catalog.levels.guards if level < 2 else (),
            table_bytes=options.table_bytes if level else 4 * options.memtable_bytes,
            block_bytes=options.block_bytes,
            compression=options.compression,
            sync_bytes=SHORT_SYNC_BYTES if self.pace.is_gentle else LONG_SYNC_BYTES,
            give_way=self._worker.give_way,
        )

    def _submit(
        self, job: Callable[[Argument], Result], task: Argument, done: Callable[[Result | Exception], None]
    ) -> None:
        self._submitted_at = self._clock()
        self._worker.submit(job, task, done)
        self._installer.is_busy = True

    def _flush_ended(self, generation: Generation, outcome: Outcome) -> None:
        self._installer.is_busy = False
        self.flush_seconds += self._clock() - self._submitted_at
        if not self._journal.running:
            return
        if isinstance(outcome, (CorruptionError, FileNotFoundError)):
            logger.error("flushing from memory, because the log does not read as it was written: %s", outcome)
            self._installer.failures += 1
            self._installer.remove_leftovers()
            self._installer.guarded(lambda: self.write_here(generation))
        elif isinstance(outcome, Exception):
            self._installer.failed("flush", outcome)
        else:
            if self._installer.guarded(lambda: self._install_flush(generation, outcome)) is None:
                self._go_on()

    def _compaction_ended(self, task: CompactionTask, to: int, number: int, outcome: Outcome) -> None:
        # It names its inputs, and does not hold on to them: their files go when nobody reads them any more.
        known = {each.number: each.hidden for run in task.runs for each in run}
        self._installer.is_busy = False
        self.compaction_seconds += self._clock() - self._submitted_at
        self._busy_tables = frozenset()
        if not self._journal.running:
            return
        if isinstance(outcome, CorruptionError):
            damaged = table_number(outcome.path)
            self._damaged |= dict.fromkeys([damaged] if damaged in known else known)
            logger.error("compaction leaves the table as it is: %s", outcome)
        if isinstance(outcome, Exception):
            self._installer.failed("compaction", outcome)
            return
        late = dict.fromkeys(
            each
            for table in self._catalog.levels.tables()
            if table.number in known
            for each in table.hidden
            if each not in known[table.number]
        )
        edit = Edit(
            added=[AddedTable(to, number, meta) for meta in outcome],
            removed=list(known),
            hidden=[(meta.number, start, end) for meta in outcome for start, end in late],
        )
        self._count(outcome)
        self.compactions += 1
        self.compacted_bytes += sum(meta.size_bytes for meta in outcome)
        if self._installer.guarded(lambda: self._install(edit)) is None:
            self._remove_hidden_tables()
            self._go_on()

    def _ingest_ended(self, ingestion: Ingestion, outcome: Outcome) -> None:
        self._installer.is_busy = False
        if not self._journal.running:
            return
        if isinstance(outcome, Exception):
            try:
                self._installer.failed("ingestion", outcome)
            finally:
                ingestion.done(outcome)
            return
        self._count(outcome)
        run = self._catalog.take_number()
        added = [AddedTable(0, run, meta) for meta in outcome]
        failure = self._installer.guarded(
            partial(self._install, Edit(added=added, hidden=hidden_by(self.drops, outcome)))
        )
        ingestion.done(failure)
        if failure is None:
            remove_files(self._disk, ingestion.files)
            self._go_on()

    def _go_on(self) -> None:
        """Do what comes next, if a job has ended well."""
        if not self.flush_next():
            self.tidy_next()

    def _sweep_next(self) -> bool:
        """Let the worker remove what counts no more: a large file takes it milliseconds, as it would the loop."""
        if not self._catalog.trash or not self._is_free():
            return False
        task = self._sweeper.task(one_by_one=self.pace.is_gentle)
        self._submit(sweep, task, partial(self._sweep_ended, task))
        return True

    def _sweep_ended(self, task: SweepTask, outcome: bool | Exception) -> None:
        self._installer.is_busy = False
        if not self._journal.running:
            return
        if isinstance(outcome, Exception):
            self._sweeper.failed(task)
            self._installer.failed("removing files", outcome)
            return
        self._sweeper.ended(task, makes_spares=outcome)
        self._go_on()

    def _install_flush(self, generation: Generation, metas: list[TableMeta]) -> None:
        catalog = self._catalog
        self._count(metas)
        run = catalog.take_number()
        base = generation.segments[-1][0] + 1
        if self._raft.leave_segments_before(base):
            self._journal.carry()
        edit = Edit(
            added=[AddedTable(0, run, meta) for meta in metas],
            hidden=hidden_by(self.drops, [*metas, *(table.meta for table in catalog.levels.tables())]),
            base=base,
            flushed_lsn=generation.lsn,
            applied={**dict.fromkeys(catalog.applied, 0), **generation.applied},
        )
        first = catalog.base
        self._install(edit)
        self._generations.shed(generation)
        self.weigh()
        self.drops = [drop for drop in self.drops if drop.lsn > generation.lsn]
        self.flushes += 1
        self.flushed_bytes += sum(meta.size_bytes for meta in metas)
        catalog.trash += map(segment_name, range(first, base))
        self._sweeper.flushed_segment_bytes = generation.segments[-1][1]
        self._journal.forget(base)

    def _install(self, edit: Edit) -> None:
        self._installer.install(edit)
        self.weigh()

    def _remove_hidden_tables(self) -> None:
        """Give up tables whose keys were all dropped, but for the inputs of a compaction, which will do it."""
        hidden = [table.number for table in self._catalog.levels.tables() if table.is_hidden]
        if free := [number for number in hidden if number not in self._busy_tables]:
            self._installer.guarded(lambda: self._install(Edit(removed=free)))

    def _count(self, metas: list[TableMeta]) -> None:
        if metas:
            self._catalog.next_number = metas[-1].number + 1
