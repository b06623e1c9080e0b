"""``python -m tests.mutants``: plants each bug of the catalogue and shows which seed catches it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic

from rich.console import Console
from rich.table import Table

from tests.mutants.catalogue import CATALOGUE
from tests.mutants.planting import Mutant

SEEDS = 200


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of one mutant; ``seed`` None: nothing caught it."""

    seed: int | None
    by: str
    seconds: float


def try_out(mutant: Mutant) -> Trial:
    """Run one trial in a process of its own, because a planted bug stays."""
    begun = monotonic()
    command = [sys.executable, "-m", "tests.mutants.trial", mutant.name, str(SEEDS)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        return Trial(None, run.stderr.strip().splitlines()[-1], monotonic() - begun)
    found = json.loads(run.stdout)
    return Trial(found["seed"], ", ".join(found["checkers"]) or found["reason"], monotonic() - begun)


def main() -> int:
    """Try all mutants, or those that are named; return 1 if one is not caught."""
    names = sys.argv[1:] or [each.name for each in CATALOGUE]
    chosen = [each for each in CATALOGUE if each.name in names]
    if len(chosen) < len(names):
        print(f"not in the catalogue: {', '.join({*names} - {each.name for each in chosen})}")
        return 2
    table = Table("mutant", "what is wrong", "caught", "at seed", "by", "s", title=f"planted bugs, {SEEDS} seeds each")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        trials = list(pool.map(try_out, chosen))
    for mutant, trial in zip(chosen, trials, strict=True):
        word = "[red]NOT CAUGHT[/]" if trial.seed is None else "caught"
        table.add_row(mutant.name, mutant.what, word, str(trial.seed or ""), trial.by, f"{trial.seconds:.1f}")
    Console(width=140).print(table)
    caught = sum(1 for trial in trials if trial.seed is not None)
    print(f"{caught} of {len(chosen)} caught")
    return 0 if caught == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
