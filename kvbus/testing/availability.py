"""Availability: how many operations were answered; and its opposite, that all were refused in time."""

from __future__ import annotations

from collections.abc import Collection
from math import inf
from typing import Final

from kvbus.testing.history import History, Operation
from kvbus.testing.verdict import Verdict
from kvbus.testing.wording import counted, details_of, quoted, seconds

DEFAULT_SHARE: Final = 0.999
_SHOWN = 8
_NOTHING = "no operation lies in the window"


def availability(
    history: History,
    *,
    at_least: float = DEFAULT_SHARE,
    since: float = -inf,
    until: float = inf,
    nodes: Collection[str] | None = None,
) -> Verdict:
    """Judge whether the share ``at_least`` of the operations was answered: ``ok``, or a cas with a conflict.

    Only operations count that began from ``since`` up to before ``until`` seconds, and asked one of ``nodes`` where
    these are given.
    """
    judged = _within(history, since, until, nodes)
    if not judged:
        return Verdict(checker="availability", ok=None, reason=_NOTHING, judged=0)
    left = [each for each in judged if not each.answered]
    share = (len(judged) - len(left)) / len(judged)
    counters = {
        "answered": len(judged) - len(left),
        "failed": sum(each.outcome == "failed" for each in left),
        "unknown": sum(each.outcome == "unknown" for each in left),
        "degraded": sum(each.degraded for each in judged),
        "share": share,
    }
    # A share that is not whole must not look whole when it is rounded.
    percent = f"{100 * share:.3f}" if share < 0.99999 else f"{100 * share:.10g}"
    reason = f"{percent} % of {counted(len(judged), 'operation')} answered; {100 * at_least:g} % is asked for"
    return Verdict(
        checker="availability",
        ok=share >= at_least,
        reason=reason,
        judged=len(judged),
        details=_shown(left),
        counters=counters,
    )


def refusal(
    history: History,
    *,
    deadline_s: float,
    since: float = -inf,
    until: float = inf,
    nodes: Collection[str] | None = None,
) -> Verdict:
    """Judge whether every operation was refused within ``deadline_s`` seconds, as a minority's must be.

    A definite error refuses, and so does the word that the outcome is unknown; silence does not. The operations that
    count are those of ``availability``.
    """
    judged = _within(history, since, until, nodes)
    if not judged:
        return Verdict(checker="refusal", ok=None, reason=_NOTHING, judged=0)
    answered = [each for each in judged if each.answered]
    late = [each for each in judged if not each.answered and _lasted(each) > deadline_s]
    reason = f"all of {counted(len(judged), 'operation')} refused within {seconds(deadline_s)} s"
    if answered or late:
        reason = (
            f"of {counted(len(judged), 'operation')} that should be refused within {seconds(deadline_s)} s "
            f"{len(answered):,} answered and {len(late):,} not told in time"
        )
    return Verdict(
        checker="refusal",
        ok=not answered and not late,
        reason=reason,
        judged=len(judged),
        details=_shown([*answered, *late]),
        counters={"answered": len(answered), "late": len(late)},
    )


def _within(history: History, since: float, until: float, nodes: Collection[str] | None) -> list[Operation]:
    return [
        each for each in history.operations if since <= each.start < until and (nodes is None or each.node in nodes)
    ]


def _lasted(operation: Operation) -> float:
    return inf if operation.end is None else operation.end - operation.start


def _shown(operations: list[Operation]) -> tuple[str, ...]:
    lines = (f"key {quoted(each.key)}: {each.describe()}" for each in operations)
    return details_of(lines, len(operations), _SHOWN)
