"""What placement can do, found without the code under test: fair shares and a maximum flow over legal tables."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from math import ceil, floor

from kvbus.core.placement import Member, Table

Replicas = int | Mapping[str, int]


def groups_of(members: Sequence[Member], replicas: Replicas) -> list[tuple[list[Member], int]]:
    if isinstance(replicas, int):
        return [(list(members), min(replicas, len(members)))]
    split = [([m for m in members if m.dc == dc], count) for dc, count in replicas.items()]
    return [(mine, min(count, len(mine))) for mine, count in split if mine]


def rack_of(member: Member) -> tuple[str, str]:
    return (member.dc, member.rack)


def rack_limits(mine: Sequence[Member], replicas: int) -> dict[tuple[str, str], tuple[int, int]]:
    """Deal the replicas out to the racks one by one, emptiest first: each rack's least and most of a partition."""
    sizes = Counter(map(rack_of, mine))
    dealt = dict.fromkeys(sizes, 0)
    for _ in range(replicas):
        open_racks = [rack for rack in sizes if dealt[rack] < sizes[rack]]
        dealt[min(open_racks, key=lambda rack: dealt[rack])] += 1
    top = max(dealt.values())
    is_even = all(dealt[rack] in (top, sizes[rack]) for rack in sizes)
    return {rack: (min(size, top if is_even else top - 1), min(size, top)) for rack, size in sizes.items()}


def fair_shares(mine: Sequence[Member], partitions: int, replicas: int, *, with_racks: bool) -> dict[str, float]:
    """Find by bisection the level of Σ level·weight, clipped at the partitions and, if asked, at the racks' limits."""
    limits = rack_limits(mine, replicas) if with_racks else {}

    def shares(level: float, some: Sequence[Member]) -> dict[str, float]:
        return {m.name: min(partitions, level * m.weight) for m in some}

    def bisect(goal: float, total_at: Callable[[float], float]) -> float:
        low, high = 0.0, 1e9
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (low, middle) if total_at(middle) >= goal else (middle, high)
        return high

    def total_share(some: Sequence[Member], level: float) -> float:
        return sum(shares(level, some).values())

    def rack_total(rack: tuple[str, str], level: float) -> float:
        least, most = limits[rack]
        total = sum(shares(level, [m for m in mine if rack_of(m) == rack]).values())
        return min(most * partitions, max(least * partitions, total))

    if not with_racks:
        return shares(bisect(partitions * replicas, lambda level: sum(shares(level, mine).values())), mine)
    level = bisect(partitions * replicas, lambda level: sum(rack_total(rack, level) for rack in limits))
    result: dict[str, float] = {}
    for rack in limits:
        some = [m for m in mine if rack_of(m) == rack]
        result |= shares(bisect(rack_total(rack, level) - 1e-9, partial(total_share, some)), some)
    return result


def table_exists(
    mine: Sequence[Member],
    replicas: int,
    caps: Mapping[str, int],
    fixed: Sequence[Sequence[str]],
    free: Sequence[Sequence[str]],
) -> bool:
    """Say by a maximum flow whether a legal table within ``caps`` holds ``fixed`` and takes the rest from ``free``."""
    rack_by_name = {m.name: rack_of(m) for m in mine}
    limits = rack_limits(mine, replicas)
    capacity: dict[object, dict[object, int]] = {"s": {}, "t": {}}

    def edge(start: object, end: object, amount: int) -> None:
        capacity.setdefault(start, {})[end] = amount
        capacity.setdefault(end, {}).setdefault(start, 0)

    need = 0
    for partition, names in enumerate(fixed):
        counts = Counter(rack_by_name[name] for name in names)
        lacking = {rack: max(0, least - counts[rack]) for rack, (least, _) in limits.items()}
        open_slots = replicas - len(names)
        if sum(lacking.values()) > open_slots or any(counts[rack] > limits[rack][1] for rack in limits):
            return False
        need += open_slots
        edge("s", partition, open_slots - sum(lacking.values()))
        for rack, (_, most) in limits.items():
            edge("s", (partition, rack), lacking[rack])
            edge(partition, (partition, rack), most - counts[rack] - lacking[rack])
        for name in free[partition]:
            if name not in names:
                edge((partition, rack_by_name[name]), name, 1)
    held = Counter(name for names in fixed for name in names)
    for name, cap in caps.items():
        edge(name, "t", cap - held[name])
    return max_flow(capacity) == need


def max_flow(capacity: dict[object, dict[object, int]]) -> int:
    total = 0
    while True:
        depth: dict[object, int] = {"s": 0}
        queue: deque[object] = deque(["s"])
        while queue:
            vertex = queue.popleft()
            for target, left in capacity[vertex].items():
                if left and target not in depth:
                    depth[target] = depth[vertex] + 1
                    queue.append(target)
        if "t" not in depth:
            return total
        rest = {vertex: list(capacity[vertex]) for vertex in depth}

        def push(vertex: object, depth: dict[object, int] = depth, rest: dict[object, list[object]] = rest) -> bool:
            if vertex == "t":
                return True
            while rest[vertex]:
                target = rest[vertex][-1]
                if capacity[vertex][target] and depth.get(target) == depth[vertex] + 1 and push(target):
                    capacity[vertex][target] -= 1
                    capacity[target][vertex] += 1
                    return True
                rest[vertex].pop()
            return False

        while push("s"):
            total += 1


def usual_bound(share: float) -> int:
    return max(ceil(round(share, 6)), floor(round(1.1 * share, 6)))


def check_load(
    table: Table,
    members: Sequence[Member],
    replicas: Replicas,
    fixed: Sequence[Sequence[str]] | None = None,
    free: Sequence[Sequence[str]] | None = None,
    most: Mapping[str, int] | None = None,
) -> int:
    """Assert that loads keep the usual bound or that no table keeps less; return how many nodes needed the proof.

    ``fixed`` are the replicas that must stay (they excuse no others), ``free`` who may hold each partition besides,
    ``most`` how many replicas a node may take at all.
    Where either binds, a node may also hold the fairest share that the racks allow, rounded up.
    """
    loads = Counter(name for names in table for name in names)
    proven = 0
    for mine, count in groups_of(members, replicas):
        shares = fair_shares(mine, len(table), count, with_racks=False)
        bounds = {name: usual_bound(share) for name, share in shares.items()}
        held = Counter(name for names in fixed or () for name in names)
        excused = {name: max(bounds[name], held[name]) for name in shares}
        if free or fixed:
            ruled = fair_shares(mine, len(table), count, with_racks=True)
            excused = {name: max(excused[name], ceil(round(ruled[name], 6))) for name in shares}
        over = [name for name in shares if loads[name] > excused[name]]
        if not over:
            continue
        proven += len(over)
        worst = max(Fraction(loads[name]) / Fraction(shares[name]) for name in over) * (1 - Fraction(1, 10**9))
        caps = {name: max(bounds[name], held[name], floor(worst * Fraction(shares[name]))) for name in shares}
        caps |= {name: min(caps[name], limit) for name, limit in (most or {}).items() if name in caps}
        names = [m.name for m in mine]
        kept = [[name for name in row if name in shares] for row in fixed] if fixed else [[] for _ in table]
        choice = [[name for name in row if name in shares] for row in free] if free else [names for _ in table]
        assert not table_exists(mine, count, caps, kept, choice), f"{over} hold more than they need to"
    return proven
