"""The log of Raft groups as a node sees it: kept by the engine, in the same commit log as the data.

Rules (design: "consensus shares the node's log"): what was appended, voted or applied counts once the engine's
``durable_lsn`` has reached the number that the call returned. An append replaces what the group had from its first
index on, for good: a suffix that was truncated does not come back at a restart. A group's term, vote and entries
survive the removal of old log segments, however long the group was idle. Nothing is in the data that
:meth:`RaftLog.apply` was not called for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from kvbus.core.types import Lsn


class HardState(NamedTuple):
    """What a replica must never forget: its term, and whom it voted for in it (0: nobody)."""

    term: int = 0
    vote: int = 0


class RaftLog(Protocol):
    """The logs of all groups of one node. Indexes count from 1; a group that is not known has an empty log."""

    def groups(self) -> list[int]:
        """Return the numbers of the groups that have a state or entries, ascending."""
        ...

    def hard_state(self, group: int) -> HardState:
        """Return the group's term and vote."""
        ...

    def save_hard_state(self, group: int, state: HardState) -> Lsn:
        """Note the group's term and vote.

        Raises:
            ReadOnly: the disk is full; nothing was noted.
        """
        ...

    def first_index(self, group: int) -> int:
        """Return the index of the group's first entry that is kept; one behind the last where there is none."""
        ...

    def last_index(self, group: int) -> int:
        """Return the index of the group's last entry, 0 where it never had one."""
        ...

    def term(self, group: int, index: int) -> int:
        """Return the term of an entry that is kept, or of the one before the first.

        Raises:
            IndexError: the group has no such entry.
        """
        ...

    def entries(self, group: int, first: int, last: int) -> list[bytes]:
        """Return the entries from ``first`` to ``last``, both included.

        Raises:
            IndexError: not all of them are kept.
        """
        ...

    def append(self, group: int, first: int, terms: Sequence[int], entries: Sequence[bytes]) -> Lsn:
        """Let ``entries`` stand from index ``first`` on, and nothing behind them; none of them truncates.

        Raises:
            IndexError: there would be a gap before them, or ``first`` was trimmed or applied.
            ReadOnly: the disk is full; nothing changed.
        """
        ...

    def trim(self, group: int, index: int, term: int) -> Lsn:
        """Keep no entries up to ``index``, which are in a snapshot; ``term`` is that of the entry there.

        Where the group's log ends before ``index``, or has another term there, it is empty afterwards.

        Raises:
            ReadOnly: the disk is full; nothing changed.
        """
        ...

    def forget(self, group: int) -> Lsn:
        """Forget all about the group, its applied index included.

        Raises:
            ReadOnly: the disk is full; nothing changed.
        """
        ...

    def applied_index(self, group: int) -> int:
        """Return the index up to which the group's entries are in the data, 0 where none are."""
        ...

    def apply(self, group: int, index: int, keys: Sequence[bytes], records: Sequence[bytes]) -> Lsn:
        """Store what the committed entries up to ``index`` do; after a restart all of it is there or nothing.

        Raises:
            IndexError: ``index`` does not go on from what is applied.
            ReadOnly: the disk is full; nothing was stored.
        """
        ...
