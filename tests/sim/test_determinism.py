"""Many seeds, twice, in processes whose hashes differ: not one byte of any run may. `make determinism` takes 200."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SEEDS = int(os.environ.get("KVBUS_DETERMINISM_SEEDS", "20"))
SECONDS = "10"


def campaign(hash_seed: str) -> dict[str, Any]:
    """Run the campaign in fresh processes; return what it printed."""
    path = os.pathsep.join(entry for entry in (str(CHECKOUT), *sys.path) if entry)
    command = [sys.executable, "-m", "kvbus", "torture", "--seeds", f"1-{SEEDS}", "--seconds", SECONDS, "-o", "json"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_same_seeds_give_equal_traces_under_two_hash_seeds() -> None:
    first, second = campaign("1"), campaign("2")
    hashes = [{row["seed"]: row["trace_hash"] for row in found["seeds"]} for found in (first, second)]
    assert len(hashes[0]) == SEEDS
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0].values())) == SEEDS
    verdicts = [[row["verdicts"] for row in found["seeds"]] for found in (first, second)]
    assert verdicts[0] == verdicts[1]
    for found in (first, second):
        print(f"\n{found['virtual_seconds']:,.0f} virtual seconds in {found['real_seconds']:.1f} s")
