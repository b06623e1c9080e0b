"""Revisions only grow: a check of every key in O(n log n), which decides where the search for an order cannot."""

from __future__ import annotations

from typing import NamedTuple

from kvbus.testing.history import REGISTER_KINDS, History, Operation
from kvbus.testing.verdict import Verdict
from kvbus.testing.wording import counted, quoted

_CHECKER = "revisions grow"


class _Told(NamedTuple):
    """An operation that was told a revision, and whether it gave the key that revision or saw it."""

    operation: Operation
    rev: int
    end: float
    wrote: bool


def growing_revisions(history: History) -> Verdict:
    """Judge whether the revisions of each key grow in real time.

    If one operation ended before another began, the other's revision is not smaller, and is greater if the other one
    wrote. No two writes have the same revision. Absent keys (revision 0) and operations without a revision are left
    out.
    """
    keys = {key: _told(operations) for key, operations in history.by_key(REGISTER_KINDS).items()}
    judged = sum(map(len, keys.values()))
    if not judged:
        return Verdict(checker=_CHECKER, ok=None, reason="no operation carries a revision", judged=0)
    for key, told in keys.items():
        broken = _broken(told)
        if broken is not None:
            what, first, second = broken
            return Verdict(
                checker=_CHECKER,
                ok=False,
                reason=f"key {quoted(key)}: {what}: {first.describe()}; then {second.describe()}",
                judged=judged,
            )
    return Verdict(checker=_CHECKER, ok=True, reason=f"{counted(judged, 'revision')} in order", judged=judged)


def _told(operations: list[Operation]) -> list[_Told]:
    return [
        _Told(each, each.rev, each.end, wrote=each.outcome == "ok" and each.op != "get")
        for each in operations
        if each.answered and each.rev and each.end is not None
    ]


def _broken(told: list[_Told]) -> tuple[str, Operation, Operation] | None:
    """Return two operations whose revisions are in the wrong order, and what is wrong with them."""
    by_end = sorted(told, key=lambda each: each.end)
    writers: dict[int, Operation] = {}
    latest: _Told | None = None
    ended = 0
    for each in sorted(told, key=lambda each: each.operation.start):
        while by_end[ended].end < each.operation.start:
            if latest is None or by_end[ended].rev > latest.rev:
                latest = by_end[ended]
            ended += 1
        if latest is not None and each.rev < latest.rev:
            return f"revision {each.rev} after {latest.rev}", latest.operation, each.operation
        if latest is not None and each.wrote and each.rev == latest.rev:
            return f"revision {each.rev} was written after it was there", latest.operation, each.operation
        if each.wrote and each.rev in writers:
            return f"revision {each.rev} was written twice", writers[each.rev], each.operation
        if each.wrote:
            writers[each.rev] = each.operation
    return None
