"""Quorum arithmetic as a value: who must answer, who has, and whether that can still be reached.

Nodes are bits of a mask. A requirement is a list of clauses ``(mask, count)``: at least ``count`` answers from
nodes of ``mask``. ``w = 2`` is one clause over all replicas; ``each_quorum`` is one for each data centre.
Source: Dynamo (SOSP 2007) section 4.5; semantics "Targets and demands".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kvbus.core.types import NodeIndex
from kvbus.errors import BadRequest, ClientError, NoQuorum

Clause = tuple[int, int]

LEVELS = ("one", "quorum", "all", "local_one", "local_quorum", "each_quorum")


def mask_of(nodes: Sequence[NodeIndex]) -> int:
    """Return the nodes as bits."""
    mask = 0
    for node in nodes:
        mask |= 1 << node
    return mask


class ReplicaSet(NamedTuple):
    """The replicas of some partitions, in no order: ``nodes`` sorted, ``mask`` as bits, ``dc_masks`` a data centre."""

    nodes: tuple[NodeIndex, ...]
    mask: int
    dc_masks: Mapping[str, int]

    def without(self, node: NodeIndex) -> ReplicaSet:
        """Return the other replicas."""
        others = ~(1 << node)
        return ReplicaSet(
            tuple(each for each in self.nodes if each != node),
            self.mask & others,
            {dc: mask & others for dc, mask in self.dc_masks.items()},
        )


class Requirement(NamedTuple):
    """How many answers an operation waits for. ``demanded`` ones must be met; targets may be missed, honestly."""

    clauses: tuple[Clause, ...]
    demanded: bool

    def met_by(self, answered: int) -> bool:
        """Say whether the nodes ``answered`` (bits) satisfy every clause."""
        for mask, count in self.clauses:
            if (answered & mask).bit_count() < count:
                return False
        return True

    @property
    def needed(self) -> int:
        """The number of answers that all clauses, which share no node, need together."""
        return sum(count for _, count in self.clauses)

    def refusal(self, alive: int) -> ClientError | None:
        """Return ``no_quorum`` when this is a demand that the nodes ``alive`` (bits) cannot meet."""
        if not alive:
            required = self.needed if self.demanded else 1
            return NoQuorum("no replica of the key can be reached", details={"required": required, "alive": 0})
        if not self.demanded or self.met_by(alive):
            return None
        for mask, count in self.clauses:
            reachable = (alive & mask).bit_count()
            if reachable < count:
                there = mask.bit_count()
                mend = "demand fewer or bring the others back" if count <= there else f"there are {there}, demand fewer"
                return NoQuorum(
                    f"{count} replicas demanded, {reachable} can be reached from this node; {mend}",
                    details={"required": count, "alive": reachable},
                )
        return None


def level_clauses(level: str, replicas: ReplicaSet, local_dc: str) -> tuple[Clause, ...]:
    """Return the clauses of a consistency level's name for this replica set.

    Raises:
        BadRequest: there is no such level.
    """
    local = replicas.dc_masks.get(local_dc, 0)
    if level == "one":
        return ((replicas.mask, 1),)
    if level == "quorum":
        return ((replicas.mask, majority(replicas.mask)),)
    if level == "all":
        return ((replicas.mask, replicas.mask.bit_count()),)
    if level == "local_one":
        return ((local, 1),)
    if level == "local_quorum":
        return ((local, majority(local)),)
    if level == "each_quorum":
        return tuple((mask, majority(mask)) for mask in replicas.dc_masks.values())
    raise BadRequest(f"cl must be one of {', '.join(LEVELS)}, not {level!r}")


def majority(mask: int) -> int:
    """Return the smallest number of the nodes in ``mask`` that any two majorities share a node at."""
    return mask.bit_count() // 2 + 1


def requirement(
    *,
    asked: int | None,
    primaries: int | None,
    level: str | None,
    default: int,
    defaults_demanded: bool,
    replicas: ReplicaSet,
    local_dc: str,
) -> Requirement:
    """Resolve what a request asks and what its keyspace targets into one requirement.

    ``asked`` is the request's ``r`` or ``w``, ``primaries`` its ``pr`` or ``pw``, ``level`` its ``cl``; each of them is
    a demand. Without any, ``default`` is a target, or a demand where the keyspace says so. While no fallback takes
    part, every replica that answers is a primary.

    Raises:
        BadRequest: ``level`` is no level, or stands beside numbers.
    """
    if level is not None:
        if asked is not None or primaries is not None:
            raise BadRequest("cl stands instead of r, w, pr and pw; send one or the other")
        return Requirement(level_clauses(level, replicas, local_dc), True)
    if asked is None and primaries is None:
        return Requirement(((replicas.mask, min(default, len(replicas.nodes))),), defaults_demanded)
    return Requirement(((replicas.mask, max(asked or 1, primaries or 1)),), True)
