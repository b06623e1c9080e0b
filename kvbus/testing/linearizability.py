"""Linearizability of a register: put, get, delete and cas, each key for itself.

A history is linearizable if every operation can be given one moment between its start and its end, so that the
operations, done one after the other at these moments, give the answers that were given. It is so exactly if the
history of every key is, so keys are judged apart.

Source: M. P. Herlihy and J. M. Wing, "Linearizability" (ACM TOPLAS 12, 1990), theorem 1 for the keys.
"""

from __future__ import annotations

from math import inf
from typing import Final, NamedTuple

from kvbus.testing.history import REGISTER_KINDS, History, Operation
from kvbus.testing.register import Entry, entries
from kvbus.testing.verdict import Verdict
from kvbus.testing.wgl import Found, search
from kvbus.testing.windows import Windows, windows
from kvbus.testing.wording import counted, listed, quoted, seconds

DEFAULT_BUDGET: Final = 500_000
"""States a search may visit before it gives up: up to a minute, and up to 200 MB."""

# Finding a violation's place takes some searches more, and most of them no longer than the first.
_EXPLAINING_BUDGET = 50_000
_CHECKER = "linearizable"
_LAST_STEPS = 8


def linearizability(history: History, *, budget: int = DEFAULT_BUDGET) -> Verdict:
    """Judge whether the history of every key is linearizable; keys must be absent when the history begins.

    ``budget`` is how many states the search may visit for one question; where it does not suffice the verdict is
    undecided. A violation is explained: up to when the key's history is linearizable, in which order, and which answer
    then does not fit in.
    """
    keys = history.by_key(REGISTER_KINDS)
    judged = sum(map(len, keys.values()))
    counters = {
        "operations": judged,
        "keys": len(keys),
        "unknown": sum(each.outcome == "unknown" for each in history.operations if each.op in REGISTER_KINDS),
        "visited": 0,
    }
    if not judged:
        return Verdict(checker=_CHECKER, ok=None, reason="there is no operation of a register", judged=0)
    undecided: list[str] = []
    for key, operations in keys.items():
        found = _judge(operations, inf, budget)
        counters["visited"] += found.visited
        if not found.decided:
            undecided.append(key)
        elif found.order is None:
            reason, details = _explain(key, operations, min(budget, max(_EXPLAINING_BUDGET, found.visited)))
            return Verdict(checker=_CHECKER, ok=False, reason=reason, judged=judged, details=details, counters=counters)
    if undecided:
        names = listed(undecided)
        mend = "give it a larger budget, or record fewer unknown outcomes a key"
        reason = f"undecided after {budget:,} states for {names}; {mend}"
        return Verdict(checker=_CHECKER, ok=None, reason=reason, judged=judged, counters=counters)
    reason = f"{counted(judged, 'operation')} on {counted(len(keys), 'key')} can be put into a legal order"
    return Verdict(checker=_CHECKER, ok=True, reason=reason, judged=judged, counters=counters)


def _judge(operations: list[Operation], until: float, budget: int) -> Found:
    """Look for a legal order of one key's history as it was at ``until`` seconds."""
    narrowed = _narrowed(operations, until)
    return Found(None, True, 0) if narrowed is None else search(narrowed, budget)


def _narrowed(operations: list[Operation], until: float) -> Windows | None:
    # Values beside each other are what a store shows that keeps concurrent writes; no register ever does.
    if any(len(each.found or ()) > 1 and each.end is not None and each.end <= until for each in operations):
        return None
    return windows(entries(operations, until))


class _Break(NamedTuple):
    """Where a history stops being linearizable.

    ``order`` is a legal order of what was answered until ``since`` seconds. The first answer that does not fit came
    after that and until ``until``: one answer did, unless some came together or the budget did not suffice.
    """

    order: list[Entry]
    since: float
    until: float


def _explain(key: str, operations: list[Operation], budget: int) -> tuple[str, tuple[str, ...]]:
    broken = _find_break(operations, budget)
    culprits = [each for each in operations if each.answered and broken.since < (each.end or 0.0) <= broken.until]
    culprits.sort(key=lambda each: each.end or 0.0)
    details = _about(culprits[0], operations)
    if len(culprits) > 1:
        details = [f"one of these: {culprit.describe()}" for culprit in culprits[:_LAST_STEPS]]
    placed = [entry.operation for entry in broken.order]
    if placed:
        which = f", the last {_LAST_STEPS} of {len(placed):,} operations" if len(placed) > _LAST_STEPS else ""
        details.append(f"a legal order of what was answered before{which}:")
        details += [f"  {operation.describe()}" for operation in placed[-_LAST_STEPS:]]
    begun = f"key {quoted(key)}: " + (f"linearizable until {seconds(broken.since)} s" if placed else "not linearizable")
    if len(culprits) == 1:
        return f"{begun}; does not fit: {culprits[0].describe()}", tuple(details)
    late = f"not any more at {seconds(broken.until)} s" if placed else f"at {seconds(broken.until)} s"
    return f"{begun}, {late}; one of {len(culprits):,} answers does not fit", tuple(details)


def _find_break(operations: list[Operation], budget: int) -> _Break:
    """Find the first answer that makes the history illegal.

    A history's beginning is linearizable if the history is, so halving finds the place.
    """
    ends = sorted({each.end for each in operations if each.answered and each.end is not None})
    good, bad = 0, len(ends)
    while bad - good > 1:
        middle = (good + bad) // 2
        if _narrowed(operations, ends[middle - 1]) is None:
            bad = middle
        else:
            good = middle
    # Windows are quick, but let illegal histories pass: mostly one search shows that they told the place.
    order: list[Entry] = []
    good, unsure, middle = 0, bad, bad - 1
    while unsure - good > 1:
        found = _judge(operations, ends[middle - 1], budget)
        if found.order is not None:
            good, order = middle, found.order
        else:
            unsure = middle
            bad = middle if found.decided else bad
        middle = (good + unsure) // 2
    return _Break(order, ends[good - 1] if good else -inf, ends[bad - 1])


def _about(culprit: Operation, operations: list[Operation]) -> list[str]:
    """Return what else the history has on the value that the culprit found."""
    if culprit.op != "get" or culprit.found is None:
        return []
    if len(culprit.found) > 1:
        return ["a register has one value; siblings belong to the set model"]
    if not culprit.found:
        deletes = [each for each in operations if each.op in ("delete", "cas") and each.value is None]
        return [] if deletes else ["nobody deleted the key"]
    writers = [each for each in operations if each.op in ("put", "cas") and each.value == culprit.found[0]]
    return [f"written by {each.describe()}" for each in writers[:_LAST_STEPS]] or ["nobody wrote this value"]
