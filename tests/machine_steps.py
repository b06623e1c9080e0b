"""Steps of a client machine: frames answered and refused by hand, no socket and no clock."""

from __future__ import annotations

from collections.abc import Sequence

from kvbus.client.links import LinkState
from kvbus.client.machine import ClientMachine, Send
from kvbus.client.operation import Operation
from kvbus.client.options import PLAIN, Terms
from kvbus.core.ring import key_hash
from kvbus.errors import ClientError
from kvbus.wire.cbor import decode_map, dumps

A, B, C = "tcp://a:1", "tcp://b:1", "tcp://c:1"
NODES = (A, B, C)


def put(key: bytes, value: bytes = b"v", ctx: bytes | None = None, deadline_ms: int = 5000) -> Operation:
    """Return a put."""
    return Operation("put", Terms("default", deadline_ms, PLAIN), key, value, ctx)


def get(key: bytes, deadline_ms: int = 5000) -> Operation:
    """Return a get."""
    return Operation("get", Terms("default", deadline_ms, PLAIN), key)


def body(send: Send) -> dict[str, object]:
    """Decode a frame."""
    return decode_map(send.body)


def answer(machine: ClientMachine, send: Send, **fields: object) -> None:
    """Answer a frame with success."""
    machine.received(send.address, dumps({"id": send.request_id, "ok": True, **fields}), 0.0)


def refuse(machine: ClientMachine, send: Send, error: ClientError, now: float = 0.0) -> None:
    """Answer a frame with an error."""
    details = {"code": error.code, "message": error.message, "definite": error.definite, **error.details}
    machine.received(send.address, dumps({"id": send.request_id, "ok": False, "error": details}), now)


def topology(owners: Sequence[Sequence[int]], nodes: Sequence[str] = NODES) -> dict[str, object]:
    """Return a reply to topology."""
    return {
        "epoch": 1,
        "hash": "mmh3_x64_128",
        "partitions": len(owners),
        "nodes": [{"name": address, "client": address} for address in nodes],
        "owners": [list(row) for row in owners],
    }


def up(machine: ClientMachine, *addresses: str) -> None:
    """Let connections come up."""
    for address in addresses:
        machine.link_changed(address, LinkState.UP, 0.0)


def introduced(
    owners: Sequence[Sequence[int]] = ((0, 1, 2),), *, packing: bool = True, first_home: int = 0
) -> ClientMachine:
    """Return a machine that knows the topology and has all nodes up."""
    machine = ClientMachine([A], packing=packing, first_home=first_home)
    up(machine, A)
    for send in machine.flush(0.0):
        if body(send)["op"] == "hello":
            answer(machine, send, limits={"batch_keys": 1024})
        else:
            answer(machine, send, **topology(owners))
    up(machine, *NODES)
    return machine


def direct(*addresses: str) -> ClientMachine:
    """Return a machine that needs no topology and has all nodes up."""
    machine = ClientMachine(addresses, routing="direct")
    up(machine, *addresses)
    return machine


def sent(machine: ClientMachine, *operations: Operation, now: float = 0.0) -> list[Send]:
    """Submit operations and return the frames that leave."""
    for operation in operations:
        machine.submit(operation)
    return machine.flush(now)


def failure(operation: Operation) -> ClientError:
    """Return the error that an operation ended with."""
    assert isinstance(operation.outcome, ClientError)
    return operation.outcome


def keys_of(partition: int, partitions: int, count: int) -> list[bytes]:
    """Return keys that lie in one partition."""
    shift = 64 - (partitions.bit_length() - 1)
    names = (b"key-%d" % number for number in range(10_000))
    return [name for name in names if key_hash("default", name) >> shift == partition][:count]
