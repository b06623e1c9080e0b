"""Bugs planted by those who wrote the code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kvbus import identity
from kvbus.core import durably, quorum
from kvbus.core.tick import Effects
from kvbus.core.types import Lsn
from kvbus.identity import IdentityFile, Papers
from kvbus.sim.disk import MemoryDisk
from kvbus_modes.ap import frames, siblings, writes
from kvbus_modes.ap.batch import Batch
from kvbus_modes.ap.causality import Context, join_all
from kvbus_modes.ap.record import assemble, spans
from kvbus_storage.log import commit_log
from kvbus_storage.log import recovery as log_recovery
from tests.mutants.planting import Mutant, replace_function, replace_method


def lost_dot() -> None:
    """The join of a record leaves one of its siblings' dots out."""
    original = siblings._joined

    def joined(record: bytes) -> Context:
        found = spans(record)
        if len(found) < 2:
            return original(record)
        contexts = [record[span.context_begin : span.value_begin] for span in found]
        return join_all(map(Context.from_bytes, contexts), [span.dot for span in found[1:]])

    replace_function(original, joined)


def vector_in_reply() -> None:
    """A put answers with the whole record's clock, so that its client deletes what it never saw."""
    original = siblings._coordinate_any

    def coordinate_any(*given: Any) -> tuple[bytes, bytes]:
        record, _ = original(*given)
        return record, siblings._joined(record).to_bytes()

    replace_function(original, coordinate_any)


def skipped_sync() -> None:
    """The log says that it is synced and is not."""

    def sync(self: commit_log.CommitLog) -> None:
        self._synced = self._tail
        self._synced_lsn = self._last_lsn

    replace_method(commit_log.CommitLog, "sync", sync)


def w_counted_wrong() -> None:
    """One node less than was asked for is enough."""

    def met_by(self: quorum.Requirement, answered: int) -> bool:
        return all((answered & mask).bit_count() >= max(1, count - 1) for mask, count in self.clauses)

    replace_method(quorum.Requirement, "met_by", met_by)


def replay_skipped() -> None:
    """A start does not read the log's last segment."""
    original = log_recovery._replay_segment

    def replay(disk: Any, segment: int, known_end: int | None, last_lsn: int, sink: Any) -> tuple[int, int]:
        return original(disk, segment, known_end, last_lsn, sink if known_end is not None else lambda *columns: None)

    replace_function(original, replay)


def epoch_reused() -> None:
    """A start after a crash goes on with the incarnation, and so with the epochs, of the one before."""
    original = identity.IdentityFile.start

    def start(self: IdentityFile, *given: Any) -> Papers:
        papers = original(self, *given)
        again = replace(papers, incarnation=papers.incarnation - 1)
        self.save(replace(again, hold_floor=None))
        return again

    replace_method(identity.IdentityFile, "start", start)


def failed_index_acknowledged() -> None:
    """One acknowledgement stands for the whole batch, also for what the replica could not store."""

    def read_ack(frame: bytes) -> tuple[int, ...]:
        return ()

    replace_function(frames.read_ack, read_ack)


def promised_before_durable() -> None:
    """What waits for the log is done at once."""

    def when_durable(self: durably.Durably, lsn: int, act: durably.Durable) -> None:
        act(True, 0.0, Effects())
        self._waiting.append((Lsn(lsn), act))

    replace_method(durably.Durably, "when_durable", when_durable)


def own_copy_counted_twice() -> None:
    """A write that this node has stored counts as stored by the next replica too."""
    original = Batch.take_answer

    def take_answer(self: Batch, node: Any) -> bool:
        taken = original(self, node)
        if taken and isinstance(self, writes.WriteBatch):
            self.answered |= self.awaited & -self.awaited
        return taken

    replace_method(Batch, "take_answer", take_answer)


def sibling_dropped() -> None:
    """A merge of two records keeps the newest two siblings only."""
    original = assemble

    def newest(parts: Sequence[bytes]) -> bytes:
        return original(parts[-2:])

    replace_function(original, newest)


def recovered_tail_unsynced() -> None:
    """A start builds on records that the process before it had not synced."""

    def sync(self: MemoryDisk, path: str) -> None:
        return

    replace_method(MemoryDisk, "sync", sync)


MUTANTS = [
    Mutant("recovered-tail-unsynced", "a start leaves the last process's tail unsynced", recovered_tail_unsynced),
    Mutant("lost-dot", "a record's join leaves a sibling's dot out", lost_dot),
    Mutant("vector-in-reply", "a put answers with the record's clock", vector_in_reply),
    Mutant("skipped-sync", "the log is never synced", skipped_sync),
    Mutant("w-counted-wrong", "one node less than W or R is enough", w_counted_wrong),
    Mutant("replay-skipped", "a start ignores the log's last segment", replay_skipped),
    Mutant("epoch-reused", "an unclean start goes on with the old epochs", epoch_reused),
    Mutant("failed-index-acknowledged", "an ack hides the operations that failed", failed_index_acknowledged),
    Mutant("promised-before-durable", "answers do not wait for the log", promised_before_durable),
    Mutant("own-copy-counted-twice", "W counts one node twice", own_copy_counted_twice),
    Mutant("sibling-dropped", "a merge keeps two siblings only", sibling_dropped),
]
