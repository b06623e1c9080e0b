"""Who holds which partition while a table is being worked out: legal states only, moved by augmenting paths.

Nodes, racks and partitions are numbers of one group (see ``load_bound``). The rules that every state keeps: N distinct
nodes a partition at most, and each rack between its floor and its ceiling, counting slots that are still open.

A path is searched in the residual graph of the flow *partition → (partition, rack) → node*. So when no path is found,
no sequence of allowed moves whatever helps: the search decides what is possible, it does not guess.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from kvbus.core.load_bound import RackRule

Rule = Callable[[int, int], bool]
"""``(partition, node) -> bool``: may this replica be given up, or taken?"""


def anything(partition: int, node: int) -> bool:
    """Allow every move."""
    return True


class Assignment:
    """The replicas of one group: ``holders[partition]`` are nodes in order of arrival, ``held[node]`` partitions.

    ``racks`` gives each node's rack, ``rule`` each rack's floor and ceiling, ``replicas`` is N.
    """

    def __init__(self, partitions: int, replicas: int, racks: Sequence[int], rule: RackRule) -> None:
        self.holders: list[dict[int, None]] = [{} for _ in range(partitions)]
        self.held: list[dict[int, None]] = [{} for _ in racks]
        self._replicas = replicas
        self._racks = racks
        self._rule = rule
        self._rack_count = len(rule.floors)
        self._counts = [[0] * self._rack_count for _ in range(partitions)]
        self._any_floor = any(rule.floors)

    def load(self, node: int) -> int:
        """Return the number of replicas that ``node`` holds."""
        return len(self.held[node])

    def open_slots(self, partition: int) -> int:
        """Return how many replicas ``partition`` lacks."""
        return self._replicas - len(self.holders[partition])

    def add(self, partition: int, node: int) -> None:
        """Give a replica of ``partition`` to ``node``, which the caller guarantees has none."""
        self.holders[partition][node] = None
        self.held[node][partition] = None
        self._counts[partition][self._racks[node]] += 1

    def drop(self, partition: int, node: int) -> None:
        """Take the replica of ``partition`` away from ``node``."""
        del self.holders[partition][node]
        del self.held[node][partition]
        self._counts[partition][self._racks[node]] -= 1

    def may_fill(self, partition: int, node: int) -> bool:
        """Say whether ``node`` may take one of the open slots of ``partition``."""
        return node not in self.holders[partition] and self._rack_may_fill(partition, self._racks[node])

    def may_replace(self, partition: int, giver: int, taker: int) -> bool:
        """Say whether ``taker`` may hold ``partition`` in the place of ``giver``, which holds it."""
        return taker not in self.holders[partition] and self._may_swap(
            partition, self._racks[giver], self._racks[taker]
        )

    def misplaced(self, partition: int) -> list[int]:
        """Return the holders in racks that hold too much of ``partition``; any one of them has to go. Empty: none."""
        counts, floors, ceilings = self._counts[partition], self._rule.floors, self._rule.ceilings
        excess = max(counts[rack] - ceilings[rack] for rack in range(self._rack_count))
        if excess > 0:
            bad = [counts[rack] - ceilings[rack] == excess for rack in range(self._rack_count)]
        elif self.open_slots(partition) < self._deficit(partition):
            spare = max(counts[rack] - floors[rack] for rack in range(self._rack_count))
            bad = [counts[rack] - floors[rack] == spare for rack in range(self._rack_count)]
        else:
            return []
        return [node for node in self.holders[partition] if bad[self._racks[node]]]

    def fill(self, partition: int, limits: Sequence[int], gives: Rule) -> bool:
        """Fill one open slot of ``partition``, moving replicas that ``gives`` allows; False where nothing fits."""
        return self._augment([self._part(partition)], limits, gives, anything)

    def relieve(self, nodes: Iterable[int], limits: Sequence[int], gives: Rule, takes: Rule) -> bool:
        """Move one replica's worth of load from one of ``nodes`` to a node below its limit; False: impossible."""
        return self._augment(list(nodes), limits, gives, takes)

    def reach(self, partition: int, gives: Rule) -> list[int]:
        """Return the nodes of which one must take more if one more replica of ``partition`` is to find a place."""
        _, parents = self._search([self._part(partition)], [0] * len(self.held), gives, anything)
        return [vertex for vertex in parents if vertex < len(self.held)]

    def _part(self, partition: int) -> int:
        return len(self.held) + partition

    def _slot(self, partition: int, rack: int) -> int:
        return len(self.held) + len(self.holders) + partition * self._rack_count + rack

    def _deficit(self, partition: int) -> int:
        if not self._any_floor:
            return 0
        counts = self._counts[partition]
        return sum(floor - count for floor, count in zip(self._rule.floors, counts, strict=True) if count < floor)

    def _rack_may_fill(self, partition: int, rack: int) -> bool:
        count = self._counts[partition][rack]
        if count >= self._rule.ceilings[rack]:
            return False
        return count < self._rule.floors[rack] or self.open_slots(partition) > self._deficit(partition)

    def _may_swap(self, partition: int, giver: int, taker: int) -> bool:
        counts = self._counts[partition]
        return giver == taker or (
            counts[giver] > self._rule.floors[giver] and counts[taker] < self._rule.ceilings[taker]
        )

    def _augment(self, starts: Sequence[int], limits: Sequence[int], gives: Rule, takes: Rule) -> bool:
        end, parents = self._search(starts, limits, gives, takes)
        if end is None:
            return False
        path = [end]
        while (parent := parents[path[-1]]) is not None:
            path.append(parent)
        path.reverse()
        first_slot = self._slot(0, 0)
        changes: list[tuple[int, int | None, int]] = []
        giver: int | None = None
        partition = 0
        for vertex in path:
            if vertex >= first_slot:
                partition = (vertex - first_slot) // self._rack_count
            elif vertex < len(self.held):
                if vertex != path[0]:
                    changes.append((partition, giver, vertex))
                giver = vertex
        for partition, giver, _ in changes:
            if giver is not None:
                self.drop(partition, giver)
        for partition, _, taker in changes:
            self.add(partition, taker)
        return True

    def _search(
        self, starts: Sequence[int], limits: Sequence[int], gives: Rule, takes: Rule
    ) -> tuple[int | None, dict[int, int | None]]:
        """Search breadth first for a node below its limit; return it and every vertex reached with its parent."""
        parents: dict[int, int | None] = dict.fromkeys(starts)
        unseen: list[list[int]] = [[] for _ in range(self._rack_count)]
        for node, rack in enumerate(self._racks):
            if node not in parents:
                unseen[rack].append(node)
        queue = deque(starts)
        first_part, first_slot = self._part(0), self._slot(0, 0)
        while queue:
            vertex = queue.popleft()
            if vertex < first_part:
                targets: Iterator[int] = self._given(vertex, gives)
            elif vertex < first_slot:
                targets = self._racks_open(vertex - first_part, is_start=parents[vertex] is None)
            else:
                partition, rack = divmod(vertex - first_slot, self._rack_count)
                targets = self._takers(partition, rack, unseen[rack], takes)
            for target in targets:
                if target in parents:
                    continue
                parents[target] = vertex
                if target < first_part and len(self.held[target]) < limits[target]:
                    return target, parents
                queue.append(target)
        return None, parents

    def _given(self, node: int, gives: Rule) -> Iterator[int]:
        for partition in self.held[node]:
            if gives(partition, node):
                yield self._slot(partition, self._racks[node])

    def _racks_open(self, partition: int, *, is_start: bool) -> Iterator[int]:
        counts, ceilings = self._counts[partition], self._rule.ceilings
        for rack in range(self._rack_count):
            if self._rack_may_fill(partition, rack) if is_start else counts[rack] < ceilings[rack]:
                yield self._slot(partition, rack)

    def _takers(self, partition: int, rack: int, unseen: list[int], takes: Rule) -> Iterator[int]:
        """Yield the slot's possible takers, which leave ``unseen``, then the partition where the rack can spare it."""
        holders = self.holders[partition]
        taken = [node for node in unseen if node not in holders and takes(partition, node)]
        if taken:
            unseen[:] = [node for node in unseen if node in holders or not takes(partition, node)]
            yield from taken
        if self._counts[partition][rack] > self._rule.floors[rack]:
            yield self._part(partition)
