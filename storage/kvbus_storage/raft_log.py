"""Raft groups' logs in the engine's commit log.

Rules: entries and states are in memory as they are in the log. A replayed RAFT_ENTRY discards what was read before from
its first index on. Before a segment goes, each group that has anything in it is written anew: all that it keeps, since
a part of its entries would discard those behind them.

Source: FORMATS.md, "Log record"; the port, :mod:`kvbus.ports.raft_log`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

from kvbus.core.types import Lsn
from kvbus.ports.raft_log import HardState
from kvbus_storage.format_error import FormatError
from kvbus_storage.log.format import Kind, LogRecord
from kvbus_storage.log.payload import (
    RaftState,
    decode_applied,
    decode_entries,
    decode_state,
    encode_applied,
    encode_entries,
    encode_state,
)


class Group:
    """One group's log: ``entries[i]`` has index ``offset + 1 + i``.

    ``oldest`` is the first segment that it has a part in, None where it has none.
    """

    __slots__ = ("applied", "entries", "offset", "offset_term", "oldest", "state", "terms")

    def __init__(self) -> None:
        self.state = HardState()
        self.offset = self.offset_term = 0
        self.terms: list[int] = []
        self.entries: list[bytes] = []
        self.applied = 0
        self.oldest: int | None = None

    @property
    def last(self) -> int:
        """The index of the last entry."""
        return self.offset + len(self.entries)

    def is_empty(self) -> bool:
        """Say whether there is nothing to keep."""
        return not self.entries and self.state == (0, 0) and self.offset == 0


class RecoveredRaft:
    """Groups as a replay of the log builds them."""

    def __init__(self, applied: Mapping[int, int]) -> None:
        self.groups: dict[int, Group] = {}
        for number, index in applied.items():
            self._group(number).applied = index

    def take(self, record: LogRecord, segment: int) -> None:
        """Do what a log record says of a group.

        Raises:
            FormatError: its payload is not what its kind says.
        """
        if record.kind == Kind.RAFT_ENTRY:
            found = decode_entries(record.payload)
            group = self._touch(found.group, segment)
            kept = found.first - group.offset - 1
            if not 0 <= kept <= len(group.entries):
                # What came before lay in a segment that is gone; all of it comes again further on.
                group.offset, group.offset_term, kept = found.first - 1, 0, 0
            group.terms[kept:] = found.terms
            group.entries[kept:] = found.entries
        elif record.kind == Kind.RAFT_STATE:
            state = decode_state(record.payload)
            group = self._touch(state.group, segment)
            if state.is_forgotten:
                del self.groups[state.group]
                return
            group.state = HardState(state.term, state.vote)
            if state.offset < group.offset:
                group.terms, group.entries = [], []
            if state.offset <= group.offset:
                group.offset, group.offset_term = state.offset, state.offset_term
            _trim(group, state.offset, state.offset_term)
        elif record.kind == Kind.APPLIED:
            applied = decode_applied(record.payload)
            self._group(applied.group).applied = applied.last

    def applied(self) -> dict[int, int]:
        """Return the applied index of each group that has one."""
        return {number: group.applied for number, group in self.groups.items() if group.applied}

    def records(self) -> Iterator[tuple[Kind, bytes]]:
        """Yield log records that say all of it."""
        for number, group in self.groups.items():
            yield from _records(number, group)
            if group.applied:
                yield Kind.APPLIED, encode_applied(number, group.applied, (), ())

    def check(self) -> None:
        """Check that no group's log lacks its beginning.

        Raises:
            FormatError: one does.
        """
        for number, group in self.groups.items():
            if group.offset and not group.offset_term:
                raise FormatError(f"the entries of group {number} up to {group.offset} are missing")

    def _touch(self, number: int, segment: int) -> Group:
        group = self._group(number)
        group.oldest = segment if group.oldest is None else min(group.oldest, segment)
        return group

    def _group(self, number: int) -> Group:
        return self.groups.setdefault(number, Group())


class RaftJournal(Protocol):
    """What takes the log records of groups: an engine's journal."""

    @property
    def segment(self) -> int:
        """The newest segment's number."""
        ...

    def check_writable(self) -> None:
        """Refuse a write that could not be kept."""
        ...

    def add(self, kind: Kind, payload: bytes, undo: Callable[[], None]) -> Lsn:
        """Queue one record; ``undo`` takes it back in memory."""
        ...


class SegmentRaftLog:
    """A :class:`~kvbus.ports.raft_log.RaftLog` in the journal of an engine.

    ``store`` puts what entries do into the engine's memory and returns what takes it back.
    """

    def __init__(
        self,
        journal: RaftJournal,
        recovered: RecoveredRaft,
        *,
        store: Callable[[Sequence[bytes], Sequence[bytes]], Callable[[], None]],
    ) -> None:
        self._journal = journal
        self._groups = recovered.groups
        self._store = store

    def groups(self) -> list[int]:
        """Return the numbers of the groups that have a state or entries, ascending."""
        return sorted(number for number, group in self._groups.items() if not group.is_empty())

    def hard_state(self, group: int) -> HardState:
        """Return the group's term and vote."""
        return self._known(group).state

    def save_hard_state(self, group: int, state: HardState) -> Lsn:
        """Note the group's term and vote (see the port)."""
        changed = self._writable(group)
        before = changed.state

        def undo() -> None:
            changed.state = before

        changed.state = state
        return self._add_state(group, changed, undo)

    def first_index(self, group: int) -> int:
        """Return the index of the group's first entry that is kept."""
        return self._known(group).offset + 1

    def last_index(self, group: int) -> int:
        """Return the index of the group's last entry, 0 where it never had one."""
        return self._known(group).last

    def term(self, group: int, index: int) -> int:
        """Return the term of an entry that is kept, or of the one before the first (see the port)."""
        known = self._known(group)
        if index == known.offset:
            return known.offset_term
        if not known.offset < index <= known.last:
            raise IndexError(f"group {group} keeps entries {known.offset + 1} to {known.last}, not {index}")
        return known.terms[index - known.offset - 1]

    def entries(self, group: int, first: int, last: int) -> list[bytes]:
        """Return the entries from ``first`` to ``last``, both included (see the port)."""
        known = self._known(group)
        if first <= known.offset or last > known.last:
            raise IndexError(f"group {group} keeps entries {known.offset + 1} to {known.last}, not {first} to {last}")
        return known.entries[first - known.offset - 1 : last - known.offset]

    def append(self, group: int, first: int, terms: Sequence[int], entries: Sequence[bytes]) -> Lsn:
        """Let ``entries`` stand from index ``first`` on, and nothing behind them (see the port)."""
        if len(terms) != len(entries):
            raise ValueError(f"{len(terms)} terms, {len(entries)} entries")
        known = self._known(group)
        if not max(known.offset, known.applied) < first <= known.last + 1:
            lowest = max(known.offset, known.applied) + 1
            raise IndexError(f"group {group} takes entries from {lowest} to {known.last + 1} on, not from {first}")
        changed = self._writable(group)
        kept = first - changed.offset - 1
        cut_terms, cut_entries = changed.terms[kept:], changed.entries[kept:]

        def undo() -> None:
            changed.terms[kept:], changed.entries[kept:] = cut_terms, cut_entries

        changed.terms[kept:], changed.entries[kept:] = terms, entries
        return self._journal.add(Kind.RAFT_ENTRY, encode_entries(group, first, terms, entries), undo)

    def trim(self, group: int, index: int, term: int) -> Lsn:
        """Keep no entries up to ``index``, which are in a snapshot (see the port)."""
        changed = self._writable(group)
        before = changed.offset, changed.offset_term, list(changed.terms), list(changed.entries)

        def undo() -> None:
            changed.offset, changed.offset_term, changed.terms, changed.entries = before

        _trim(changed, index, term)
        return self._add_state(group, changed, undo)

    def forget(self, group: int) -> Lsn:
        """Forget all about the group (see the port)."""
        gone = self._writable(group)

        def undo() -> None:
            self._groups[group] = gone

        del self._groups[group]
        return self._journal.add(Kind.RAFT_STATE, encode_state(RaftState(group, 0, 0, 0, 0, True)), undo)

    def applied_index(self, group: int) -> int:
        """Return the index up to which the group's entries are in the data."""
        return self._known(group).applied

    def apply(self, group: int, index: int, keys: Sequence[bytes], records: Sequence[bytes]) -> Lsn:
        """Store what the committed entries up to ``index`` do (see the port)."""
        known = self._known(group)
        if index <= known.applied:
            raise IndexError(f"group {group} has applied up to {known.applied}; {index} does not go on from there")
        changed = self._writable(group)
        take_back, before = self._store(keys, records), changed.applied

        def undo() -> None:
            take_back()
            changed.applied = before

        changed.applied = index
        return self._journal.add(Kind.APPLIED, encode_applied(group, index, keys, records), undo)

    def applied(self) -> dict[int, int]:
        """Return the applied index of each group that has one."""
        return {number: group.applied for number, group in self._groups.items() if group.applied}

    def leave_segments_before(self, base: int) -> bool:
        """Queue anew what groups have in segments before ``base``; say whether there is anything to commit."""
        behind = {
            number: group for number, group in self._groups.items() if group.oldest is not None and group.oldest < base
        }
        for number, group in behind.items():
            # Also where no writes are taken: without this flush there would be no room for them ever again.
            undo = partial(setattr, group, "oldest", group.oldest)
            group.oldest = self._journal.segment
            for kind, payload in _records(number, group):
                self._journal.add(kind, payload, undo)
        return bool(behind)

    def _known(self, number: int) -> Group:
        return self._groups.get(number) or Group()

    def _writable(self, number: int) -> Group:
        self._journal.check_writable()
        group = self._groups.setdefault(number, Group())
        if group.oldest is None:
            group.oldest = self._journal.segment
        return group

    def _add_state(self, number: int, group: Group, undo: Callable[[], None]) -> Lsn:
        return self._journal.add(Kind.RAFT_STATE, _encode_state(number, group), undo)


def do_nothing() -> None:
    """Take back a record that changed nothing in memory."""


def _trim(group: Group, index: int, term: int) -> None:
    if index <= group.offset:
        return
    gone = index - group.offset
    if gone <= len(group.entries) and group.terms[gone - 1] == term:
        del group.terms[:gone], group.entries[:gone]
    else:
        group.terms, group.entries = [], []
    group.offset, group.offset_term = index, term


def _records(number: int, group: Group) -> Iterator[tuple[Kind, bytes]]:
    """Yield the log records that say all of a group but what it has applied.

    Entries are said even where there are none: a replay that begins in the middle of the log may have met some that
    were discarded.
    """
    yield Kind.RAFT_STATE, _encode_state(number, group)
    yield Kind.RAFT_ENTRY, encode_entries(number, group.offset + 1, group.terms, group.entries)


def _encode_state(number: int, group: Group) -> bytes:
    return encode_state(RaftState(number, *group.state, group.offset, group.offset_term, False))
