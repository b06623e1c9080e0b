"""Operations of one turn to frames.

Gets and puts that share keyspace, options and replica set share a frame; everything else travels alone. A batch never
holds a key twice, and writes of one key leave in the order of their submission.
Source: PROTOCOL.md, "Body"; ARCHITECTURE.md, "How fast".
"""

from __future__ import annotations

from collections.abc import Iterable

from kvbus.client.operation import PACKED, Operation
from kvbus.client.options import Terms
from kvbus.client.routing import ANY_NODE, RoutingTable
from kvbus.client.url import DEFAULT_KEYSPACE
from kvbus.wire.cbor import dumps

FRAME_KEYS = 256
"""A quarter of what a node would take: several frames on their way keep client and nodes busy at the same time."""
FRAME_BYTES = 1 << 20
DEFAULT_DEADLINE_MS = 5000

Shared = tuple[str, Terms, int, float]
"""What operations of one frame have in common: kind, terms, replica set, deadline."""


class Frame:
    """Operations that travel together to one node.

    ``group`` is their replica set's number in the routing table; ``size_bytes`` counts what a batch holds.
    """

    __slots__ = ("group", "operations", "position", "size_bytes")

    def __init__(self, group: int, position: int) -> None:
        self.group = group
        self.position = position
        self.operations: list[Operation] = []
        self.size_bytes = 0

    def encode(self, request_id: int, now: float) -> bytes:
        """Return the request's body."""
        operations = self.operations
        first = operations[0]
        fields: dict[str, object] = {"id": request_id}
        if first.kind in PACKED and len(operations) > 1:
            self._encode_columns(fields)
        else:
            fields["op"] = first.kind
            for name, value in (("key", first.key), ("value", first.value), ("ctx", first.ctx)):
                if value is not None:
                    fields[name] = value
        keyspace, asked_ms, options = first.terms
        if keyspace != DEFAULT_KEYSPACE:
            fields["ks"] = keyspace
        fields.update(options)
        left_ms = max(1, round((first.deadline - now) * 1000))
        deadline_ms = min(asked_ms, left_ms)
        if deadline_ms != DEFAULT_DEADLINE_MS:
            fields["deadline_ms"] = deadline_ms
        return dumps(fields)

    def _encode_columns(self, fields: dict[str, object]) -> None:
        operations = self.operations
        fields["op"] = PACKED[operations[0].kind]
        fields["keys"] = [operation.key for operation in operations]
        if operations[0].kind == "put":
            fields["values"] = [operation.value for operation in operations]
            contexts = [operation.ctx for operation in operations]
            if any(contexts):
                fields["ctxs"] = contexts


def pack(
    operations: Iterable[Operation], table: RoutingTable | None, *, packing: bool, batch_keys: int = FRAME_KEYS
) -> list[Frame]:
    """Return the frames that carry ``operations``, in the order in which they must leave.

    ``table`` is None where requests may go to any node; ``packing`` False gives each operation a frame of its own.
    """
    frames: list[Frame] = []
    open_frames: dict[Shared, Frame] = {}
    last_write: dict[bytes, int] = {}
    shared: Shared | None = None
    frame: Frame | None = None
    everywhere = table is not None and len(table.groups) == 1
    for operation in operations:
        key, kind, terms = operation.key, operation.kind, operation.terms
        group = ANY_NODE if table is None or key is None else 0 if everywhere else table.group_of(terms.keyspace, key)
        if key is None or not packing or operation.alone or kind not in PACKED:
            single = Frame(group, len(frames))
            frames.append(single)
            single.operations.append(operation)
            if key is not None and kind != "get":
                last_write[key] = single.position
            continue
        # One turn's operations have one deadline; what waited longer must not hurry its neighbours.
        asked = (kind, terms, group, operation.deadline)
        if asked != shared:
            shared, frame = asked, open_frames.get(asked)
        if (
            frame is None
            or len(frame.operations) >= batch_keys
            or frame.size_bytes >= FRAME_BYTES
            or (kind == "put" and last_write.get(key, -1) >= frame.position)
        ):
            frame = open_frames[asked] = Frame(group, len(frames))
            frames.append(frame)
        frame.operations.append(operation)
        frame.size_bytes += len(key)
        if kind == "put":
            frame.size_bytes += len(operation.value or b"") + len(operation.ctx or b"")
            last_write[key] = frame.position
    return frames
