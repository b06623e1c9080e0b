"""The bound on a node's load, in the requirement's own words.

Load ≤ max(⌈share⌉, 1.10 × share) or the proven optimum. Shares are worked out here; whether less was possible is
decided by a maximum flow over the legal tables, never by the code under test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor
from random import Random

import pytest

from kvbus.core.placement import Member, load_bounds, place
from tests.unit.placement_proof import check_load, fair_shares

PARTITIONS, REPLICAS = 1024, 3


def members_of(weights: Sequence[float], racks: int = 1) -> list[Member]:
    return [Member(name=f"n{i:02}", rack=f"r{i % racks}", weight=weight) for i, weight in enumerate(weights)]


def bound_of(share: Fraction) -> int:
    return max(ceil(share), floor(Fraction(110, 100) * share))


@pytest.mark.parametrize("count", [4, 5, 7, 10, 11, 16, 31, 60, 100])
def test_the_bound_of_equal_nodes_is_the_formula(count: int) -> None:
    share = Fraction(PARTITIONS * REPLICAS, count)
    bounds = load_bounds(members_of([1.0] * count), partitions=PARTITIONS, replicas=REPLICAS)
    assert [bound.bound for bound in bounds.values()] == [bound_of(share)] * count


@pytest.mark.parametrize("racks", [1, 3])
@pytest.mark.parametrize("weights", [(1, 2, 3), (2, 3), (5, 6, 7, 8)])
def test_the_bound_of_unequal_nodes_is_the_formula_where_racks_leave_them_their_shares(
    weights: Sequence[int], racks: int
) -> None:
    """Twelve nodes of these weights, turn by turn in each rack, so that the racks weigh the same."""
    chosen = [weights[i // racks % len(weights)] for i in range(12 * racks)]
    bounds = load_bounds(members_of([float(w) for w in chosen], racks), partitions=PARTITIONS, replicas=REPLICAS)
    shares = [Fraction(PARTITIONS * REPLICAS * weight, sum(chosen)) for weight in chosen]
    assert [bounds[f"n{i:02}"].bound for i in range(len(chosen))] == [bound_of(share) for share in shares]


@pytest.mark.parametrize("weight", [0.9, 0.898, 0.89, 0.85, 0.8])
def test_a_node_that_holds_more_than_its_new_weight_allows_gives_away_until_it_keeps_the_bound(weight: float) -> None:
    """Its load lies between 1.10 and 1.26 of its new share: nothing but the bound makes it give."""
    equal = members_of([1.0] * 10)
    before = place(None, equal, partitions=PARTITIONS, replicas=REPLICAS)
    lighter = [Member(name="n00", rack="r0", weight=weight), *equal[1:]]
    after = place(before, lighter, partitions=PARTITIONS, replicas=REPLICAS)
    share = Fraction(PARTITIONS * REPLICAS) * Fraction(str(weight)) / (9 + Fraction(str(weight)))
    held = sum("n00" in names for names in before)
    assert held > bound_of(share)
    assert sum("n00" in names for names in after) <= bound_of(share)


@pytest.mark.parametrize("racks", [1, 4])
@pytest.mark.parametrize("seed", range(3))
def test_loads_keep_the_bound_or_are_the_proven_optimum_through_every_change_of_weights(seed: int, racks: int) -> None:
    """Weights that change a little leave nodes just above their bound, from where only the bound can bring them."""
    chance = Random(seed)
    table = None
    was_over = 0
    for _ in range(6):
        members = members_of([round(chance.uniform(0.8, 1.2), 3) for _ in range(12)], racks)
        if table is not None:
            loads = Counter(name for names in table for name in names)
            shares = fair_shares(members, PARTITIONS, REPLICAS, with_racks=False)
            was_over += sum(loads[name] > bound_of(Fraction(share)) for name, share in shares.items())
        table = place(table, members, partitions=PARTITIONS, replicas=REPLICAS)
        check_load(table, members, REPLICAS)
    assert was_over > 10
