"""The benchmarks' arithmetic: percentiles, ratios, verdicts, and the report's rows."""

from __future__ import annotations

import json

import pytest

from benchmarks.bars import BARS, Bar, scenarios
from benchmarks.machine import ProcessorTime, least_disturbed
from benchmarks.measurement import BenchmarkError, Sample, Scenario, SystemName
from benchmarks.report import bar_row, bar_rows, document, ratios, scenario_rows

OURS, THEIRS = Scenario("kvbus", "put", 64), Scenario("etcd", "put", 64)
FASTER = Bar(name="put / etcd put", ours=OURS, theirs=THEIRS, floor=2, goal=4)
SOONER = Bar(name="p50 / etcd's", ours=OURS, theirs=THEIRS, floor=1.2, goal=0.8, figure="p50_us")


def samples(*speeds: float, errors: int = 0) -> list[Sample]:
    return [Sample(speed, p50_us=1e6 / speed if speed else 0.0, p99_us=1.0, errors=errors) for speed in speeds]


def test_percentiles_are_those_of_the_sorted_latencies() -> None:
    sample = Sample.of([float(number) for number in range(100, 0, -1)], seconds=2.0)
    assert (sample.ops_per_second, sample.p50_us, sample.p99_us) == (50.0, 51.0, 100.0)


def test_a_loop_without_an_answer_has_figures_of_zero() -> None:
    assert Sample.of([], seconds=2.0, errors=3, last_error="timeout") == Sample(0.0, 0.0, 0.0, 3, "timeout")


def test_what_a_load_generator_printed_is_read() -> None:
    printed = {"ops_per_second": 5, "p50_us": 1.5, "p99_us": 2.5, "errors": 1, "last_error": "refused"}
    assert Sample.from_map(printed) == Sample(5, 1.5, 2.5, 1, "refused")


def test_a_missing_figure_is_named() -> None:
    with pytest.raises(BenchmarkError, match="no p99_us"):
        Sample.from_map({"ops_per_second": 5, "p50_us": 1.5, "errors": 0})


def test_a_ratio_is_taken_within_each_round_and_not_between_medians() -> None:
    # The machine slowed down from round to round: the ratios did not.
    results = {OURS: samples(300, 200, 100), THEIRS: samples(100, 50, 50)}
    assert ratios(FASTER, results) == [3.0, 4.0, 2.0]
    row = bar_row(FASTER, results)
    assert row.ratio is not None
    assert (row.ratio.median, row.ratio.least, row.ratio.greatest) == (3.0, 2.0, 4.0)


def test_a_round_that_only_one_side_finished_does_not_count() -> None:
    assert ratios(FASTER, {OURS: samples(300, 200), THEIRS: samples(100)}) == [3.0]


@pytest.mark.parametrize(("ours", "verdict"), [(150, "missed"), (200, "met"), (399, "met"), (400, "goal met")])
def test_more_is_better_for_throughput(ours: float, verdict: str) -> None:
    assert bar_row(FASTER, {OURS: samples(ours), THEIRS: samples(100)}).verdict == verdict


@pytest.mark.parametrize(("ours", "verdict"), [(80, "missed"), (100, "met"), (125, "goal met")])
def test_less_is_better_for_latency(ours: float, verdict: str) -> None:
    assert bar_row(SOONER, {OURS: samples(ours), THEIRS: samples(100)}).verdict == verdict


def test_a_latency_of_nothing_wins_nothing() -> None:
    assert bar_row(SOONER, {OURS: samples(0), THEIRS: samples(100)}).verdict == "not measured"


def test_no_throughput_at_all_misses_the_bar() -> None:
    assert bar_row(FASTER, {OURS: samples(0), THEIRS: samples(100)}).verdict == "missed"


def test_a_bar_without_its_peer_is_not_measured_and_not_passed() -> None:
    row = bar_row(FASTER, {OURS: samples(300)})
    assert (row.ratio, row.verdict, row.passed) == (None, "not measured", False)


@pytest.mark.parametrize("broken", [OURS, THEIRS])
def test_failed_operations_on_either_side_void_a_bar(broken: Scenario) -> None:
    results = {OURS: samples(900, 900), THEIRS: samples(100, 100), broken: samples(500, 500, errors=1)}
    row = bar_row(FASTER, results)
    assert (row.verdict, row.passed) == ("errors", False)


def test_a_scenario_is_summed_up_by_medians_and_all_of_its_errors() -> None:
    [row] = scenario_rows({OURS: samples(100, 400, 200, errors=2), THEIRS: []})
    assert (row.ops_per_second.median, row.ops_per_second.least, row.ops_per_second.greatest) == (200, 100, 400)
    assert (row.p50_us, row.errors) == (5000.0, 6)


def test_every_bar_compares_scenarios_that_are_run() -> None:
    run = scenarios()
    assert [bar.name for bar in BARS if bar.ours not in run or bar.theirs not in run] == []


def test_no_scenario_is_run_twice_in_a_round() -> None:
    assert len(scenarios()) == len(set(scenarios()))


def test_every_goal_lies_behind_its_floor() -> None:
    assert [bar.name for bar in BARS if not bar.passes(bar.goal, bar.floor)] == []


def test_the_report_is_json_and_keeps_every_round() -> None:
    results = {OURS: samples(300, 200), THEIRS: samples(100, 100)}
    found = json.loads(json.dumps(document({}, {}, results, bar_rows([FASTER], results), {"redis": "absent"})))
    assert [sample["ops_per_second"] for sample in found["scenarios"][0]["rounds"]] == [300, 200]
    assert found["bars"][0]["ratio"] == {"median": 2.5, "least": 2.0, "greatest": 3.0}
    assert (found["bars"][0]["verdict"], found["skipped"]) == ("met", {"redis": "absent"})


class _Steals:
    """A system whose measurements lose these shares of the processors, in percent; each is one operation faster."""

    name: SystemName = "kvbus"

    def __init__(self, *percents: int) -> None:
        self._percents = list(percents)
        self.measured = 0
        self.stolen = 0

    def missing(self) -> str | None:
        return None

    def start(self) -> None:
        raise AssertionError

    def process_ids(self) -> list[int]:
        return []

    def measure(self, scenario: Scenario, seconds: float) -> Sample:
        self.stolen += self._percents[self.measured]
        self.measured += 1
        return samples(self.measured)[0]

    def processor_time(self) -> ProcessorTime:
        return ProcessorTime(100 * self.measured, self.stolen)


@pytest.mark.parametrize(
    ("percents", "counts", "disturbed"),
    [((5,), 1, 0), ((6, 0), 2, 1), ((6, 20, 5), 3, 2), ((20, 6, 30), 2, 2)],
)
def test_what_the_host_disturbed_is_measured_again(percents: tuple[int, ...], counts: int, disturbed: int) -> None:
    system = _Steals(*percents)
    sample, repeated = least_disturbed(lambda: system.measure(OURS, 1.0), processor_time=system.processor_time)
    assert (sample.ops_per_second, repeated) == (counts, disturbed)
    assert system.measured == len(percents)


def test_this_machine_tells_its_processor_time() -> None:
    before = ProcessorTime.read()
    assert 0 <= before.stolen <= before.all
    assert before.stolen_percent_since(before) == 0.0
