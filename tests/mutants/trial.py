"""One mutant's trial, in a process of its own: campaign seeds until one of them catches it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from kvbus.torture.campaign import Campaign, prepare
from kvbus.torture.run import run_plan
from tests.mutants.catalogue import CATALOGUE
from tests.mutants.planting import Mutant


def catch(mutant: Mutant, seeds: Sequence[int]) -> dict[str, object]:
    """Plant the bug; return the first seed at which a checker that counts sees it, and which; None where none does."""
    mutant.plant()
    campaign = Campaign(mode="ap", seeds=seeds)
    for seed in seeds:
        failed = [each for each in run_plan(campaign.plan(seed)).failed() if each.checker in mutant.by]
        if failed:
            reason = failed[0].reason.strip().splitlines()[-1]
            return {"name": mutant.name, "seed": seed, "checkers": [each.checker for each in failed], "reason": reason}
    return {"name": mutant.name, "seed": None, "checkers": [], "reason": f"not within {len(seeds)} seeds"}


def main() -> None:
    """Try the mutant that the first argument names, with as many seeds as the second one says."""
    prepare()
    mutant = next(each for each in CATALOGUE if each.name == sys.argv[1])
    print(json.dumps(catch(mutant, range(1, int(sys.argv[2]) + 1))))


if __name__ == "__main__":
    main()
