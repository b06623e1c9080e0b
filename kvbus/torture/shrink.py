"""Shortens a failing plan: fewer faults, less time, fewer clients' operations, with the same verdict at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kvbus.torture.plan import Fault, Plan
from kvbus.torture.run import run_plan

_SHORTEST_SECONDS = 1.0

StillFails = Callable[[Plan], bool]


def shrink(plan: Plan, still_fails: StillFails, *, tries: int = 200) -> tuple[Plan, int]:
    """Return the shortest failing plan that was found with at most ``tries`` runs, and how many were made.

    Faults go first, in ever smaller groups (delta debugging: Zeller and Hildebrandt, 2002), then time and load.
    """
    search = _Search(still_fails, tries)
    best = plan
    while True:
        before = best
        best = search.fewer_faults(best)
        best = search.less_time(best)
        if best == before or not search.left:
            return best, tries - search.left


def fails_alike(checker: str) -> StillFails:
    """Return the question whether a plan still fails at ``checker``."""
    return lambda plan: any(verdict.checker == checker and not verdict.passed for verdict in run_plan(plan).verdicts)


class _Search:
    """Counts the runs that are left; with none left nothing fails any more."""

    def __init__(self, still_fails: StillFails, tries: int) -> None:
        self._still_fails = still_fails
        self.left = tries

    def fewer_faults(self, plan: Plan) -> Plan:
        """Leave out runs of faults while the plan still fails, halving their length."""
        size = len(plan.faults)
        while size:
            start = 0
            while start < len(plan.faults):
                kept: tuple[Fault, ...] = plan.faults[:start] + plan.faults[start + size :]
                shorter = replace(plan, faults=kept)
                if self._fails(shorter):
                    plan = shorter
                else:
                    start += size
            size //= 2
        return plan

    def less_time(self, plan: Plan) -> Plan:
        """Shorten the workload, then let fewer keys and a lower rate do."""
        while plan.seconds / 2 >= _SHORTEST_SECONDS:
            seconds = plan.seconds / 2
            shorter = replace(plan, seconds=seconds, faults=tuple(each for each in plan.faults if each.at <= seconds))
            if not self._fails(shorter):
                break
            plan = shorter
        for smaller in (replace(plan, keys=1), replace(plan, rate=plan.rate / 4)):
            if smaller != plan and smaller.keys <= plan.keys and smaller.rate >= 1 and self._fails(smaller):
                plan = smaller
        return plan

    def _fails(self, plan: Plan) -> bool:
        if not self.left:
            return False
        self.left -= 1
        return self._still_fails(plan)
