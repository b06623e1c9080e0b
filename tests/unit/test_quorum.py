"""Quorum arithmetic: clauses over masks, levels over data centres, refusals."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvbus.core.quorum import (
    LEVELS,
    ReplicaSet,
    Requirement,
    level_clauses,
    majority,
    mask_of,
    requirement,
)
from kvbus.core.types import NodeIndex
from kvbus.errors import BadRequest, NoQuorum

DC1, DC2 = 0b000111, 0b111000
SIX = ReplicaSet(tuple(NodeIndex(i) for i in range(6)), 0b111111, {"dc1": DC1, "dc2": DC2})


def resolved(**asked: Any) -> Requirement:
    defaults: dict[str, Any] = {
        "asked": None, "primaries": None, "level": None, "default": 2, "defaults_demanded": False,
    }  # fmt: skip
    return requirement(replicas=SIX, local_dc="dc1", **{**defaults, **asked})


@given(st.integers(1, 0xFFFF), st.integers(0, 0xFFFF), st.integers(1, 16))
def test_one_clause_counts_answers_of_its_own_nodes_only(mask: int, answered: int, count: int) -> None:
    assert Requirement(((mask, count),), True).met_by(answered) is (bin(mask & answered).count("1") >= count)


@given(st.lists(st.integers(0, 60), unique=True, max_size=9))
def test_a_mask_holds_each_node_as_a_bit(nodes: list[int]) -> None:
    assert mask_of([NodeIndex(node) for node in nodes]) == sum(1 << node for node in nodes)


@given(st.integers(1, 0xFF), st.integers(0, 0xFF), st.integers(0, 0xFF))
def test_any_two_majorities_share_a_node(mask: int, a: int, b: int) -> None:
    a, b = a & mask, b & mask
    if min(a.bit_count(), b.bit_count()) >= majority(mask):
        assert a & b


@pytest.mark.parametrize(
    ("level", "clauses"),
    [("one", ((63, 1),)), ("quorum", ((63, 4),)), ("all", ((63, 6),)), ("local_one", ((DC1, 1),)),
     ("local_quorum", ((DC1, 2),)), ("each_quorum", ((DC1, 2), (DC2, 2)))],
)  # fmt: skip
def test_levels_are_clauses(level: str, clauses: tuple[tuple[int, int], ...]) -> None:
    assert level_clauses(level, SIX, "dc1") == clauses
    assert resolved(level=level) == Requirement(clauses, True)
    assert level in LEVELS


def test_an_unknown_level_and_a_level_beside_numbers_are_bad_requests() -> None:
    for asked in ({"level": "most"}, {"level": "one", "asked": 1}, {"level": "one", "primaries": 1}):
        with pytest.raises(BadRequest):
            resolved(**asked)


def test_a_number_is_a_demand_and_a_default_a_target() -> None:
    assert resolved() == Requirement(((63, 2),), False)
    assert resolved(defaults_demanded=True) == Requirement(((63, 2),), True)
    assert resolved(asked=1) == Requirement(((63, 1),), True)
    assert resolved(primaries=3) == Requirement(((63, 3),), True)
    assert resolved(asked=4, primaries=3) == Requirement(((63, 4),), True)
    assert resolved(default=9) == Requirement(((63, 6),), False)


def test_a_local_level_needs_a_replica_in_the_local_data_centre() -> None:
    refused = Requirement(level_clauses("local_quorum", SIX, "dc3"), True).refusal(63)
    assert isinstance(refused, NoQuorum)
    assert refused.details["alive"] == 0


@pytest.mark.parametrize(
    ("asked", "alive", "details"),
    [({}, 0, {"required": 1, "alive": 0}), ({"asked": 2}, 0, {"required": 2, "alive": 0}), ({}, 1, None),
     ({"asked": 2}, 1, {"required": 2, "alive": 1}),
     ({"asked": 2}, 3, None), ({"level": "each_quorum"}, 0b001011, {"required": 2, "alive": 1}),
     ({"level": "each_quorum"}, 0b011011, None), ({"asked": 7}, 63, {"required": 7, "alive": 6})],
)  # fmt: skip
def test_only_what_cannot_be_met_is_refused(asked: dict[str, Any], alive: int, details: dict[str, int] | None) -> None:
    refused = resolved(**asked).refusal(alive)
    assert (refused.details if refused else None) == details
    assert refused is None or refused.definite
