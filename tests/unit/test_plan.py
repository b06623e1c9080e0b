"""Plans are data: what was drawn is written, read and shortened again."""

from __future__ import annotations

import json

import pytest

from kvbus.errors import ConfigError
from kvbus.torture.campaign import parse_seeds
from kvbus.torture.nemesis import THEMES, draw_plan
from kvbus.torture.plan import FAULT_FIELDS, Fault, Plan, read_plan
from kvbus.torture.shrink import shrink


@pytest.mark.parametrize("seed", range(4 * len(THEMES)))
def test_a_plan_that_was_written_reads_back_equal(seed: int) -> None:
    plan = draw_plan(seed)
    assert read_plan(plan.to_json()) == plan
    assert draw_plan(seed) == plan


def test_every_kind_of_fault_is_drawn_by_some_seed_but_for_the_jobs_own() -> None:
    drawn = {fault.kind for seed in range(200) for fault in draw_plan(seed).faults}
    assert drawn == set(FAULT_FIELDS)


def test_schedules_leave_the_last_second_without_new_faults() -> None:
    assert max(fault.at for seed in range(100) for fault in draw_plan(seed).faults) < 20.0 - 0.5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"kvbus_plan": 9}, "kvbus_plan"),
        ({"sedes": 1}, "sedes"),
        ({"nodes": "five"}, "nodes"),
        ({"seconds": -1}, "seconds"),
        ({"faults": [{"at": 1, "kind": "meteor"}]}, "meteor"),
        ({"faults": [{"at": 1, "kind": "kill"}]}, "node"),
        ({"faults": [{"at": 1, "kind": "heal", "node": "n1"}]}, "node"),
        ({"faults": [{"kind": "heal"}]}, "at"),
        ({"faults": [3]}, r"faults\[0\]"),
        ({"faults": 3}, "faults"),
    ],
)
def test_a_wrong_plan_is_refused_and_what_is_wrong_is_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read_plan(json.dumps(json.loads(Plan(seed=1).to_json()) | change))


@pytest.mark.parametrize("text", ["", "{", "[1]", '"plan"'])
def test_what_is_no_plan_at_all_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="plan"):
        read_plan(text)


def test_a_plan_names_its_seed() -> None:
    with pytest.raises(ConfigError, match="seed"):
        read_plan('{"kvbus_plan": 1}')


def test_seeds_are_ranges_and_numbers() -> None:
    assert parse_seeds("1-3, 7,2") == [1, 2, 3, 7]
    for text in ("", "a", "1-", "-3", "1-b"):
        with pytest.raises(ConfigError, match="seeds"):
            parse_seeds(text)


def needs(plan: Plan, *kinds: str) -> bool:
    return all(any(fault.kind == kind for fault in plan.faults) for kind in kinds)


def test_the_shrinker_leaves_only_what_the_failure_needs() -> None:
    faults = tuple(Fault(float(number) / 4, "heal") for number in range(40))
    plan = Plan(
        seed=1,
        faults=(*faults[:13], Fault(3.3, "kill", {"node": "n1"}), *faults[13:], Fault(4.0, "start", {"node": "n1"})),
    )
    shorter, tries = shrink(plan, lambda tried: needs(tried, "kill", "start"))
    assert [fault.kind for fault in shorter.faults] == ["kill", "start"]
    assert (shorter.seconds, shorter.keys) == (5.0, 1)
    assert tries < 100


def test_the_shrinker_stops_when_its_tries_are_used_up() -> None:
    plan = draw_plan(8)
    shorter, tries = shrink(plan, lambda tried: True, tries=3)
    assert tries == 3
    assert len(shorter.faults) < len(plan.faults)
