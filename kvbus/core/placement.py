"""Which nodes hold which partition: ``place(previous, members)``.

The rules, the first before the last:

1. Each partition has N distinct nodes (all of them where there are fewer than N), the asked number in each data centre.
2. They are in distinct racks where there are enough, and else spread over the racks as evenly as can be.
3. A node that comes receives replicas and nobody else does; of a node that goes only its own replicas move.
4. Bounded load: a node holds at most max(⌈share⌉, ⌊1.10·share⌋) replicas of its weighted share, or, where rules 1 and 2
   rule that out, the proven optimum: :mod:`kvbus.core.load_bound` says how both are computed, :func:`load_bounds`
   returns them. Where rule 3 leaves no way to keep it (a removed node's replicas whose only legal takers are full),
   the node with the least ratio of load to share takes one more; the next call with the same members mends that.
5. Each node is first in preference in its proportion (:mod:`kvbus.core.preference`).

The cold walk (``previous is None``) goes clockwise from each partition and passes nodes that have their quota. Later
tables start from the previous one. A newcomer takes ⌊share⌋ replicas, and at most 1.2 times that where more is needed
to bring the others under their bounds; a member that held nothing counts as one. Where nodes come as others go, they
take over the replicas of those; the next call with the same members evens out the rest. With the same set of names
(new weights, racks or numbers of replicas), as few replicas move as bring every node between ⌊0.9·share⌋ and its bound.

Same arguments, same table: neither the order of ``members`` nor the process's hash seed matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor, inf, lcm

from kvbus.core.assignment import Assignment, anything
from kvbus.core.load_bound import LoadPlan, RackRule, load_plan, rack_rule
from kvbus.core.preference import spread_firsts
from kvbus.core.ring import Ring, partition_position, partition_shift
from kvbus.core.types import Partition

Table = tuple[tuple[str, ...], ...]
"""By partition, the names of its replicas in preference order."""

LEAST_OF_SHARE = Fraction(9, 10)
MOST_OF_LEAST_MOVES = Fraction(12, 10)


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A node that may hold replicas; ``weight`` (> 0) is its capacity beside the others'."""

    name: str
    dc: str = "dc1"
    rack: str = "r1"
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class LoadBound:
    """A node's weighted share of all replicas, the fairest share that the rack rule leaves it, and its bound."""

    share: float
    ruled_share: float
    bound: int


def place(
    previous: Table | None, members: Sequence[Member], *, partitions: int, replicas: int | Mapping[str, int]
) -> Table:
    """Lay the replicas of every partition on members; see the module's rules.

    ``replicas`` is the number over all members, or the number in each data centre: then a data centre that is not
    named holds nothing.

    Raises:
        ValueError: a setting is impossible, two members share a name, or ``previous`` has other partitions.
    """
    groups = _groups(members, partitions, replicas)
    if previous is not None and len(previous) != partitions:
        raise ValueError(
            f"the previous table has {len(previous)} partitions, not {partitions}: their number is fixed for life"
        )
    names = [name for group in groups for name in group.names]
    number = {name: index for index, name in enumerate(names)}
    before = dict.fromkeys(name for row in previous or () for name in row)
    orders: list[list[int]] = [[] for _ in range(partitions)]
    for group in groups:
        assignment = _GroupPlacement(group, previous, partitions).run(is_same=before.keys() == number.keys())
        for partition, holders in enumerate(assignment.holders):
            orders[partition] += [number[group.names[node]] for node in holders]
    if previous is not None:
        for partition, order in enumerate(orders):
            rank = {name: index for index, name in enumerate(previous[partition])}
            order.sort(key=lambda node: rank.get(names[node], len(rank)))
    spread_firsts(orders, len(names))
    return tuple(tuple(names[node] for node in order) for order in orders)


def load_bounds(
    members: Sequence[Member], *, partitions: int, replicas: int | Mapping[str, int]
) -> dict[str, LoadBound]:
    """Return the share and the bound of each member that holds replicas, by name.

    Raises:
        ValueError: as for :func:`place`.
    """
    return {
        name: LoadBound(float(group.plan.shares[node]), float(group.plan.ruled_shares[node]), group.plan.bounds[node])
        for group in _groups(members, partitions, replicas)
        for node, name in enumerate(group.names)
    }


@dataclass(frozen=True, slots=True)
class _Group:
    """The members among which N replicas are laid, sorted by name; ``racks`` and ``plan`` go by their index."""

    names: tuple[str, ...]
    weights: tuple[int, ...]
    racks: tuple[int, ...]
    rule: RackRule
    replicas: int
    plan: LoadPlan


def _groups(members: Sequence[Member], partitions: int, replicas: int | Mapping[str, int]) -> list[_Group]:
    partition_shift(partitions)
    ordered = sorted(members, key=lambda member: member.name)
    for member, following in pairwise(ordered):
        if member.name == following.name:
            raise ValueError(f"two members are called {member.name!r}: give each node a name of its own")
    for member in ordered:
        if not 0 < member.weight < inf:
            raise ValueError(
                f"weight = {member.weight} of {member.name!r}: take a positive number, 1.0 for a usual node"
            )
    if isinstance(replicas, int):
        wanted = [(ordered, replicas)]
    else:
        wanted = [([member for member in ordered if member.dc == dc], replicas[dc]) for dc in sorted(replicas)]
    if any(count < 1 for _, count in wanted):
        raise ValueError(f"replicas = {replicas}: take at least 1; leave out a data centre that is to hold nothing")
    groups = [_group(mine, partitions, count) for mine, count in wanted if mine]
    if not groups:
        raise ValueError("no member may hold a replica: name a data centre in replicas that has members")
    return groups


def _group(members: Sequence[Member], partitions: int, replicas: int) -> _Group:
    exact = [Fraction(str(member.weight)) for member in members]
    scale = lcm(*(weight.denominator for weight in exact))
    weights = tuple(int(weight * scale) for weight in exact)
    places = sorted(dict.fromkeys((member.dc, member.rack) for member in members))
    racks = tuple(places.index((member.dc, member.rack)) for member in members)
    count = min(replicas, len(members))
    rule = rack_rule([racks.count(rack) for rack in range(len(places))], count)
    plan = load_plan(weights, racks, rule, partitions, count)
    return _Group(tuple(member.name for member in members), weights, racks, rule, count, plan)


class _GroupPlacement:
    """Works out one group's table: evict what may not stay, fill what is open, load newcomers or rebalance.

    A fresh replica is one that this call placed: it alone may be moved about while open slots are filled.
    """

    def __init__(self, group: _Group, previous: Table | None, partitions: int) -> None:
        self._group = group
        self._plan = group.plan
        self._partitions = partitions
        self._count = len(group.names)
        self._ring = Ring(dict(zip(group.names, group.weights, strict=True)))
        self._state = Assignment(partitions, group.replicas, group.racks, group.rule)
        number = {name: node for node, name in enumerate(group.names)}
        self._before: list[dict[int, None]] = [
            {number[name]: None for name in names if name in number} for names in previous or [()] * partitions
        ]
        self._number = number

    def run(self, *, is_same: bool) -> Assignment:
        """Return the finished assignment; ``is_same`` says that no node of any group comes or goes."""
        for partition, nodes in enumerate(self._before):
            for node in nodes:
                self._state.add(partition, node)
        newcomers = [node for node in range(self._count) if not self._state.held[node]]
        is_short = any(self._state.open_slots(partition) > 0 for partition in range(self._partitions))
        self._evict()
        self._fill()
        if newcomers and not is_short:
            self._load_newcomers(newcomers)
        elif is_same:
            self._rebalance()
        return self._state

    def _surplus(self, node: int) -> Fraction:
        return self._state.load(node) - self._plan.ruled_shares[node]

    def _is_fresh(self, partition: int, node: int) -> bool:
        return node not in self._before[partition]

    def _evict(self) -> None:
        for partition in range(self._partitions):
            while nodes := self._state.misplaced(partition):
                self._state.drop(partition, max(nodes, key=lambda node: (self._surplus(node), node)))

    def _fill(self) -> None:
        """Fill the open slots, one of each partition in turn: by the walk up to the quotas, else by a path."""
        walks: dict[int, list[int]] = {}
        while waiting := [part for part in range(self._partitions) if self._state.open_slots(part)]:
            for partition in waiting:
                if partition not in walks:
                    position = partition_position(Partition(partition), self._partitions)
                    walks[partition] = [self._number[name] for name in self._ring.walk(position)]
                if self._fill_by_walk(partition, walks[partition]):
                    continue
                if not self._state.fill(partition, self._plan.quotas, self._is_fresh):
                    self._fill_beyond_quotas(partition)
        self._order_by_walk(walks)

    def _fill_by_walk(self, partition: int, walk: Sequence[int]) -> bool:
        for node in walk:
            if self._state.load(node) < self._plan.quotas[node] and self._state.may_fill(partition, node):
                self._state.add(partition, node)
                return True
        return False

    def _fill_beyond_quotas(self, partition: int) -> None:
        """Let a node take one more that stays within its bound or tolerance, or else has the least load to share."""
        plan = self._plan

        def cost(node: int) -> tuple[bool, bool, Fraction, int]:
            load = self._state.load(node) + 1
            return load > plan.tolerances[node], load > plan.bounds[node], load / plan.shares[node], node

        taker = min(self._state.reach(partition, self._is_fresh), key=cost)
        limits = [0] * self._count
        limits[taker] = self._state.load(taker) + 1
        self._state.fill(partition, limits, self._is_fresh)

    def _order_by_walk(self, walks: Mapping[int, Sequence[int]]) -> None:
        """Let the replicas that came in this call follow the others in the order of their walk."""
        for partition, walk in walks.items():
            rank = {node: index for index, node in enumerate(walk)}
            before, holders = self._before[partition], self._state.holders[partition]
            kept = [node for node in before if node in holders]
            fresh = sorted((node for node in holders if node not in before), key=rank.__getitem__)
            self._state.holders[partition] = dict.fromkeys(kept + fresh)

    def _load_newcomers(self, newcomers: Sequence[int]) -> None:
        """Give each newcomer its share from those who have most to spare, then bring the others under their bounds."""
        arrived = dict.fromkeys(newcomers)
        plan = self._plan
        most = [self._partitions] * self._count
        for node in newcomers:
            fair = max(1, floor(plan.ruled_shares[node]))
            self._take(node, min(plan.bounds[node], fair), arrived)
            most[node] = floor(MOST_OF_LEAST_MOVES * fair)
        self._relieve_by_newcomers(arrived, most)

    def _relieve_by_newcomers(self, arrived: Mapping[int, None], most: Sequence[int]) -> None:
        """Move replicas to newcomers, up to ``most``, until nobody is over its bound or the greatest ratio is least."""
        plan, state = self._plan, self._state
        usual = [min(pair) for pair in zip(plan.bounds, most, strict=True)]

        def takes(partition: int, node: int) -> bool:
            return node in arrived or node in self._before[partition]

        over = [node for node in range(self._count) if state.load(node) > plan.bounds[node]]
        while over:
            node = max(over, key=lambda node: (state.load(node) / plan.shares[node], node))
            ratio = state.load(node) / plan.shares[node]
            limits = [
                min(most[other], max(plan.tolerances[other], ceil(ratio * plan.shares[other]) - 1))
                for other in range(self._count)
            ]
            is_helped = state.relieve([node], usual, anything, takes) or (
                state.load(node) > plan.tolerances[node] and state.relieve([node], limits, anything, takes)
            )
            if not is_helped or state.load(node) <= plan.bounds[node]:
                over.remove(node)

    def _take(self, newcomer: int, target: int, arrived: Mapping[int, None]) -> None:
        near = sorted(
            range(self._partitions),
            key=lambda part: self._ring.distance(
                partition_position(Partition(part), self._partitions), self._group.names[newcomer]
            ),
        )
        rank = {partition: index for index, partition in enumerate(near)}
        givers = [node for node in range(self._count) if node not in arrived]
        while givers and self._state.load(newcomer) < target:
            giver = max(givers, key=lambda node: (self._surplus(node), node))
            if self._surplus(giver) <= self._surplus(newcomer) + 1:
                return
            offers = [part for part in self._state.held[giver] if self._state.may_replace(part, giver, newcomer)]
            if not offers:
                givers.remove(giver)
                continue
            partition = min(offers, key=rank.__getitem__)
            self._state.drop(partition, giver)
            self._state.add(partition, newcomer)

    def _rebalance(self) -> None:
        plan, state = self._plan, self._state
        for node in range(self._count):
            while state.load(node) > plan.bounds[node]:
                is_relieved = state.relieve([node], plan.quotas, anything, anything)
                assert is_relieved, "the quotas make a legal table, so a path to it exists"
        for node in range(self._count):
            least = min(plan.quotas[node], floor(plan.ruled_shares[node] * LEAST_OF_SHARE))
            limits = [0] * self._count
            limits[node] = least
            while state.load(node) < least:
                spare = [giver for giver in range(self._count) if state.load(giver) > plan.quotas[giver]]
                spare.sort(key=self._surplus, reverse=True)
                is_relieved = state.relieve(spare, limits, anything, anything)
                assert is_relieved, "the quotas make a legal table, so a path to it exists"
