"""Who comes first in each partition's preference order: every node about as often as its load asks.

The first replica coordinates and, in CP, leads; so the firsts are a load of their own. A node that holds ``x`` replicas
of N each is first ⌊x/N⌋ or ⌈x/N⌉ times: giving each holder 1/N of each partition meets that in fractions, so, the
problem being a flow, whole numbers meet it too and augmenting paths find them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


def spread_firsts(orders: list[list[int]], nodes: int) -> None:
    """Put another holder first where a node is first too often or too seldom; the rest of an order stays.

    ``orders[partition]`` lists the holders, numbers below ``nodes``, in preference order; all have the same length.
    """
    replicas = len(orders[0])
    loads = [0] * nodes
    led: list[dict[int, None]] = [{} for _ in range(nodes)]
    for partition, order in enumerate(orders):
        led[order[0]][partition] = None
        for node in order:
            loads[node] += 1
    least = [load // replicas for load in loads]
    most = [-(-load // replicas) for load in loads]
    for node in range(nodes):
        while len(led[node]) > most[node]:
            _hand_on([node], most, orders, led)
    for node in range(nodes):
        while len(led[node]) < least[node]:
            wanted = [0] * nodes
            wanted[node] = least[node]
            spare = [giver for giver in range(nodes) if len(led[giver]) > least[giver]]
            _hand_on(spare, wanted, orders, led)


def _hand_on(starts: Sequence[int], limits: Sequence[int], orders: list[list[int]], led: list[dict[int, None]]) -> None:
    """Move one first place from one of ``starts`` to a node below its limit, along a shortest path."""
    came: dict[int, tuple[int, int] | None] = dict.fromkeys(starts)
    queue = deque(starts)
    end: int | None = None
    while queue and end is None:
        giver = queue.popleft()
        for partition, taker in ((part, other) for part in led[giver] for other in orders[part][1:]):
            if taker in came:
                continue
            came[taker] = (giver, partition)
            if len(led[taker]) < limits[taker]:
                end = taker
                break
            queue.append(taker)
    assert end is not None, "a flow with these limits exists, so a path does"
    step = came[end]
    while step is not None:
        giver, partition = step
        del led[giver][partition]
        led[end][partition] = None
        orders[partition].remove(end)
        orders[partition].insert(0, end)
        end, step = giver, came[giver]
