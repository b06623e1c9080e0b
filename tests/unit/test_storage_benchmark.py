"""The storage benchmark's arithmetic: what is written, ratios, verdicts, and the tables."""

from __future__ import annotations

import json
import zlib
from io import StringIO

import pytest
from rich.console import Console

from benchmarks.storage.bars import BARS, StorageBar, bar_row
from benchmarks.storage.figures import RESULT, Amplification, Cell, Figures, TrialResult
from benchmarks.storage.rounds import Run
from benchmarks.storage.store import wait_until_quiet
from benchmarks.storage.systems import SYSTEMS
from benchmarks.storage.tables import print_puts, print_reads, print_stalls
from benchmarks.storage.workload import FULL, QUICK, Values, Workload, absent_keys, stored_keys

OURS, THEIRS = Cell("lsm", "put", 100, True), Cell("leveldb", "put", 100, True)
BAR = StorageBar(name="put / LevelDB put", ours=OURS, theirs=THEIRS, floor=1, goal=1.5)


def figures(*speeds: float, errors: int = 0) -> list[Figures]:
    return [Figures(speed, p50_us=1.0, p99_us=1e6 / speed, worst_us=1e7 / speed, errors=errors) for speed in speeds]


def test_keys_are_engine_keys_that_differ_and_come_again_in_the_next_run() -> None:
    keys = stored_keys(1_000)
    assert {len(key) for key in keys} == {22}
    assert len(set(keys)) == 1_000
    assert {key[:4] for key in keys} == {keys[0][:4]}
    assert len({key[4:6] for key in keys}) == 64
    assert keys == stored_keys(1_000) != sorted(keys)


def test_absent_keys_are_not_stored_and_lie_among_those_that_are() -> None:
    stored, absent = stored_keys(1_000), absent_keys(1_000)
    assert not set(stored) & set(absent)
    assert {key[:6] for key in stored} == {key[:6] for key in absent}


def test_values_have_their_length_and_do_not_compress() -> None:
    values = Values(100).batch(5, 1_000)
    assert {len(value) for value in values} == {100}
    assert len(set(values)) == 1_000
    assert len(zlib.compress(b"".join(values))) > 100_000
    assert values[3:5] == Values(100).batch(8, 2)


def test_user_bytes_are_keys_and_values() -> None:
    workload = Workload(value_bytes=100, keys=10, gets=1, synced=True, quiet_seconds=0.0)
    assert workload.user_bytes == sum(len(key) + 100 for key in stored_keys(10))


def test_percentiles_are_those_of_the_sorted_batches() -> None:
    found = Figures.of([float(number) for number in range(100, 0, -1)], keys=6_400, seconds=2.0)
    assert found == Figures(3_200.0, p50_us=51.0, p99_us=100.0, worst_us=100.0)


def test_a_ratio_is_taken_within_each_round() -> None:
    row = bar_row(BAR, {OURS: figures(300, 200, 100), THEIRS: figures(100, 50, 50)})
    assert row.ratio is not None
    assert (row.ratio.median, row.ratio.least, row.ratio.greatest, row.verdict) == (3.0, 2.0, 4.0, "goal met")


@pytest.mark.parametrize(("ours", "verdict"), [(99, "missed"), (100, "met"), (149, "met"), (150, "goal met")])
def test_more_is_better_for_speed(ours: float, verdict: str) -> None:
    assert bar_row(BAR, {OURS: figures(ours), THEIRS: figures(100)}).verdict == verdict


@pytest.mark.parametrize(("times", "verdict"), [(2.01, "missed"), (2.0, "met"), (1.3, "goal met")])
def test_less_is_better_for_stalls(times: float, verdict: str) -> None:
    (bar,) = [bar for bar in BARS if bar.lower_is_better]
    results = {bar.ours: [Figures(1.0, p99_us=100 * times)], bar.theirs: [Figures(1.0, p99_us=100)]}
    assert bar_row(bar, results).verdict == verdict


def test_a_bar_without_its_peer_is_not_measured_and_not_passed() -> None:
    row = bar_row(BAR, {OURS: figures(300)})
    assert (row.ratio, row.verdict, row.passed) == (None, "not measured", False)


@pytest.mark.parametrize("broken", [OURS, THEIRS])
def test_wrong_answers_on_either_side_void_a_bar(broken: Cell) -> None:
    results = {OURS: figures(300), THEIRS: figures(100), broken: figures(200, errors=1)}
    assert bar_row(BAR, results).verdict == "errors"


def test_every_goal_lies_behind_its_floor() -> None:
    assert [bar.name for bar in BARS if not bar.passes(bar.goal, bar.floor)] == []


@pytest.mark.parametrize("workloads", [FULL, QUICK])
def test_every_bar_compares_what_is_measured(workloads: tuple[Workload, ...]) -> None:
    measured = [(workload.value_bytes, workload.synced) for workload in workloads]
    cells = [cell for bar in BARS for cell in (bar.ours, bar.theirs)]
    assert [cell for cell in cells if (cell.value_bytes, cell.synced) not in measured] == []


def test_a_trials_result_survives_its_way_to_the_parent() -> None:
    result = TrialResult({"get hit": Figures(1.5, errors=2)}, Amplification(None, 2.0, 1.1, 0.5), busy_percent=3.0)
    assert RESULT.validate_json(RESULT.dump_json(result)) == result
    assert json.loads(RESULT.dump_json(result))["amplification"]["written"] is None


def test_a_store_is_quiet_once_it_has_been_so_for_a_while() -> None:
    looks = [False, True, False, False, True, False, False, False]
    pauses: list[float] = []
    wait_until_quiet(lambda: looks.pop(0), quiet_seconds=0.05, pause=pauses.append)
    assert looks == []
    assert pauses == [0.02] * 8


def test_a_missing_library_is_named_with_its_mend() -> None:
    reason = SYSTEMS["leveldb"].missing()
    assert reason is None or reason.startswith("plyvel is not installed: make bench-storage")
    assert SYSTEMS["lsm"].missing() is SYSTEMS["sqlite"].missing() is None


def test_tables_show_what_was_measured_and_no_more() -> None:
    run = Run()
    hit = Cell("lsm", "get hit", 100, True)
    run.figures = {OURS: figures(1_000, 3_000, 2_000), hit: figures(70_000, errors=4)}
    run.amplifications = {OURS: [Amplification(2.5, 2.04, 1.01, 0.7)] * 3}
    written = StringIO()
    console = Console(file=written, width=120)
    print_puts(console, run, [FULL[0]])
    print_reads(console, run, 100)
    print_reads(console, run, 1_000)
    print_stalls(console, run)
    lines = written.getvalue().splitlines()
    (puts, hits, *_) = [line.split() for line in lines if "kvbus lsm" in line]
    assert puts == ["kvbus", "lsm", "2,000", "1,000–3,000", "0.00", "0.50", "5.0", "0.7", "2.5", "(2.0)", "1.01"]
    assert hits == ["kvbus", "lsm", "70,000", "4", "wrong", "–", "–", "–"]
    assert not any("LevelDB" in line or "1000 B" in line or "Stalls" in line for line in lines)
