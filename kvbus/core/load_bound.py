"""How many replicas each node may hold: shares, bounds and quotas. Arithmetic only, exact.

One *group* is the set of nodes among which N replicas of each of Q partitions are laid (a data centre, or the whole
cluster). Three rules come before balance: a node holds a partition at most once; each partition has N replicas; and
they spread over racks as evenly as the racks' sizes allow, which with at least N racks means N distinct racks.

A vector of loads belongs to some table exactly when it sums to Q·N, no load is above Q and each rack's loads sum to
between Q·floor and Q·ceiling of that rack: the rules form a laminar matroid, whose Q-fold sums decompose into Q
bases. So what is possible is known without a search, and the bound below is reached, not hoped for:

- *share*: Q·N spread by weight, clipped at Q (water filling).
- *bound*: max(⌈share⌉, ⌊1.10·share⌋). Where the rack rule rules that out, bounds rise one by one, always the one with
  the least ratio of bound to share, until a table exists: no legal table has a smaller greatest ratio. (Rack mates
  then share the ratio reached.)
- *ruled share*: the fairest division of Q·N by weight that the rules allow; equal to the share where racks do not
  bind. A rack that must hold more or less than its weight holds each of its nodes to 1.10 of the ruled share.
- *quota*: the ruled share rounded to whole replicas within the bound; what placement aims at.

Source: Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2018 (the bound 1 + ε; here ε = 0.10).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from heapq import heapify, heappop, heappush, heapreplace
from math import ceil, floor

SLACK = Fraction(11, 10)


@dataclass(frozen=True, slots=True)
class RackRule:
    """The least and the most replicas of one partition that each rack may hold, by rack number."""

    floors: tuple[int, ...]
    ceilings: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """Per node of a group: its weighted share, the fairest share that the rules allow, its bound and its quota."""

    shares: tuple[Fraction, ...]
    ruled_shares: tuple[Fraction, ...]
    bounds: tuple[int, ...]
    quotas: tuple[int, ...]
    tolerances: tuple[int, ...]
    """What a node may hold at need: its usual bound or its ruled share, rounded up, whichever is more."""


def rack_rule(sizes: Sequence[int], replicas: int) -> RackRule:
    """Spread ``replicas`` copies of a partition over racks of ``sizes`` nodes as evenly as they allow.

    The caller guarantees ``replicas <= sum(sizes)``.
    """
    level = 0
    while level < max(sizes) and sum(min(level + 1, size) for size in sizes) <= replicas:
        level += 1
    exact = sum(min(level, size) for size in sizes) == replicas
    top = level if exact else level + 1
    return RackRule(tuple(min(level, size) for size in sizes), tuple(min(top, size) for size in sizes))


def load_plan(weights: Sequence[int], racks: Sequence[int], rule: RackRule, partitions: int, replicas: int) -> LoadPlan:
    """Work out shares, bounds and quotas of one group.

    ``weights`` are the nodes' whole-number weights (> 0), ``racks`` their rack numbers, both by node. The caller
    guarantees ``replicas <= len(weights)``.
    """
    total = partitions * replicas
    level = _level(weights, partitions, total)
    shares = [min(Fraction(partitions), level * weight) for weight in weights]
    rooms = _rooms(weights, racks, rule, partitions)
    ruled = _ruled_shares(weights, rooms, partitions, total)
    bounds = [min(partitions, _bound(share)) for share in shares]
    tolerances = tuple(max(bound, ceil(share)) for bound, share in zip(bounds, ruled, strict=True))
    _raise(bounds, shares, rooms, partitions, total)
    _tighten(bounds, ruled, rooms, total)
    quotas = _quotas(bounds, ruled, rooms, total)
    return LoadPlan(tuple(shares), tuple(ruled), tuple(bounds), tuple(quotas), tolerances)


@dataclass(frozen=True, slots=True)
class _Room:
    """One rack: its nodes, and the least and the most replicas that it holds of all partitions together."""

    nodes: tuple[int, ...]
    least: int
    most: int


def _rooms(weights: Sequence[int], racks: Sequence[int], rule: RackRule, partitions: int) -> list[_Room]:
    nodes: list[list[int]] = [[] for _ in rule.floors]
    for node in range(len(weights)):
        nodes[racks[node]].append(node)
    return [
        _Room(tuple(nodes[rack]), partitions * rule.floors[rack], partitions * rule.ceilings[rack])
        for rack in range(len(nodes))
    ]


def _bound(share: Fraction) -> int:
    return max(ceil(share), floor(SLACK * share))


def _level(weights: Sequence[int], limit: int, total: int | Fraction) -> Fraction:
    """Return the level at which ``Σ min(limit, level · weight)`` reaches ``total``."""
    rest, weight_sum = Fraction(total), sum(weights)
    level = Fraction(0)
    for weight in sorted(weights, reverse=True):
        level = rest / weight_sum
        if level * weight <= limit:
            return level
        rest -= limit
        weight_sum -= weight
    return level


def _ruled_shares(weights: Sequence[int], rooms: Sequence[_Room], limit: int, total: int) -> list[Fraction]:
    """Divide ``total`` by weight as fairly as the racks' least and most allow: one common level, clamped by rack."""
    rack_weights = [[weights[node] for node in room.nodes] for room in rooms]

    def held(rack: int, level: Fraction) -> Fraction:
        wish = sum((min(Fraction(limit), level * weight) for weight in rack_weights[rack]), Fraction(0))
        return min(Fraction(rooms[rack].most), max(Fraction(rooms[rack].least), wish))

    def all_held(level: Fraction) -> Fraction:
        return sum((held(rack, level) for rack in range(len(rooms))), Fraction(0))

    kinks = [Fraction(0), *(Fraction(limit, weight) for weight in dict.fromkeys(weights))]
    for room, mine in zip(rooms, rack_weights, strict=True):
        kinks += [_level(mine, limit, room.least), _level(mine, limit, room.most)]
    kinks = sorted(dict.fromkeys(kinks))
    low, high = 0, len(kinks) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if all_held(kinks[middle]) >= total else (middle + 1, high)
    level = kinks[low]
    if low > 0:
        below, here = all_held(kinks[low - 1]), all_held(level)
        level = kinks[low - 1] + (level - kinks[low - 1]) * (total - below) / (here - below)
    shares = [Fraction(0)] * len(weights)
    for rack, room in enumerate(rooms):
        own = _level(rack_weights[rack], limit, held(rack, level))
        for node in room.nodes:
            shares[node] = min(Fraction(limit), own * weights[node])
    return shares


def _capacity(bounds: Sequence[int], rooms: Sequence[_Room]) -> int:
    """Return how many replicas the nodes can hold together within ``bounds`` and their racks' most."""
    return sum(min(room.most, sum(bounds[node] for node in room.nodes)) for room in rooms)


def _raise(bounds: list[int], shares: Sequence[Fraction], rooms: Sequence[_Room], limit: int, total: int) -> None:
    """Raise bounds, least ratio to the share first, until each rack reaches its least and all together the total."""
    before = list(bounds)
    for room in rooms:
        _raise_within([room], room.least, bounds, shares, limit)
    _raise_within(rooms, total, bounds, shares, limit)
    for room in rooms:
        ratio = max((bounds[node] / shares[node] for node in room.nodes if bounds[node] > before[node]), default=SLACK)
        for node in room.nodes:
            bounds[node] = max(bounds[node], min(limit, floor(ratio * shares[node])))


def _raise_within(
    rooms: Sequence[_Room], wanted: int, bounds: list[int], shares: Sequence[Fraction], limit: int
) -> None:
    lacking = wanted - _capacity(bounds, rooms)
    if lacking <= 0:
        return
    sums = [sum(bounds[node] for node in room.nodes) for room in rooms]
    heap = [((bounds[node] + 1) / shares[node], node, rack) for rack, room in enumerate(rooms) for node in room.nodes]
    heapify(heap)
    while lacking > 0:
        _, node, rack = heap[0]
        if bounds[node] >= limit or sums[rack] >= rooms[rack].most:
            heappop(heap)
            continue
        bounds[node] += 1
        sums[rack] += 1
        lacking -= 1
        heapreplace(heap, ((bounds[node] + 1) / shares[node], node, rack))


def _tighten(bounds: list[int], ruled: Sequence[Fraction], rooms: Sequence[_Room], total: int) -> None:
    """Hold the nodes of each rack to 1.10 of their ruled share where a table still exists within that."""
    for room in rooms:
        tight = list(bounds)
        for node in room.nodes:
            tight[node] = min(bounds[node], _bound(ruled[node]))
        if sum(tight[node] for node in room.nodes) >= room.least and _capacity(tight, rooms) >= total:
            bounds[:] = tight


def _quotas(bounds: Sequence[int], ruled: Sequence[Fraction], rooms: Sequence[_Room], total: int) -> list[int]:
    """Round the ruled shares to whole replicas, largest remainder first, within bounds and racks."""
    quotas = [min(floor(share), bound) for share, bound in zip(ruled, bounds, strict=True)]
    sums = [sum(quotas[node] for node in room.nodes) for room in rooms]
    heap: list[tuple[int, Fraction, int, int]] = []

    def offer(node: int, rack: int) -> None:
        if quotas[node] < bounds[node] and sums[rack] < rooms[rack].most:
            spare = int(sums[rack] >= rooms[rack].least)
            heappush(heap, (spare, quotas[node] - ruled[node], node, rack))

    for rack, room in enumerate(rooms):
        for node in room.nodes:
            offer(node, rack)
    lacking = total - sum(quotas)
    while lacking > 0:
        spare, _, node, rack = heappop(heap)
        if sums[rack] >= rooms[rack].most:
            continue
        if not spare and sums[rack] >= rooms[rack].least:
            offer(node, rack)
            continue
        quotas[node] += 1
        sums[rack] += 1
        lacking -= 1
        offer(node, rack)
    return quotas
