"""``python -m tests.mutants``: plants each bug of the catalogue and shows which seed catches it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

from rich.console import Console
from rich.table import Table

from tests.mutants.catalogue import CATALOGUE
from tests.mutants.planting import Mutant

SEEDS = 200


def try_out(mutant: Mutant) -> dict[str, object]:
    """Run one trial in a process of its own, because a planted bug stays."""
    begun = monotonic()
    command = [sys.executable, "-m", "tests.mutants.trial", mutant.name, str(SEEDS)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        return {"seed": None, "checkers": [], "reason": run.stderr.strip().splitlines()[-1], "seconds": 0.0}
    found: dict[str, object] = json.loads(run.stdout)
    return {**found, "seconds": monotonic() - begun}


def main() -> int:
    """Try all mutants, or those that are named; return 1 if one is not caught."""
    chosen = [each for each in CATALOGUE if not sys.argv[1:] or each.name in sys.argv[1:]]
    table = Table("mutant", "what is wrong", "caught", "at seed", "by", "s", title=f"planted bugs, {SEEDS} seeds each")
    caught = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutant, found in zip(chosen, pool.map(try_out, chosen), strict=True):
            seed = found["seed"]
            caught += seed is not None
            by = ", ".join(map(str, found["checkers"])) if seed is not None else str(found["reason"])  # type: ignore[call-overload]
            word = "caught" if seed is not None else "[red]NOT CAUGHT[/]"
            table.add_row(mutant.name, mutant.what, word, str(seed or ""), by, f"{found['seconds']:.1f}")
    Console(width=140).print(table)
    print(f"{caught} of {len(chosen)} caught")
    return 0 if caught == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
