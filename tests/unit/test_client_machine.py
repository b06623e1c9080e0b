"""The client machine, one step at a time: answers, fail-over, deadlines."""

from __future__ import annotations

import pytest

from kvbus.client.failures import Unreachable
from kvbus.client.links import LinkState
from kvbus.client.machine import MARGIN_SECONDS, MAX_TRIES, MAX_UNANSWERED, ClientMachine
from kvbus.client.operation import Operation
from kvbus.client.options import PLAIN, Terms
from kvbus.client.replies import GetReply, PutReply
from kvbus.errors import (
    BadRequest,
    ClientError,
    Internal,
    NoQuorum,
    Overloaded,
    RequestTimeout,
    ShuttingDown,
    TooLarge,
)
from kvbus.wire.cbor import dumps
from tests.machine_steps import (
    A,
    B,
    answer,
    body,
    direct,
    failure,
    get,
    introduced,
    put,
    refuse,
    sent,
    up,
)


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
    operation = Operation("get", Terms("default", 5000, (("explain", True), ("receipt", True))), b"k")
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
def test_an_answer_that_breaks_the_protocol_is_an_internal_error(fields: dict[str, object]) -> None:
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
    assert machine.busy
    answer(machine, send, ctx=b"c")
    answer(machine, send, ctx=b"d")
    assert operation.outcome == PutReply(b"c")
    assert machine.unmatched_replies == 4


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
    operation = Operation(kind, Terms("default", 1000, PLAIN), b"k")
    (send,) = sent(machine, operation)
    machine.sweep(1.0 + MARGIN_SECONDS - 0.001)
    assert machine.busy
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


def test_frames_beyond_what_a_node_keeps_replies_for_wait_until_an_eighth_is_answered() -> None:
    machine = introduced(packing=False)
    operations = [put(b"%d" % number) for number in range(MAX_UNANSWERED + 3)]
    first = sent(machine, *operations)
    assert len(first) == MAX_UNANSWERED
    for send in first[: MAX_UNANSWERED // 8 - 1]:
        answer(machine, send, ctx=b"c")
    was_sendable = machine.sendable
    assert machine.flush(0.0) == []
    answer(machine, first[MAX_UNANSWERED // 8 - 1], ctx=b"c")
    assert (was_sendable, machine.sendable) == (False, True)
    assert [body(send)["key"] for send in machine.flush(0.0)] == [operations[n].key for n in (-3, -2, -1)]


def test_a_request_that_no_node_would_read_is_refused_here() -> None:
    machine = introduced()
    huge, small = put(b"huge", bytes(17 << 20)), put(b"small")
    assert [body(send)["key"] for send in sent(machine, huge, small)] == [b"small"]
    assert isinstance(huge.outcome, TooLarge)
    assert small.outcome is None


def test_what_never_left_for_others_before_it_says_so() -> None:
    machine = introduced(packing=False)
    last = put(b"last")
    sent(machine, *(put(b"%d" % number, deadline_ms=60_000) for number in range(MAX_UNANSWERED)), last)
    machine.sweep(6.0)
    assert failure(last).definite
    assert "issue fewer" in failure(last).message


def test_single_frames_of_a_packing_client_are_bounded_too() -> None:
    machine = introduced()
    deletes = [Operation("delete", Terms("default", 5000, PLAIN), b"%d" % n, None, b"c") for n in range(20_000)]
    first = sent(machine, *deletes)
    assert len(first) == MAX_UNANSWERED
    for send in first:
        answer(machine, send, ctx=b"d")
    assert [body(send)["key"] for send in machine.flush(0.0)][:2] == [delete.key for delete in deletes[8192:8194]]


def test_writes_of_one_key_keep_their_order_when_they_could_not_leave() -> None:
    machine = introduced(packing=False)
    first = sent(machine, *(put(b"k", b"%d" % number) for number in range(10_000)))
    for send in first[5000:]:
        machine.not_sent(send.request_id, 0.0)
    assert [body(send)["value"] for send in machine.flush(1.0)] == [b"%d" % number for number in range(5000, 8192)]
