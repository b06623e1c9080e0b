"""Convergence: when everything is healed and repaired, all replicas hold the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from kvbus.testing.history import History, Operation
from kvbus.testing.verdict import Verdict
from kvbus.testing.wording import counted, listed, quoted

Digest: TypeAlias = int | bytes | str
FinalReads: TypeAlias = dict[str, list[Operation]]
"""The final reads of one key, by node."""

_CHECKER = "convergence"


def convergence(history: History) -> Verdict:
    """Judge whether the final reads of each key agree on every node that was asked.

    Values are compared as sets: the order of siblings and elements means nothing. Keys that only one node was asked
    for are left out. A node that answered none of its final reads of a key leaves the verdict undecided.
    """
    asked: dict[str, FinalReads] = {}
    for each in history.operations:
        if each.final and each.node is not None:
            asked.setdefault(each.key, {}).setdefault(each.node, []).append(each)
    compared = {key: nodes for key, nodes in asked.items() if len(nodes) > 1}
    judged = sum(len(reads) for nodes in compared.values() for reads in nodes.values())
    if not judged:
        return Verdict(checker=_CHECKER, ok=None, reason="no key has final reads from two nodes", judged=0)
    differing = [line for key, nodes in compared.items() for line in _difference(key, nodes)]
    silent = [line for key, nodes in compared.items() for line in _silence(key, nodes)]
    counters = {"keys": len(compared), "differing": len(differing), "silent": len(silent)}
    if differing:
        share = f"{len(differing):,} of {len(compared):,}"
        ok, reason = False, f"{share} keys differ between nodes: {_first(differing)}"
    elif silent:
        ok, reason = None, f"final reads had no answer: {_first(silent)}; read again when the nodes are back"
    else:
        ok, reason = True, f"all nodes agree on {counted(len(compared), 'key')}, in {judged:,} final reads"
    lines = (*differing, *silent)
    details = lines if len(lines) > 1 else ()
    return Verdict(checker=_CHECKER, ok=ok, reason=reason, judged=judged, details=details, counters=counters)


def digests_converged(digests: Mapping[str, Mapping[int, Digest]]) -> Verdict:
    """Judge whether all nodes that hold a partition have the same digest of it.

    ``digests`` is, for each node, the digest of every partition that it holds. Partitions that one node alone holds
    are left out.
    """
    holders: dict[int, dict[str, Digest]] = {}
    for node, partitions in digests.items():
        for partition, digest in partitions.items():
            holders.setdefault(partition, {})[node] = digest
    compared = {partition: held for partition, held in sorted(holders.items()) if len(held) > 1}
    if not compared:
        return Verdict(checker=_CHECKER, ok=None, reason="no partition is held by two nodes", judged=0)
    differing = [
        f"partition {partition}: {' ≠ '.join('='.join(nodes) for nodes in _alike(held.items()))}"
        for partition, held in compared.items()
        if len(set(held.values())) > 1
    ]
    reason = f"all holders agree on {counted(len(compared), 'partition')}"
    if differing:
        reason = f"{len(differing):,} of {len(compared):,} partitions differ: {_first(differing)}"
    return Verdict(
        checker=_CHECKER,
        ok=not differing,
        reason=reason,
        judged=len(compared),
        details=tuple(differing),
        counters={"partitions": len(compared), "differing": len(differing)},
    )


def _difference(key: str, nodes: FinalReads) -> list[str]:
    """Say which nodes found what the others did not, where they do not all agree."""
    held = [(node, set(each.found)) for node, reads in nodes.items() for each in reads if each.found is not None]
    if not held:
        return []
    shared = set[str].intersection(*(found for _, found in held))
    parts = dict.fromkeys(f"{node} has {listed(sorted(found - shared))}" for node, found in held)
    if all(found == shared for _, found in held):
        return []
    beside = f", beside {counted(len(shared), 'value')} that all have" if shared else ""
    return [f"key {quoted(key)}: {'; '.join(parts)}{beside}"]


def _silence(key: str, nodes: FinalReads) -> list[str]:
    return [
        f"{node} for key {quoted(key)}" for node, reads in nodes.items() if all(each.outcome != "ok" for each in reads)
    ]


def _alike(held: Iterable[tuple[str, Digest]]) -> list[list[str]]:
    """Return the nodes, those with equal digests together."""
    groups: dict[Digest, list[str]] = {}
    for node, digest in held:
        groups.setdefault(digest, []).append(node)
    return list(groups.values())


def _first(lines: list[str]) -> str:
    more = f" and {len(lines) - 1:,} more" if len(lines) > 1 else ""
    return lines[0] + more
