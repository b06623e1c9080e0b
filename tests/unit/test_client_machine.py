"""The client machine, one step at a time: packing, routing, fail-over, deadlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import pytest

from kvbus.client.failures import Unreachable
from kvbus.client.links import LinkState
from kvbus.client.machine import MARGIN_SECONDS, MAX_TRIES, ClientMachine, Send
from kvbus.client.operation import Operation
from kvbus.client.packing import BATCH_KEYS, FRAME_BYTES
from kvbus.client.replies import GetReply, PutReply
from kvbus.core.ring import key_hash
from kvbus.errors import (
    BadRequest,
    ClientError,
    Internal,
    NoQuorum,
    Overloaded,
    RequestTimeout,
    ShuttingDown,
    TooLarge,
    error_from_map,
)
from kvbus.wire.cbor import decode_map, dumps

A, B, C = "tcp://a:1", "tcp://b:1", "tcp://c:1"
NODES = (A, B, C)


def put(key: bytes, value: bytes = b"v", ctx: bytes | None = None, deadline_ms: int = 5000) -> Operation:
    return Operation("put", "default", key, value, ctx, deadline_ms=deadline_ms)


def get(key: bytes, deadline_ms: int = 5000) -> Operation:
    return Operation("get", "default", key, deadline_ms=deadline_ms)


def body(send: Send) -> dict[str, object]:
    return decode_map(send.body)


def answer(machine: ClientMachine, send: Send, now: float = 0.0, **fields: object) -> None:
    machine.received(send.address, dumps({"id": send.request_id, "ok": True, **fields}), now)


def refuse(machine: ClientMachine, send: Send, error: ClientError, now: float = 0.0) -> None:
    details = {"code": error.code, "message": error.message, "definite": error.definite, **error.details}
    machine.received(send.address, dumps({"id": send.request_id, "ok": False, "error": details}), now)


def topology(owners: Sequence[Sequence[int]], nodes: Sequence[str] = NODES) -> dict[str, object]:
    return {
        "epoch": 1,
        "hash": "mmh3_x64_128",
        "partitions": len(owners),
        "nodes": [{"name": address, "client": address} for address in nodes],
        "owners": [list(row) for row in owners],
    }


def up(machine: ClientMachine, *addresses: str) -> None:
    for address in addresses:
        machine.link_changed(address, LinkState.UP, 0.0)


def introduced(owners: Sequence[Sequence[int]] = ((0, 1, 2),), *, packing: bool = True) -> ClientMachine:
    """Return a machine that knows the topology and has all nodes up."""
    machine = ClientMachine([A], packing=packing)
    up(machine, A)
    for send in machine.flush(0.0):
        if body(send)["op"] == "hello":
            answer(machine, send, limits={"batch_keys": 1024})
        else:
            answer(machine, send, **topology(owners))
    up(machine, *NODES)
    return machine


def direct(*addresses: str) -> ClientMachine:
    machine = ClientMachine(addresses, routing="direct")
    up(machine, *addresses)
    return machine


def sent(machine: ClientMachine, *operations: Operation, now: float = 0.0) -> list[Send]:
    for operation in operations:
        machine.submit(operation)
    return machine.flush(now)


def failure(operation: Operation) -> ClientError:
    assert isinstance(operation.outcome, ClientError)
    return operation.outcome


def keys_of(partition: int, partitions: int, count: int) -> list[bytes]:
    shift = 64 - (partitions.bit_length() - 1)
    names = (b"key-%d" % number for number in range(10_000))
    return [name for name in names if key_hash("default", name) >> shift == partition][:count]


# --- packing ---------------------------------------------------------------------------------------------------


def test_one_operation_travels_as_a_single_frame() -> None:
    (send,) = sent(introduced(), put(b"k", b"v", b"c"))
    assert body(send) == {"id": send.request_id, "op": "put", "key": b"k", "value": b"v", "ctx": b"c"}


def test_operations_of_one_turn_share_a_frame() -> None:
    machine = introduced()
    operations = [put(b"a", b"1"), put(b"b", b"2", b"c")]
    (send,) = sent(machine, *operations)
    expected = {"op": "mput", "keys": [b"a", b"b"], "values": [b"1", b"2"], "ctxs": [None, b"c"]}
    assert body(send) == {"id": send.request_id, **expected}
    answer(machine, send, ctxs=[b"x", b"y"], errors=[], degraded=True, acks=1)
    assert [operation.outcome for operation in operations] == [PutReply(b"x", True, 1), PutReply(b"y", True, 1)]


def test_gets_and_puts_do_not_share_a_frame_and_deletes_travel_alone() -> None:
    delete = Operation("delete", "default", b"c", None, b"ctx")
    sends = sent(introduced(), get(b"a"), put(b"a"), get(b"b"), put(b"b"), delete, Operation("delete", "default", b"d"))
    assert [body(send)["op"] for send in sends] == ["mget", "mput", "delete", "delete"]


def test_other_options_and_keyspaces_do_not_share_a_frame() -> None:
    weak = Operation("put", "default", b"b", b"v", options=(("w", 1),))
    other = Operation("put", "ledger", b"c", b"v")
    bodies = [body(send) for send in sent(introduced(), put(b"a"), weak, other, put(b"d", deadline_ms=100))]
    assert [(fields.get("w"), fields.get("ks"), fields.get("deadline_ms")) for fields in bodies] == [
        (None, None, None), (1, None, None), (None, "ledger", None), (None, None, 100),
    ]  # fmt: skip


def test_a_key_stands_once_in_a_batch_and_its_writes_keep_their_order() -> None:
    delete = Operation("delete", "default", b"a")
    sends = sent(introduced(), put(b"a", b"1"), put(b"b"), put(b"a", b"2"), put(b"c"), delete, put(b"a", b"3"))
    bodies = [body(send) for send in sends]
    assert [fields.get("keys", fields.get("key")) for fields in bodies] == [[b"a", b"b"], [b"a", b"c"], b"a", b"a"]
    assert [fields["op"] for fields in bodies] == ["mput", "mput", "delete", "put"]
    assert len({send.address for send in sends}) == 1


def test_a_frame_has_at_most_1024_operations_and_about_a_mebibyte() -> None:
    counts = [len(cast("list[bytes]", body(send)["keys"])) for send in sent(
        introduced(), *(get(b"%d" % number) for number in range(2 * BATCH_KEYS + 2))
    )]  # fmt: skip
    assert counts == [1024, 1024, 2]
    big = [put(b"%d" % number, bytes(10_000)) for number in range(200)]
    assert all(len(send.body) < FRAME_BYTES + 20_000 for send in sent(introduced(), *big))


def test_a_node_that_takes_smaller_batches_gets_them() -> None:
    machine = ClientMachine([A])
    up(machine, A)
    hello, _ = machine.flush(0.0)
    answer(machine, hello, limits={"batch_keys": 2})
    assert len(sent(machine, *(get(b"%d" % number) for number in range(5)))) == 3


def test_packing_can_be_switched_off() -> None:
    bodies = [body(send) for send in sent(introduced(packing=False), put(b"a"), put(b"b"), get(b"c"))]
    assert [fields["op"] for fields in bodies] == ["put", "put", "get"]


# --- routing ---------------------------------------------------------------------------------------------------


def test_the_first_turn_says_hello_and_asks_for_the_topology_without_waiting_for_it() -> None:
    machine = ClientMachine([A])
    up(machine, A)
    bodies = [body(send) for send in sent(machine, put(b"k"))]
    assert sorted(str(fields["op"]) for fields in bodies) == ["hello", "put", "topology"]
    assert next(fields["v"] for fields in bodies if fields["op"] == "hello") == 1


def test_each_replica_set_gets_its_own_frame_at_one_of_its_replicas() -> None:
    machine = introduced([(0, 1), (2, 1)])
    first, second = keys_of(0, 2, 3), keys_of(1, 2, 3)
    for _ in range(4):
        sends = sent(machine, *(get(key) for pair in zip(first, second, strict=True) for key in pair))
        assert [body(send)["keys"] for send in sends] == [first, second]
        assert sends[0].address in (A, B)
        assert sends[1].address in (B, C)


def test_partitions_with_the_same_replicas_in_another_order_share_a_frame() -> None:
    machine = introduced([(0, 1, 2), (2, 1, 0)])
    assert len(sent(machine, *(get(key) for key in keys_of(0, 2, 2) + keys_of(1, 2, 2)))) == 1


def test_turns_are_spread_over_the_replicas() -> None:
    machine = introduced()
    used = [sent(machine, put(b"k"))[0].address for _ in range(6)]
    assert sorted(used) == [A, A, B, B, C, C]


def test_a_node_that_is_down_is_not_asked() -> None:
    machine = introduced()
    machine.link_changed(B, LinkState.DOWN, 0.0)
    assert {sent(machine, get(b"k"))[-1].address for _ in range(6)} == {A, C}


def test_when_no_replica_is_up_any_node_is_asked() -> None:
    machine = introduced([(1, 2)])
    machine.link_changed(B, LinkState.DOWN, 0.0)
    machine.link_changed(C, LinkState.DOWN, 0.0)
    assert [send.address for send in sent(machine, get(b"k"))] == [A]


def test_direct_routing_takes_the_first_address_and_asks_for_no_topology() -> None:
    machine = direct(A, B)
    assert [(send.address, body(send)["op"]) for send in sent(machine, get(b"k"))] == [(A, "get")]
    machine.link_changed(A, LinkState.DOWN, 0.0)
    assert [send.address for send in sent(machine, get(b"k"))][-1] == B


def test_direct_routing_waits_while_the_first_address_is_still_tried() -> None:
    machine = ClientMachine([A, B], routing="direct")
    up(machine, B)
    assert sent(machine, get(b"k")) == []
    machine.link_changed(A, LinkState.DOWN, 0.0)
    assert [send.address for send in machine.flush(0.0)] == [B]


def test_the_machine_wants_connections_to_what_the_topology_names() -> None:
    machine = introduced()
    assert machine.links.addresses == [A, B, C]
    machine.link_changed(B, LinkState.DOWN, 2.0)
    sent(machine, get(b"k"), now=2.0)
    assert machine.links.addresses == [A, B, C]


def test_an_unusable_topology_changes_nothing() -> None:
    machine = ClientMachine([A])
    up(machine, A)
    _, asked = machine.flush(0.0)
    answer(machine, asked, **{**topology([(0, 9)])})
    assert machine.links.addresses == [A]
    assert [send.address for send in sent(machine, get(b"k"))] == [A]


def test_stale_epoch_asks_for_the_topology_again_and_sends_the_operation_elsewhere() -> None:
    machine = introduced()
    operation = get(b"k")
    (send,) = sent(machine, operation, now=2.0)
    refuse(machine, send, error_from_map({"code": "stale_epoch", "definite": True}), 2.0)
    again = machine.flush(2.0)
    assert sorted(str(body(other)["op"]) for other in again) == ["get", "topology"]
    assert all(other.address != send.address for other in again)


# --- answers ---------------------------------------------------------------------------------------------------


def test_each_key_of_a_batch_succeeds_or_fails_by_itself() -> None:
    machine = introduced()
    good, bad = get(b"a"), get(b"b")
    (send,) = sent(machine, good, bad)
    error = {"code": "no_quorum", "message": "m", "definite": True, "required": 2, "alive": 1}
    answer(machine, send, values=[[b"1", b"2"], []], ctxs=[b"x", None], errors=[[1, error]])
    assert good.outcome == GetReply([b"1", b"2"], b"x")
    assert isinstance(bad.outcome, NoQuorum)
    assert bad.outcome.details["alive"] == 1


def test_receipt_and_explain_are_handed_on() -> None:
    machine = introduced()
    operation = Operation("get", "default", b"k", options=(("explain", True), ("receipt", True)))
    (send,) = sent(machine, operation)
    assert body(send)["receipt"] is True
    answer(machine, send, values=[], receipt={"mode": "ap"}, explain={"partition": 3})
    assert operation.outcome == GetReply([], None, False, None, {"mode": "ap"}, {"partition": 3})


@pytest.mark.parametrize("code", [BadRequest, TooLarge])
def test_a_batch_refused_for_one_of_its_keys_is_sent_key_by_key(code: type[ClientError]) -> None:
    machine = introduced()
    operations = [put(b"a"), put(b"b")]
    (send,) = sent(machine, *operations)
    refuse(machine, send, code("a value may have 10 bytes"))
    singles = machine.flush(0.0)
    assert [body(other)["op"] for other in singles] == ["put", "put"]
    answer(machine, singles[0], ctx=b"c")
    refuse(machine, singles[1], code("a value may have 10 bytes"))
    assert operations[0].outcome == PutReply(b"c")
    assert isinstance(operations[1].outcome, code)


def test_a_key_that_no_longer_fits_into_a_reply_is_asked_for_by_itself() -> None:
    machine = introduced()
    first, second = get(b"a"), get(b"b")
    (send,) = sent(machine, first, second)
    error = {"code": "too_large", "message": "full", "definite": True}
    answer(machine, send, values=[[b"1"], []], ctxs=[None, None], errors=[[1, error]])
    assert first.outcome == GetReply([b"1"], None)
    assert [body(other)["op"] for other in machine.flush(0.0)] == ["get"]


@pytest.mark.parametrize(
    "fields",
    [{"ctxs": [b"x"]}, {"ctxs": "xy"}, {"ctxs": [b"x", b"y"], "errors": [[2, {}]]},
     {"ctxs": [b"x", b"y"], "errors": [[0]]}, {"ctxs": [b"x", b"y"], "errors": [[0, "no map"]]}],
)  # fmt: skip
def test_an_answer_that_breaks_the_protocol_is_an_internal_error(fields: Mapping[str, object]) -> None:
    machine = introduced()
    operations = [put(b"a"), put(b"b")]
    (send,) = sent(machine, *operations)
    answer(machine, send, **fields)
    assert all(isinstance(operation.outcome, Internal) and not failure(operation).definite for operation in operations)


def test_garbage_late_and_foreign_answers_change_nothing() -> None:
    machine = introduced()
    operation = put(b"k")
    (send,) = sent(machine, operation)
    machine.received(send.address, b"\xff", 0.0)
    machine.received(send.address, dumps({"id": None, "ok": False, "error": {"code": "bad_request"}}), 0.0)
    machine.received("tcp://other:1", dumps({"id": send.request_id, "ok": True}), 0.0)
    assert operation.outcome is None
    answer(machine, send, ctx=b"c")
    answer(machine, send, ctx=b"d")
    assert operation.outcome == PutReply(b"c")
    assert machine.unmatched_replies == 4


# --- fail-over and deadlines -----------------------------------------------------------------------------------


def test_a_read_in_flight_on_a_lost_connection_goes_to_another_replica() -> None:
    machine = introduced()
    operation = get(b"k")
    (send,) = sent(machine, operation)
    machine.link_changed(send.address, LinkState.DOWN, 1.0)
    again = next(other for other in machine.flush(1.0) if body(other)["op"] == "get")
    assert again.address != send.address
    answer(machine, again, values=[b"v"])
    assert operation.outcome == GetReply([b"v"], None)


def test_a_write_in_flight_on_a_lost_connection_has_an_unknown_outcome() -> None:
    machine = introduced()
    operation = put(b"k")
    (send,) = sent(machine, operation)
    machine.link_changed(send.address, LinkState.DOWN, 1.0)
    assert isinstance(operation.outcome, RequestTimeout)
    assert (failure(operation).definite, failure(operation).details["cause"]) == (False, "connection lost")
    assert all(body(other)["op"] == "topology" for other in machine.flush(1.0))


def test_a_write_that_the_socket_refused_goes_elsewhere() -> None:
    machine = introduced()
    operation = put(b"k")
    (send,) = sent(machine, operation)
    machine.not_sent(send.request_id, 0.0)
    (again,) = machine.flush(0.0)
    assert again.address != send.address
    assert operation.outcome is None


def test_a_node_that_is_shutting_down_is_left() -> None:
    machine = introduced()
    operation = put(b"k")
    (send,) = sent(machine, operation)
    refuse(machine, send, ShuttingDown("stopping"))
    (again,) = machine.flush(0.0)
    assert again.address != send.address
    answer(machine, again, ctx=b"c")
    assert operation.outcome == PutReply(b"c")


def test_an_overloaded_node_is_given_the_time_it_asks_for_and_few_tries() -> None:
    machine = direct(A)
    operation = put(b"k")
    sends, now = sent(machine, operation), 0.0
    for attempt in range(1, MAX_TRIES + 1):
        refuse(machine, sends[0], Overloaded("busy", details={"retry_after_ms": 100}), now)
        assert (operation.outcome is None) == (attempt < MAX_TRIES)
        assert machine.flush(now + 0.099) == []
        now += 0.1
        sends = machine.flush(now)
    assert isinstance(operation.outcome, Overloaded)
    assert not machine.busy


def test_an_error_that_may_have_been_applied_is_not_tried_again() -> None:
    machine = introduced()
    operation = put(b"k")
    (send,) = sent(machine, operation)
    refuse(machine, send, ShuttingDown("stopping", definite=False))
    assert machine.flush(0.0) == []
    assert isinstance(operation.outcome, ShuttingDown)


def test_what_is_sent_again_says_how_much_time_is_left() -> None:
    machine = direct(A)
    (send,) = sent(machine, put(b"k"))
    refuse(machine, send, ShuttingDown("stopping"), 3.0)
    (again,) = machine.flush(3.0)
    assert body(again)["deadline_ms"] == 2000


@pytest.mark.parametrize("kind", ["put", "get"])
def test_without_an_answer_the_client_gives_up_shortly_after_the_deadline(kind: str) -> None:
    machine = direct(A)
    operation = Operation(kind, "default", b"k", deadline_ms=1000)
    (send,) = sent(machine, operation)
    machine.sweep(1.0 + MARGIN_SECONDS - 0.001)
    assert operation.outcome is None
    machine.sweep(1.0 + MARGIN_SECONDS + 0.001)
    assert isinstance(operation.outcome, RequestTimeout)
    assert (failure(operation).definite, failure(operation).details["cause"]) == (False, "deadline")
    answer(machine, send, ctx=b"c")
    assert isinstance(operation.outcome, RequestTimeout)


def test_what_was_never_sent_surely_failed() -> None:
    machine = ClientMachine([A, B])
    operation = put(b"k", deadline_ms=1000)
    assert sent(machine, operation) == []
    machine.sweep(1.001)
    assert isinstance(operation.outcome, Unreachable)
    assert failure(operation).definite
    assert A in str(operation.outcome)


def test_operations_wait_for_the_first_connection() -> None:
    machine = ClientMachine([A], routing="direct")
    assert sent(machine, get(b"k")) == []
    up(machine, A)
    assert len(machine.flush(1.0)) == 1


def test_closing_settles_everything() -> None:
    machine = direct(A)
    in_flight, unsent = put(b"a"), put(b"b")
    sent(machine, in_flight)
    machine.submit(unsent)
    machine.close()
    assert isinstance(in_flight.outcome, RequestTimeout)
    assert isinstance(unsent.outcome, Unreachable)
    assert not machine.busy


def test_more_operations_than_the_client_may_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvbus.client.machine.MAX_OPEN", 2)
    machine = direct(A)
    operations = [put(b"%d" % number) for number in range(3)]
    sent(machine, *operations)
    assert [isinstance(operation.outcome, Overloaded) for operation in operations] == [False, False, True]
