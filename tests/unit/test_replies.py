"""Finished calls to reply bodies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvbus.core.request import Call, ClientOrigin, Receipt
from kvbus.errors import NoQuorum, Overloaded, RequestTimeout
from kvbus.wire.cbor import decode_map, dumps, with_lists_of_one
from kvbus.wire.client_replies import encode_reply

ORIGIN = ClientOrigin(b"client", False)
LIMIT = 4 << 20


def call(op: str, kind: str, count: int = 1, token_name: str = "ctx") -> Call:
    return Call(ORIGIN, 7, op, kind, count, op.startswith("m"), token_name)


def reply(finished: Call, limit: int = LIMIT) -> dict[str, Any]:
    return decode_map(encode_reply(finished, limit))


def test_a_get_has_values_and_a_token_where_there_is_one() -> None:
    get = call("get", "get")
    assert reply(get) == {"id": 7, "ok": True, "values": []}
    get.values[0], get.tokens[0] = [b"a", b"b"], b"token"
    assert reply(get) == {"id": 7, "ok": True, "values": [b"a", b"b"], "ctx": b"token"}


@pytest.mark.parametrize("op", ["put", "delete"])
def test_a_write_has_its_token_under_the_modes_name(op: str) -> None:
    put = call(op, op, token_name="rev")
    put.tokens[0] = 12
    assert reply(put) == {"id": 7, "ok": True, "rev": 12}


@pytest.mark.parametrize("op", ["get", "put", "delete", "scan"])
def test_a_failed_operation_fails_its_call(op: str) -> None:
    failed = call(op, op)
    failed.errors.append((0, NoQuorum("too few", details={"required": 2, "alive": 1})))
    error = {"code": "no_quorum", "message": "too few", "definite": True, "required": 2, "alive": 1}
    assert reply(failed) == {"id": 7, "ok": False, "error": error}


def test_an_error_of_the_whole_call_stands_alone() -> None:
    failed = call("mget", "get", 3)
    failed.error = Overloaded("busy", details={"retry_after_ms": 20})
    answered = reply(failed)
    assert answered.keys() == {"id", "ok", "error"}
    assert answered["error"]["retry_after_ms"] == 20


def test_a_batch_lists_errors_by_index_in_order() -> None:
    put = call("mput", "put", 3)
    put.tokens[1] = b"token"
    put.errors = [(2, RequestTimeout("late")), (0, NoQuorum("few"))]
    answered = reply(put)
    assert (answered["ok"], answered["ctxs"]) == (True, [None, b"token", None])
    assert [(index, error["code"], error["definite"]) for index, error in answered["errors"]] == [
        (0, "no_quorum", True),
        (2, "timeout", False),
    ]


def test_degraded_receipt_and_explain_are_told_when_they_are_there() -> None:
    get = call("get", "get")
    get.note_degraded(2)
    get.note_degraded(1)
    receipts = [Receipt("ap", "n1", 1, acks, acks, 0, ["n1"] * acks, "eventual") for acks in (2, 1, 3)]
    for receipt in receipts:
        get.note_receipt(receipt)
    get.explain = {"hash": "00"}
    answered = reply(get)
    assert (answered["degraded"], answered["acks"], answered["explain"]) == (True, 1, {"hash": "00"})
    assert answered["receipt"] == receipts[1]._asdict()


def test_fields_of_a_node_request_are_the_reply() -> None:
    ping = call("ping", "ping")
    assert reply(ping) == {"id": 7, "ok": True}
    ping.fields = {"epoch": 1}
    assert reply(ping) == {"id": 7, "ok": True, "epoch": 1}


def test_what_no_longer_fits_gets_too_large_and_the_reply_keeps_its_limit() -> None:
    limit = 100_000
    get = call("mget", "get", 40)
    get.values = [[bytes(9000)] for _ in range(40)]
    get.tokens = [bytes(65)] * 40
    body = encode_reply(get, limit)
    answered: dict[str, Any] = decode_map(body)
    refused = [index for index, error in answered["errors"] if error["code"] == "too_large" and error["definite"]]
    assert len(body) <= limit
    assert len(answered["values"]) == 40
    assert 20 < len(refused) < 40
    assert [index for index, found in enumerate(answered["values"]) if not found] == refused
    assert [index for index, token in enumerate(answered["ctxs"]) if token is None] == refused


def test_a_batch_that_fits_is_whole() -> None:
    get = call("mget", "get", 40)
    get.values = [[bytes(2000)] for _ in range(40)]
    get.tokens = [bytes(65)] * 40
    assert reply(get, 100_000)["errors"] == []


def test_large_tokens_count_too() -> None:
    get = call("mget", "get", 40)
    get.tokens = [bytes(9000)] * 40
    assert len(encode_reply(get, 100_000)) <= 100_000


@given(
    st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=1) | st.lists(st.binary(), max_size=3), max_size=30)
)
def test_lists_of_values_are_encoded_as_cbor2_does(lists: list[list[bytes]]) -> None:
    fields = {"id": 7, "ok": True, "ctxs": [b"c"] * len(lists)}
    assert with_lists_of_one(fields, "values", lists) == dumps({**fields, "values": lists})


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 65_535, 65_536, 1 << 20])
def test_heads_of_every_width_are_encoded_as_cbor2_does(size: int) -> None:
    for lists in ([[bytes(size)]], [[b"x"]] * min(size, 70_000), [[bytes(size)], [b""]]):
        assert with_lists_of_one({}, "values", lists) == dumps({"values": lists})
