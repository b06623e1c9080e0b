"""``explain``: one get's way, along the textbook's headings. Source: PROTOCOL.md, "Explain"."""

from __future__ import annotations

from collections.abc import Callable

from kvbus.core.keyspace import Keyspace
from kvbus.core.ring import key_hash, partition_of
from kvbus.core.topology import Topology
from kvbus.core.types import NodeIndex
from kvbus_modes.ap.batch import Batch
from kvbus_modes.ap.reads import ReadBatch
from kvbus_modes.ap.siblings import sibling_count

Guarantee = Callable[[Batch, Keyspace], str]


class Explainer:
    """Draws what happened to a read batch as the reply's ``explain`` map."""

    def __init__(self, me: NodeIndex, topology: Topology, guarantee: Guarantee) -> None:
        self._me = me
        self._topology = topology
        self._guarantee = guarantee

    def explain(self, batch: ReadBatch, keyspace: Keyspace, merged: list[bytes | None]) -> dict[str, object]:
        """Return the map for a batch's first key."""
        topology, answers = self._topology, batch.answers
        h1 = key_hash(keyspace.name, batch.columns.keys[0])
        partition = partition_of(h1, topology.shift)
        replicas: list[dict[str, object]] = []
        for node in topology.owners[partition]:
            bit = 1 << node
            state = "answered" if node in answers else "lost" if batch.lost & bit else "not asked"
            if batch.awaited & bit:
                state = "awaited"
            elif batch.damaged & bit:
                state = "damaged"
            entry: dict[str, object] = {"node": topology.members[node].name, "state": state}
            if node in answers:
                record = answers[node][0]
                entry["siblings"] = 0 if record is None else sibling_count(record)
                entry |= batch.paths.get(node, {})
            replicas.append(entry)
        record = merged[0]
        return {
            "hash": f"{h1:016x}",
            "partition": partition,
            "partitions": topology.partitions,
            "ring_position": partition / topology.partitions,
            "coordinator": topology.members[self._me].name,
            "required": batch.requirement.needed,
            "demanded": batch.requirement.demanded,
            "replicas": replicas,
            "merge": "one answer" if len(answers) == 1 else "equal" if _equal(answers) else "merged",
            "siblings": 0 if record is None else sibling_count(record),
            "guarantee": self._guarantee(batch, keyspace),
        }


def _equal(answers: dict[NodeIndex, list[bytes | None]]) -> bool:
    columns = list(answers.values())
    return all(column == columns[0] for column in columns[1:])
