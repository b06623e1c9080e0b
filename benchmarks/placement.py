"""Print how evenly ``kvbus.core.placement`` lays replicas and what one more and one less node move.

Run with ``python -m benchmarks.placement``. Shares, loads and bounds count replicas. The load columns show the node
with the greatest ratio of load to its bound; "least" is what must move: the newcomer's fair share, rounded down, or the
replicas of the node that goes.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from time import perf_counter

from rich.console import Console
from rich.table import Table as Grid

from kvbus.core.placement import Member, Table, load_bounds, place

WEIGHTS: Mapping[str, Sequence[float]] = {"equal": (1.0,), "mixed": (1.0, 2.0, 0.5, 1.0, 4.0)}
SIZES = ((3, 64), (4, 64), (5, 64), (7, 64), (12, 64), (24, 256), (50, 256), (64, 1024), (100, 1024))
Replicas = int | Mapping[str, int]


def cluster(count: int, racks: int, weights: Sequence[float], replicas: Replicas) -> list[Member]:
    """Return members dealt out to data centres, racks and weights in turn."""
    dcs = 1 if isinstance(replicas, int) else len(replicas)
    return [
        Member(
            name=f"n{index}",
            dc=f"dc{index % dcs + 1}",
            rack=f"r{index // dcs % racks + 1}",
            weight=weights[index // dcs % len(weights)],
        )
        for index in range(count)
    ]


def fullest(table: Table, members: Sequence[Member], replicas: Replicas) -> tuple[str, str, str, str]:
    """Return share, load, load/share and bound of the node whose load comes nearest to, or most above, its bound."""
    bounds = load_bounds(members, partitions=len(table), replicas=replicas)
    loads = Counter(name for names in table for name in names)
    name = max(bounds, key=lambda name: (loads[name] / bounds[name].bound, loads[name]))
    bound = bounds[name]
    mark = (
        " over"
        if loads[name] > bound.bound
        else " (racks)"
        if bound.bound > max(bound.share + 1, bound.share * 1.1)
        else ""
    )
    return f"{bound.share:.1f}", str(loads[name]), f"{loads[name] / bound.share:.2f}", f"{bound.bound}{mark}"


def moved(before: Table, after: Table) -> int:
    """Return how many replicas of ``after`` were not where they are in ``before``."""
    return sum(name not in old for old, new in zip(before, after, strict=True) for name in new)


def measure(count: int, partitions: int, racks: int, weights: str, replicas: Replicas) -> list[str]:
    """Return one row: a cold table, then one node more, then the first node gone."""
    everyone = cluster(count + 1, racks, WEIGHTS[weights], replicas)
    members, rest = everyone[:-1], everyone[1:]
    start = perf_counter()
    cold = place(None, members, partitions=partitions, replicas=replicas)
    placed = perf_counter()
    wider = place(cold, everyone, partitions=partitions, replicas=replicas)
    added = perf_counter()
    narrower = place(wider, rest, partitions=partitions, replicas=replicas)
    fair = load_bounds(everyone, partitions=partitions, replicas=replicas)[everyone[-1].name].ruled_share
    own = sum(everyone[0].name in names for names in wider)
    after = fullest(narrower, rest, replicas)
    return [
        str(count),
        str(partitions),
        str(replicas) if isinstance(replicas, int) else "+".join(map(str, replicas.values())),
        weights,
        str(racks),
        *fullest(cold, members, replicas),
        f"{moved(cold, wider)}/{max(1, int(fair))}",
        f"{moved(wider, narrower)}/{own}",
        f"{after[1]} of {after[3]}",
        f"{(placed - start) * 1e3:.0f}",
        f"{(added - placed) * 1e3:.0f}",
    ]


def main() -> None:
    """Print the table."""
    grid = Grid(title="placement: load, bound and moves", caption="(racks): the rack rule asks for more than the share")
    for heading in ("nodes", "Q", "N", "weights", "racks", "share", "load", "load/share", "bound"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for heading in ("add: moved/least", "remove: moved/own", "then load", "cold ms", "add ms"):
        grid.add_column(heading, justify="right", no_wrap=True)
    plans: list[tuple[Replicas, int]] = [(3, 1), (3, 3)]
    for (count, partitions), weights, (replicas, racks) in product(SIZES, WEIGHTS, plans):
        grid.add_row(*measure(count, partitions, racks, weights, replicas))
    for count, weights in product((6, 10, 24, 50), WEIGHTS):
        grid.add_row(*measure(count, 256, 3, weights, {"dc1": 3, "dc2": 2}))
    Console(width=None if sys.stdout.isatty() else 180).print(grid)


if __name__ == "__main__":
    main()
