"""The test kit: histories of what clients saw, and checkers that judge them.

A checker is a pure function of a :class:`History` and returns a :class:`Verdict`. Nothing here knows the code that it
judges: any store's histories can be checked. docs/HISTORIES.md has the format and the models.
"""

from __future__ import annotations

from kvbus.errors import HistoryError
from kvbus.testing.availability import availability, refusal
from kvbus.testing.convergence import convergence, digests_converged
from kvbus.testing.history import History, Kind, Operation, Outcome
from kvbus.testing.history_file import history_lines, parsed_history, read_history, write_history
from kvbus.testing.linearizability import linearizability
from kvbus.testing.lost_writes import lost_writes
from kvbus.testing.recorder import Recorder
from kvbus.testing.revisions import growing_revisions
from kvbus.testing.verdict import Verdict
from kvbus.testing.visibility import visibility

__all__ = [
    "History",
    "HistoryError",
    "Kind",
    "Operation",
    "Outcome",
    "Recorder",
    "Verdict",
    "availability",
    "convergence",
    "digests_converged",
    "growing_revisions",
    "history_lines",
    "linearizability",
    "lost_writes",
    "parsed_history",
    "read_history",
    "refusal",
    "visibility",
    "write_history",
]
