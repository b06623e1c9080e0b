"""Placement: legal tables, bounded load or a proven optimum, and no move that nobody asked for.

What is possible is decided here by a maximum flow over the legal tables, never by the code under test.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from math import ceil, floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvbus.core.placement import Member, Table, load_bounds, place
from kvbus.core.ring import key_hash
from tests.unit.placement_proof import Replicas, check_load, fair_shares, groups_of, rack_limits, rack_of, usual_bound

SIZES = (3, 4, 5, 6, 7, 9, 12, 16, 24, 32, 50, 64, 100)
MIXED = (1.0, 2.0, 0.5, 1.0, 4.0)


def cluster(count: int, racks: int = 1, weights: Sequence[float] = (1.0,), dcs: int = 1) -> list[Member]:
    return [
        Member(
            name=f"n{i}",
            dc=f"dc{i % dcs + 1}",
            rack=f"r{i // dcs % racks + 1}",
            weight=weights[i // dcs % len(weights)],
        )
        for i in range(count)
    ]


def check_rules(table: Table, members: Sequence[Member], replicas: Replicas) -> None:
    groups = groups_of(members, replicas)
    for mine, count in groups:
        rack_by_name = {m.name: rack_of(m) for m in mine}
        limits = rack_limits(mine, count)
        for names in table:
            racks = Counter(rack_by_name[name] for name in names if name in rack_by_name)
            assert racks.total() == count
            for rack, (least, most) in limits.items():
                assert least <= racks[rack] <= most
    known = {m.name for mine, _ in groups for m in mine}
    for names in table:
        assert len(dict.fromkeys(names)) == len(names)
        assert known.issuperset(names)
    loads = Counter(name for names in table for name in names)
    firsts = Counter(names[0] for names in table)
    for name, load in loads.items():
        assert load // len(table[0]) <= firsts[name] <= ceil(load / len(table[0]))


def moves(before: Table, after: Table) -> Counter[str]:
    return Counter(name for old, new in zip(before, after, strict=True) for name in new if name not in old)


def check_addition(before: Table, after: Table, members: Sequence[Member], newcomer: Member, replicas: Replicas) -> int:
    """Assert that replicas move to the newcomer alone, at most 1.2 times what its fair share asks for."""
    moved = moves(before, after)
    assert list(moved) in ([], [newcomer.name])
    minimum = 0
    for mine, count in groups_of(members, replicas):
        if newcomer in mine:
            fair = fair_shares(mine, len(after), count, with_racks=True)[newcomer.name]
            minimum = max(1, floor(round(fair, 6)))
    assert moved.total() <= 1.2 * minimum
    is_growth = any(len(old) < len(new) for old, new in zip(before, after, strict=True))
    free = None if is_growth else [(*names, newcomer.name) for names in before]
    return check_load(after, members, replicas, None, free, {newcomer.name: floor(1.2 * minimum + 1e-9)})


def check_removal(before: Table, after: Table, members: Sequence[Member], gone: str, replicas: Replicas) -> int:
    """Assert that only the replicas of the node that went have moved."""
    kept = [tuple(name for name in names if name != gone) for names in before]
    assert all(name in new for names, new in zip(kept, after, strict=True) for name in names)
    return check_load(after, members, replicas, kept)


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("weights", [(1.0,), MIXED], ids=["equal", "mixed"])
@pytest.mark.parametrize("racks", [1, 3, 5])
def test_load_keeps_its_bound_cold_and_after_one_more_and_one_less(
    count: int, weights: Sequence[float], racks: int
) -> None:
    partitions = 1024 if count == 100 else 256 if count > 30 else 64
    members = cluster(count + 1, racks, weights)
    newcomer = members.pop()
    cold = place(None, members, partitions=partitions, replicas=3)
    check_rules(cold, members, 3)
    check_load(cold, members, 3)
    wider = place(cold, [*members, newcomer], partitions=partitions, replicas=3)
    check_rules(wider, [*members, newcomer], 3)
    check_addition(cold, wider, [*members, newcomer], newcomer, 3)
    rest = [*members[1:], newcomer]
    narrower = place(wider, rest, partitions=partitions, replicas=3)
    check_rules(narrower, rest, 3)
    check_removal(wider, narrower, rest, members[0].name, 3)


@pytest.mark.parametrize("sizes", [(1, 5, 5), (5, 4, 3), (5, 4, 3, 1), (9, 1, 1, 1), (2, 8), (1, 9, 9)])
@pytest.mark.parametrize("replicas", [2, 3, 4])
def test_unequal_racks_cost_no_more_load_than_they_must(sizes: Sequence[int], replicas: int) -> None:
    members = [Member(name=f"n{rack}-{i}", rack=f"r{rack}") for rack, size in enumerate(sizes) for i in range(size)]
    table = place(None, members, partitions=64, replicas=replicas)
    check_rules(table, members, replicas)
    check_load(table, members, replicas)
    ruled = fair_shares(members, 64, replicas, with_racks=True)
    for name, bound in load_bounds(members, partitions=64, replicas=replicas).items():
        assert bound.ruled_share == pytest.approx(ruled[name], abs=1e-3)
        assert sum(name in names for names in table) <= bound.bound <= usual_bound(ruled[name]) + 1


def test_proof_is_asked_for_where_racks_do_not_permit_the_usual_bound() -> None:
    members = [Member(name=f"n{i}", rack=f"r{min(i, 2)}") for i in range(9)]
    assert check_load(place(None, members, partitions=64, replicas=3), members, 3) == 2


@pytest.mark.parametrize("count", [6, 10, 24])
@pytest.mark.parametrize("racks", [1, 3])
def test_each_data_centre_gets_the_number_asked_for(count: int, racks: int) -> None:
    members = cluster(count, racks, MIXED, dcs=2)
    replicas = {"dc1": 3, "dc2": 2}
    table = place(None, members, partitions=128, replicas=replicas)
    check_rules(table, members, replicas)
    check_load(table, members, replicas)
    newcomer = Member(name="late", dc="dc2", rack="r1")
    wider = place(table, [*members, newcomer], partitions=128, replicas=dict(reversed(replicas.items())))
    check_rules(wider, [*members, newcomer], replicas)
    check_addition(table, wider, [*members, newcomer], newcomer, replicas)


@pytest.mark.parametrize(
    ("seed", "partitions", "racks", "weights", "replicas"),
    [
        (1, 64, 1, (1.0,), 3),
        (2, 64, 3, (1.0,), 3),
        (3, 256, 1, MIXED, 3),
        (4, 128, 4, MIXED, 3),
        (5, 64, 2, (1.0,), 4),
        (6, 128, 3, (1.0, 2.0), {"dc1": 3, "dc2": 2}),
        (7, 512, 3, (1.0,), 3),
    ],
)
def test_thirty_random_changes_keep_every_bound(
    seed: int, partitions: int, racks: int, weights: Sequence[float], replicas: Replicas
) -> None:
    chance = random.Random(seed)
    dcs = 1 if isinstance(replicas, int) else 2
    members = cluster(8, racks, weights, dcs)
    table = place(None, members, partitions=partitions, replicas=replicas)
    for step in range(30):
        before = table
        if len(members) < 5 or chance.random() < 0.55:
            newcomer = Member(
                name=f"late{step}",
                dc=f"dc{chance.randint(1, dcs)}",
                rack=f"r{chance.randint(1, racks)}",
                weight=chance.choice(weights),
            )
            members = [*members, newcomer]
            table = place(before, members, partitions=partitions, replicas=replicas)
            check_addition(before, table, members, newcomer, replicas)
        else:
            gone = chance.choice(members)
            members = [member for member in members if member is not gone]
            table = place(before, members, partitions=partitions, replicas=replicas)
            check_removal(before, table, members, gone.name, replicas)
        check_rules(table, members, replicas)


def test_same_members_again_mend_what_a_removal_had_to_leave() -> None:
    members = cluster(6, 1, (1.0, 2.0, 0.5))
    before = place(None, members[:5], partitions=64, replicas=3)
    before = place(before, members, partitions=64, replicas=3)
    rest = members[1:]
    after = place(before, rest, partitions=64, replicas=3)
    bounds = load_bounds(rest, partitions=64, replicas=3)
    loads = Counter(name for names in after for name in names)
    assert any(loads[name] > bounds[name].bound for name in bounds)
    mended = place(after, rest, partitions=64, replicas=3)
    loads = Counter(name for names in mended for name in names)
    assert all(loads[name] <= bounds[name].bound for name in bounds)
    assert place(mended, rest, partitions=64, replicas=3) == mended


def test_new_weight_moves_replicas_to_its_node_and_few_others() -> None:
    members = cluster(20)
    before = place(None, members, partitions=256, replicas=3)
    heavier = [Member(name="n0", weight=2.0), *members[1:]]
    after = place(before, heavier, partitions=256, replicas=3)
    check_rules(after, heavier, 3)
    check_load(after, heavier, 3)
    moved = moves(before, after)
    assert moved["n0"] == floor(0.9 * 256 * 3 * 2 / 21) - sum("n0" in names for names in before)
    assert moved.total() == moved["n0"]


def test_unchanged_cluster_keeps_its_table() -> None:
    members = cluster(12, 3, MIXED)
    table = place(None, members, partitions=64, replicas=3)
    assert place(table, members, partitions=64, replicas=3) == table


def test_new_racks_and_numbers_of_replicas_are_obeyed() -> None:
    members = cluster(9)
    table = place(None, members, partitions=64, replicas=3)
    racked = cluster(9, 3)
    for replicas in (3, 5, 2):
        table = place(table, racked, partitions=64, replicas=replicas)
        check_rules(table, racked, replicas)
        check_load(table, racked, replicas)


def test_replaced_node_hands_its_replicas_to_the_newcomer() -> None:
    members = cluster(10)
    before = place(None, members, partitions=64, replicas=3)
    after = place(before, [*members[1:], Member(name="new")], partitions=64, replicas=3)
    moved = moves(before, after)
    assert moved["new"] >= 18
    assert moved.total() == sum("n0" in names for names in before)


def test_fewer_members_than_replicas_hold_everything() -> None:
    members = cluster(2)
    table = place(None, members, partitions=16, replicas=3)
    assert all(sorted(names) == ["n0", "n1"] for names in table)
    assert [names[0] for names in table].count("n0") == 8
    wider = place(table, cluster(3), partitions=16, replicas=3)
    assert moves(table, wider) == {"n2": 16}


def test_table_depends_on_nothing_but_its_arguments() -> None:
    """The order of members is shuffled here; the digest holds in every process, whatever its hash seed."""
    members = cluster(7, 3, MIXED)
    table = place(None, members, partitions=64, replicas=3)
    random.Random(5).shuffle(members)
    assert place(None, members, partitions=64, replicas=3) == table
    wider = place(table, [Member(name="late"), *members], partitions=64, replicas=3)
    assert wider == place(table, [*members, Member(name="late")], partitions=64, replicas=3)
    assert key_hash("tables", repr((table, wider)).encode()) == 4919439582892149631


@pytest.mark.parametrize(
    ("members", "partitions", "replicas", "mend"),
    [
        ([Member(name="a"), Member(name="a")], 64, 3, "give each node a name of its own"),
        ([Member(name="a", weight=0.0)], 64, 3, "take a positive number"),
        ([Member(name="a", weight=float("nan"))], 64, 3, "take a positive number"),
        ([Member(name="a")], 48, 3, "take a power of two"),
        ([Member(name="a")], 64, 0, "take at least 1"),
        ([Member(name="a")], 64, {"dc2": 3}, "name a data centre in replicas that has members"),
    ],
)
def test_impossible_settings_are_refused_with_the_mend(
    members: list[Member], partitions: int, replicas: Replicas, mend: str
) -> None:
    with pytest.raises(ValueError, match=mend):
        place(None, members, partitions=partitions, replicas=replicas)


def test_table_of_other_partitions_is_refused() -> None:
    table = place(None, cluster(3), partitions=32, replicas=3)
    with pytest.raises(ValueError, match="32 partitions, not 64"):
        place(table, cluster(3), partitions=64, replicas=3)


member_lists = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([0.1, 0.5, 1.0, 1.7, 3.0, 250.0])), min_size=1, max_size=8
).map(lambda drawn: [Member(name=f"n{i}", rack=f"r{rack}", weight=weight) for i, (rack, weight) in enumerate(drawn)])


@settings(max_examples=60, deadline=None)
@given(member_lists, st.sampled_from([1, 4, 16]), st.integers(1, 5), st.data())
def test_any_small_cluster_keeps_every_rule(
    members: list[Member], partitions: int, replicas: int, data: st.DataObject
) -> None:
    table = place(None, members, partitions=partitions, replicas=replicas)
    check_rules(table, members, replicas)
    check_load(table, members, replicas)
    gone = data.draw(st.sampled_from(members))
    rest = [member for member in members if member is not gone]
    if rest:
        narrower = place(table, rest, partitions=partitions, replicas=replicas)
        check_rules(narrower, rest, replicas)
        # A table names who holds something: without any trace of who went, idle members look like newcomers.
        if any(gone.name in names for names in table):
            check_removal(table, narrower, rest, gone.name, replicas)
        again = place(narrower, members, partitions=partitions, replicas=replicas)
        check_rules(again, members, replicas)
        if all(any(member.name in names for names in narrower) for member in rest):
            check_addition(narrower, again, members, gone, replicas)
