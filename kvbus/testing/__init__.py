"""The test kit: histories of what clients saw, and checkers that judge them.

A checker is a pure function of a :class:`History` and returns a :class:`Verdict`. Nothing here knows the code that it
judges: any store's histories can be checked. docs/HISTORIES.md has the format and the models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from kvbus.testing.harness.cluster import Cluster, NotConverged

_OF_THE_HARNESS = ("Cluster", "NotConverged")

__all__ = [
    "Cluster",
    "History",
    "HistoryError",
    "Kind",
    "NotConverged",
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


def __getattr__(name: str) -> object:
    """Load the harness's names on first use: the checkers alone need nothing but the standard library."""
    if name in _OF_THE_HARNESS:
        from kvbus.testing.harness import cluster

        return getattr(cluster, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
