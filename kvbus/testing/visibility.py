"""Visibility: a set's read that begins after an add was acknowledged shows the element.

This holds where read and write quorums overlap (``pr`` + ``pw`` > N) and elements are only ever added; hand in the
operations of which that is claimed. Source: semantics "Quorums"; Dynamo paper, section 4.5.
"""

from __future__ import annotations

from kvbus.testing.history import SET_KINDS, History, Operation
from kvbus.testing.verdict import Verdict
from kvbus.testing.wording import details_of

_SHOWN = 5


def visibility(history: History) -> Verdict:
    """Judge every ok read against the adds of its key that had ended, ok, before it began."""
    misses: list[str] = []
    judged = 0
    for key, operations in history.by_key(SET_KINDS).items():
        reads = [each for each in operations if each.op == "read" and each.outcome == "ok"]
        judged += len(reads)
        misses += [f"{key}: {miss}" for miss in _misses(operations, reads)]
    if misses:
        reason = f"{len(misses)} of {judged} reads missed an element whose add had been acknowledged before"
    else:
        reason = f"all {judged} reads showed what had been acknowledged before they began"
    ok = None if not judged else not misses
    details = details_of(misses, len(misses), _SHOWN)
    return Verdict(checker="visible", ok=ok, reason=reason, judged=judged, details=details)


def _misses(operations: list[Operation], reads: list[Operation]) -> list[str]:
    """Return a line for each read that missed something; both lists are walked once, in order of time."""
    adds = _ended_adds(operations)
    lines: list[str] = []
    known: dict[str, Operation] = {}
    place = 0
    for read in sorted(reads, key=lambda each: each.start):
        while place < len(adds) and adds[place][0] < read.start:
            known[adds[place][1].element or ""] = adds[place][1]
            place += 1
        missed = known.keys() - set(read.found or ())
        if missed:
            element = min(missed)
            lines.append(f"{read.describe()} missed what {known[element].describe()} added")
    return lines


def _ended_adds(operations: list[Operation]) -> list[tuple[float, Operation]]:
    ended = [
        (each.end, each) for each in operations if each.op == "add" and each.outcome == "ok" and each.end is not None
    ]
    return sorted(ended, key=lambda pair: pair[0])
