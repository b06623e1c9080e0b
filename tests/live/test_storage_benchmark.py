"""The storage benchmark with real stores: each keeps what it is given, and the smoke test runs to its end."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.processes import CHECKOUT, environment, module
from benchmarks.storage.store import System
from benchmarks.storage.systems import SYSTEMS
from benchmarks.storage.trial import batches, run, stored_bytes
from benchmarks.storage.workload import Values, Workload, absent_keys, stored_keys

WORKLOAD = Workload(value_bytes=100, keys=500, gets=200, synced=True, quiet_seconds=0.01)
READERS = [system for system in SYSTEMS.values() if system.reads and system.missing() is None]


@pytest.mark.parametrize("system", READERS, ids=lambda system: system.name)
def test_a_store_keeps_what_it_is_given(system: System, tmp_path: Path) -> None:
    store = system.open(tmp_path, WORKLOAD)
    try:
        keys, values = stored_keys(WORKLOAD.keys), Values(WORKLOAD.value_bytes)
        for batch, records in batches(keys, values):
            store.put(batch, records)
        store.put(keys[:1], [b"newer"])
        for step in (store.settle, store.compact):
            step()
            assert store.get(keys[0]) == b"newer"
            assert [store.get(key) for key in keys[1:]] == values.batch(1, WORKLOAD.keys - 1)
            assert [store.get(key) for key in absent_keys(100)] == [None] * 100
            assert store.scan() == WORKLOAD.keys
    finally:
        store.close()
    assert stored_bytes(tmp_path) > WORKLOAD.user_bytes


@pytest.mark.parametrize(
    "system", [SYSTEMS["lsm"], SYSTEMS["append"], SYSTEMS["sqlite"]], ids=lambda system: system.name
)
def test_a_trial_finds_no_wrong_answer_and_at_least_what_was_put_on_the_disk(system: System, tmp_path: Path) -> None:
    found = run(system, WORKLOAD, tmp_path)
    assert found.amplification is not None
    assert found.amplification.written is None or found.amplification.written >= 1
    assert found.amplification.stored >= 1
    assert [phase for phase, figures in found.phases.items() if figures.errors] == []
    assert ("scan" in found.phases) == system.reads


def test_the_smoke_test_measures_what_is_installed_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        module("benchmarks.storage", "--quick", "-o", "json", "--dir", str(tmp_path)),
        cwd=CHECKOUT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    installed = {name for name, system in SYSTEMS.items() if system.missing() is None}
    assert {cell["store"] for cell in found["figures"]} == installed
    assert set(found["skipped"]) == set(SYSTEMS) - installed
    assert [cell for cell in found["figures"] if any(each["errors"] for each in cell["rounds"])] == []
    assert found["bars"][0]["ratio"]["median"] > 0
    assert list(tmp_path.iterdir()) == []
