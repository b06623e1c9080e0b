"""Client frames to columns: what is taken, what is refused with which code, and what travels together."""

from __future__ import annotations

import gc
from typing import Any
from weakref import ReferenceType, ref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvbus.core.request import DEFAULT_OPTIONS, Call, ClientOrigin, PeerOrigin
from kvbus.core.tick import Tick
from kvbus.plugins import mode_plugin
from kvbus.ports.mode import Limits
from kvbus.wire.cbor import dumps
from kvbus.wire.client_replies import encode_reply
from kvbus.wire.client_requests import Intake, ServedKeyspace
from kvbus.wire.request_fields import leading_id

ORIGIN = ClientOrigin(b"client", False)
PEER = PeerOrigin(2, 77)
LIMITS = Limits(key_bytes=8, value_bytes=16, batch_keys=4, request_bytes=500, scan_keys=10)
GETS_ONLY: dict[str, frozenset[str]] = {"get": frozenset()}


def intake() -> Intake:
    served = {
        "default": ServedKeyspace("ap", "ctx", mode_plugin("ap").operations),
        "bare": ServedKeyspace("plain", "rev", GETS_ONLY),
    }
    return Intake(served, LIMITS)


def taken(*bodies: dict[str, Any] | bytes, origin: ClientOrigin | PeerOrigin = ORIGIN) -> tuple[Tick, list[Call]]:
    collector, tick = intake(), Tick(0.0, 0)
    for body in bodies:
        collector.add(origin, body if isinstance(body, bytes) else dumps(body))
    refused = collector.hand_over(tick)
    assert collector.hand_over(Tick(0.0, 0)) == []
    return tick, refused


def code(*bodies: dict[str, Any] | bytes, origin: ClientOrigin | PeerOrigin = ORIGIN) -> str:
    tick, refused = taken(*bodies, origin=origin)
    (call,) = refused
    assert [*tick.requests, *tick.scans, *tick.node_requests] == []
    assert call.error is not None
    assert call.error.definite
    return call.error.code


def test_single_operations_with_equal_options_share_columns() -> None:
    puts = [{"id": n, "op": "put", "key": b"k%d" % n, "value": b"v", "ctx": b"c" * n} for n in range(3)]
    tick, refused = taken(
        *puts, {"id": 9, "op": "put", "key": b"z", "value": b"", "w": 1}, {"id": 5, "op": "get", "key": b"k"}
    )
    assert refused == []
    plain, demanded, gets = tick.requests
    assert (plain.kind, plain.keyspace, plain.options) == ("put", "default", DEFAULT_OPTIONS)
    assert (plain.keys, plain.values, plain.contexts) == ([b"k0", b"k1", b"k2"], [b"v"] * 3, [b"", b"c", b"cc"])
    assert ([call.id for call in plain.calls], plain.slots) == ([0, 1, 2], [0, 0, 0])
    assert (demanded.options.w, gets.kind, gets.values) == (1, "get", [])


def test_a_batch_is_one_call_with_a_slot_for_each_key() -> None:
    tick, _ = taken({"id": 1, "op": "mput", "keys": [b"a", b"b"], "values": [b"1", b"2"], "ctxs": [None, b"c"]})
    (columns,) = tick.requests
    assert (columns.kind, columns.slots, columns.contexts) == ("put", [0, 1], [None, b"c"])
    assert columns.calls[0] is columns.calls[1]
    assert (columns.calls[0].remaining, columns.calls[0].packed) == (2, True)


def test_every_option_arrives() -> None:
    tick, _ = taken(
        {"id": 1, "op": "put", "key": b"k", "value": b"v", "w": 2, "pw": 1, "ttl_ms": 9, "deadline_ms": 70,
         "receipt": True},
        {"id": 2, "op": "get", "key": b"k", "r": 3, "pr": 2, "explain": True},
        {"id": 3, "op": "scan", "cl": "one", "prefix": b"p", "limit": 3, "cursor": b"c", "with_values": True},
    )  # fmt: skip
    put, get = (columns.options for columns in tick.requests)
    assert (put.w, put.pw, put.ttl_ms, put.deadline_ms, put.receipt) == (2, 1, 9, 70, True)
    assert (get.r, get.pr, get.explain, get.deadline_ms) == (3, 2, True, 5000)
    (scan,) = tick.scans
    assert (scan.options.cl, scan.prefix, scan.limit, scan.cursor, scan.with_values) == ("one", b"p", 3, b"c", True)


def test_a_flag_that_is_false_and_an_absent_token_ask_for_nothing() -> None:
    _, refused = taken(
        {"id": 1, "op": "get", "key": b"k", "receipt": False, "explain": False, "stale": False},
        {"id": 2, "op": "put", "key": b"k", "value": b"v", "ctx": None},
        {"id": 3, "op": "get", "key": b"k", "ks": "bare", "receipt": False},
    )
    assert refused == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"op": "get"}, "bad_request"), ({"op": "get", "key": "text"}, "bad_request"),
        ({"op": "get", "key": b""}, "bad_request"), ({"op": "get", "key": bytes(9)}, "too_large"),
        ({"op": "put", "key": b"k"}, "bad_request"), ({"op": "put", "key": b"k", "value": 5}, "bad_request"),
        ({"op": "put", "key": b"k", "value": bytes(17)}, "too_large"),
        ({"op": "put", "key": b"k", "value": b"", "ctx": 5}, "bad_request"),
        ({"op": "delete", "key": b"k", "value": b""}, "bad_request"),
        ({"op": "delete", "key": b"k", "ttl_ms": 5}, "bad_request"),
        ({"op": "get", "key": b"k", "w": 1}, "bad_request"), ({"op": "get", "key": b"k", "r": 0}, "bad_request"),
        ({"op": "get", "key": b"k", "r": 256}, "bad_request"), ({"op": "get", "key": b"k", "r": True}, "bad_request"),
        ({"op": "get", "key": b"k", "cl": 1}, "bad_request"), ({"op": "get", "key": b"k", "receipt": 1}, "bad_request"),
        ({"op": "get", "key": b"k", "deadline_ms": 0}, "bad_request"),
        ({"op": "mget", "keys": []}, "bad_request"), ({"op": "mget", "keys": b"k"}, "bad_request"),
        ({"op": "mget", "keys": [b"k"] * 5}, "too_large"), ({"op": "mget", "keys": [b"k", 5]}, "bad_request"),
        ({"op": "mput", "keys": [b"a", b"a"], "values": [b"", b""]}, "bad_request"),
        ({"op": "mput", "keys": [b"a"], "values": []}, "bad_request"),
        ({"op": "mput", "keys": [b"a"], "values": [None]}, "bad_request"),
        ({"op": "mput", "keys": [b"a"], "values": [b""], "ctxs": []}, "bad_request"),
        ({"op": "scan", "limit": 11}, "bad_request"), ({"op": "scan", "limit": 0}, "bad_request"),
        ({"op": "scan", "prefix": 5}, "bad_request"), ({"op": "scan", "prefix": bytes(9)}, "too_large"),
        ({"op": "scan", "cursor": 5}, "bad_request"), ({"op": "scan", "with_values": 1}, "bad_request"),
        ({"op": "get", "key": b"k", "ks": "none"}, "unknown_keyspace"),
        ({"op": "get", "key": b"k", "ks": 5}, "bad_request"),
        ({"op": "get", "key": b"k", "color": 1}, "bad_request"), ({"op": "ping", "color": 1}, "bad_request"),
        ({"op": "fly"}, "unknown_op"), ({"op": "admin.repair"}, "unsupported"),
        ({"op": "admin.flush", "node": "n1"}, "bad_request"),
        ({"op": 5}, "bad_request"), ({}, "bad_request"),
        ({"op": "cas", "key": b"k"}, "unsupported"), ({"op": "cas", "ks": "none"}, "unknown_keyspace"),
        ({"op": "get", "key": b"k", "stale": True}, "unsupported"),
        ({"op": "put", "key": b"k", "value": b"", "rev": 0}, "unsupported"),
        ({"op": "put", "key": b"k", "value": b"", "session": bytes(16), "seq": 1}, "unsupported"),
        ({"op": "get", "key": b"k", "ks": "bare", "r": 1}, "unsupported"),
        ({"op": "get", "key": b"k", "ks": "bare", "receipt": True}, "unsupported"),
        ({"op": "put", "key": b"k", "value": b"", "ks": "bare"}, "unsupported"),
        ({"op": "scan", "ks": "bare"}, "unsupported"),
        ({"op": "put", "key": b"k", "value": b"", "ctx": bytes(600)}, "too_large"),
    ],
)  # fmt: skip
def test_a_request_that_breaks_a_rule_is_refused_with_its_code(fields: dict[str, Any], expected: str) -> None:
    assert code({"id": 1, **fields}) == expected


@pytest.mark.parametrize("request_id", [None, -1, 1 << 53, "text", bytes(17), 1.5, True])
def test_an_id_of_another_shape_is_refused(request_id: object) -> None:
    assert code({"id": request_id, "op": "ping"}) == "bad_request"


@pytest.mark.parametrize("request_id", [0, 23, 24, 255, 256, 1 << 16, 1 << 32, (1 << 53) - 1, b"", b"x", bytes(16)])
def test_the_id_that_stands_first_is_found_without_decoding(request_id: int | bytes) -> None:
    body = dumps({"id": request_id, "op": "ping"})
    assert leading_id(body) == request_id
    assert leading_id(b"\xb8\x01" + body[1:]) == request_id
    assert leading_id(b"\xb9\x00\x01" + body[1:]) == request_id
    assert leading_id(dumps({"id": request_id, **{f"field-{number}": 0 for number in range(22)}})) == request_id


@pytest.mark.parametrize(
    "body",
    [b"", b"\xa1", b"\xa1\x62id", b"\xa1\x62id\x18", b"\xa1\x62id\x1b\x01", b"\xa1\x62id\x44ab",
     dumps({"op": "ping", "id": 1}), dumps({"id": None}), dumps({"id": 1 << 53}),
     dumps({"id": bytes(17)}), dumps({"id": "text"}), dumps([1, 2, 3, 4, 5])],
)  # fmt: skip
def test_where_no_id_stands_first_none_is_guessed(body: bytes) -> None:
    assert leading_id(body) is None


def test_a_shed_request_is_told_with_its_id_wherever_that_stands() -> None:
    collector = intake()
    for body in (dumps({"id": 7, "op": "ping"}), dumps({"op": "ping", "id": 8}), b"\xff"):
        collector.shed(ORIGIN, body)
    told = [(call.id, call.error and call.error.code) for call in collector.hand_over(Tick(0.0, 0))]
    assert told == [(7, "overloaded"), (8, "overloaded"), (None, "overloaded")]


def test_what_waited_has_less_time_left_in_steps_that_share_columns() -> None:
    collector, tick = intake(), Tick(0.0, 0)
    for number, waited_ms in enumerate((0, 49, 60, 99, 1234)):
        collector.add(ORIGIN, dumps({"id": number, "op": "get", "key": b"k"}), waited_ms)
    assert collector.hand_over(tick) == []
    found = [([call.id for call in columns.calls], columns.options.deadline_ms) for columns in tick.requests]
    assert found == [([0, 1], 5000), ([2, 3], 4950), ([4], 3800)]


@pytest.mark.parametrize(
    ("fields", "waited_ms", "expected"),
    [({}, 4499, None), ({}, 4500, "overloaded"), ({"deadline_ms": 100}, 89, None),
     ({"deadline_ms": 100}, 90, "overloaded"), ({"deadline_ms": "soon"}, 9000, "bad_request"),
     ({"deadline_ms": None}, 4500, "overloaded"), ({"deadline_ms": 0}, 60, "bad_request")],
)  # fmt: skip
def test_what_waited_until_its_deadline_is_not_begun(
    fields: dict[str, object], waited_ms: int, expected: str | None
) -> None:
    collector, tick = intake(), Tick(0.0, 0)
    collector.add(ORIGIN, dumps({"id": 1, "op": "ping", **fields}), waited_ms)
    refused = collector.hand_over(tick)
    assert [call.error and call.error.code for call in refused] == ([] if expected is None else [expected])
    assert len(tick.node_requests) == (expected is None)


@pytest.mark.parametrize("body", [b"", b"\xff", b"\x80", b"\xa1\x01\x02", dumps({"id": 1, "op": "ping"}) + b"\0"])
def test_what_is_not_one_strict_map_is_refused(body: bytes) -> None:
    assert code(body) == "bad_request"


def test_a_refused_request_leaves_no_trace_in_the_columns_of_others() -> None:
    good = {"id": 1, "op": "mput", "keys": [b"a"], "values": [b"1"]}
    tick, refused = taken(good, {"id": 2, "op": "mput", "keys": [b"b", b"c"], "values": [b"1", bytes(17)]}, good)
    assert [call.id for call in refused] == [2]
    (columns,) = tick.requests
    assert len(columns.keys) == len(columns.values) == len(columns.contexts) == len(columns.calls) == 2


def test_a_peer_may_forward_deletes_and_one_key_twice() -> None:
    body = {"id": 0, "op": "mput", "keys": [b"a", b"a"], "values": [None, b"1"], "ctxs": [b"c", None]}
    tick, refused = taken(body, origin=PEER)
    assert refused == []
    assert tick.requests[0].values == [None, b"1"]
    assert code(body) == "bad_request"


scalars = st.none() | st.booleans() | st.integers(-2, 300) | st.binary(max_size=9) | st.text(max_size=4)
names = st.sampled_from(
    [
        "id",
        "op",
        "ks",
        "key",
        "keys",
        "value",
        "values",
        "ctx",
        "ctxs",
        "r",
        "cl",
        "limit",
        "cursor",
        "explain",
        "v",
        "x",
    ]
)


@given(st.dictionaries(names | scalars, scalars | st.lists(scalars, max_size=3), max_size=7), st.sampled_from(
    ["get", "put", "mget", "mput", "delete", "scan", "hello", "ping", "topology", "stats", "cas", None]
))  # fmt: skip
@settings(max_examples=300)
def test_every_frame_is_taken_whole_or_refused_whole(fields: dict[Any, Any], op: str | None) -> None:
    body = dumps({"id": 1, **({"op": op} if op else {}), **fields})
    for origin in (ORIGIN, PEER):
        tick, refused = taken(body, origin=origin)
        places = sum(len(columns.keys) for columns in tick.requests)
        assert len(refused) + len(tick.scans) + len(tick.node_requests) + (places > 0) == 1
        for columns in tick.requests:
            assert len(columns.keys) == len(columns.calls) == len(columns.slots)
            assert len(columns.values) == len(columns.contexts) == (0 if columns.kind == "get" else places)


@pytest.mark.parametrize("fields", [{"op": "x" * 100_000}, {"op": "get", "ks": "x" * 100_000}, {"y" * 100_000: 1}])
def test_an_error_is_short_whatever_the_request_was(fields: dict[str, object]) -> None:
    _, (call,) = taken({"id": 1, "op": "ping", **fields})
    assert len(encode_reply(call, 1 << 20)) < 1000


def test_contexts_that_would_overfill_the_reply_are_refused() -> None:
    contexts = [bytes(60_000)] * 40
    assert code(
        {"id": 1, "op": "mput", "keys": [b"%d" % i for i in range(40)], "values": [b""] * 40, "ctxs": contexts}
    ) == ("too_large")


def test_a_refused_request_holds_on_to_nothing_of_the_turn_it_came_in() -> None:
    class Turn:
        pass

    def receive() -> tuple[ReferenceType[Turn], list[Call]]:
        turn, tick = Turn(), Tick(0.0, 0)
        collector = intake()
        for body in (b"\xff", dumps({"id": 1, "op": "get", "key": bytes(400)}), dumps({"id": 1, "op": "nothing"})):
            collector.add(ORIGIN, body)
        return ref(turn), collector.hand_over(tick)

    gc.disable()
    try:
        turn, refused = receive()
        assert len(refused) == 3
        assert turn() is None
    finally:
        gc.enable()
