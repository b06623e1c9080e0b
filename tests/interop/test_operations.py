"""What the protocol page promises for single keys, in two languages and on every kind of socket."""

from __future__ import annotations

from typing import cast

import pytest

from tests.interop.foreign_client import ForeignClient, bytes_of, error_of, request_line, tagged, values_of

EVERY_BYTE = bytes(range(256))
MALFORMED = b"no context"


def test_any_bytes_are_a_key_and_a_value(client: ForeignClient, key: bytes) -> None:
    for value in (EVERY_BYTE, b"", b"\xff" * 10_240):
        binary = key + EVERY_BYTE + b"%d" % len(value)
        client.put(binary, value)
        assert client.get(binary)[0] == [value]


def test_a_key_that_was_never_written_has_no_value_and_an_empty_context(client: ForeignClient, key: bytes) -> None:
    assert client.get(key) == ([], b"")
    assert client.put(key, b"v", ctx=b"")
    assert client.get(key)[0] == [b"v"]


def test_a_typed_array_is_a_byte_string(client: ForeignClient, key: bytes) -> None:
    assert client.ask("put", key=tagged(key), value=tagged(EVERY_BYTE))["ok"] is True
    values, ctx = client.get(key)
    assert values == [EVERY_BYTE]
    assert client.ask("put", key=key, value=tagged(b""), ctx=tagged(ctx))["ok"] is True
    assert client.ask("get", key=tagged(key))["values"] == [b""]


def test_blind_writes_are_siblings_until_a_write_has_seen_them(client: ForeignClient, key: bytes) -> None:
    client.put(key, b"a")
    own = client.put(key, b"b")
    seen, ctx = client.get(key)
    assert seen == [b"a", b"b"]
    client.put(key, b"c", ctx=own)
    assert client.get(key)[0] == [b"a", b"c"]
    client.put(key, b"d", ctx=ctx)
    assert client.get(key)[0] == [b"c", b"d"]


def test_a_deletion_removes_what_its_context_covers(client: ForeignClient, key: bytes) -> None:
    client.put(key, b"v")
    assert client.ask("delete", key=key)["ok"] is True
    values, ctx = client.get(key)
    assert values == [b"v"], "a blind deletion has seen nothing"
    assert client.ask("delete", key=key, ctx=ctx)["ok"] is True
    values, ctx = client.get(key)
    assert values == []
    assert ctx, "a deletion leaves a context"


def test_null_is_no_context_and_undefined_is_refused(client: ForeignClient, key: bytes) -> None:
    assert client.ask("put", key=key, value=b"v", ctx=None, w=None, cl="null")["ok"] is True
    assert error_of(client.ask("put", key=key, value=b"v", ctx="undefined")) == {
        "code": "bad_request",
        "definite": True,
    }


def test_a_number_above_32_bits_is_an_integer_and_a_float_is_refused(client: ForeignClient, key: bytes) -> None:
    assert client.ask("put", key=key, value=b"v", ttl_ms=2**46)["ok"] is True
    assert error_of(client.ask("get", key=key, r=2.5)) == {"code": "bad_request", "definite": True}


def test_a_value_is_gone_when_its_time_has_passed(client: ForeignClient, key: bytes) -> None:
    ctx = bytes_of(client.ask("put", key=key, value=b"v", ttl_ms=1), "ctx")
    for _ in range(1000):
        values, seen = client.get(key)
        if not values:
            break
    assert (values, seen) == ([], ctx)


def test_keyspaces_are_apart(client: ForeignClient, key: bytes) -> None:
    assert client.ask("put", ks="ledger", key=key, value=b"v")["ok"] is True
    assert values_of(client.ask("get", key=key)) == []
    assert values_of(client.ask("get", ks="ledger", key=key)) == [b"v"]


def test_a_receipt_and_an_explanation_come_where_they_are_asked_for(client: ForeignClient, key: bytes) -> None:
    receipt = client.ask("put", key=key, value=b"v", receipt=True, pw=2)["receipt"]
    told = {"mode": "ap", "acks": 2, "primary": 2, "hinted": 0, "guarantee": "quorum"}
    assert cast("dict[str, object]", receipt).items() >= told.items()
    assert cast("dict[str, object]", receipt).keys() - told == {"node", "epoch", "replicas"}
    explained = cast("dict[str, object]", client.ask("get", key=key, explain=True)["explain"])
    assert (explained["coordinator"], explained["siblings"], explained["demanded"]) == ("n1", 1, False)
    assert client.ask("get", key=key).keys() == {"id", "ok", "values", "ctx"}


def test_a_node_introduces_itself(client: ForeignClient) -> None:
    hello = client.ask("hello", v=1, client="interop")
    assert (hello["v"], hello["node"]) == (1, "n1")
    keyspace = {"mode": "ap", "n": 3, "r": 2, "w": 2, "preset": "R+W>N", "availability": "always"}
    assert hello["keyspaces"] == {"default": keyspace, "ledger": keyspace}
    assert cast("dict[str, int]", hello["limits"])["batch_keys"] == 1024
    assert (
        error_of(client.ask("hello", v=2)) == error_of(client.ask("hello")) == {"code": "bad_request", "definite": True}
    )
    assert client.ask("ping").keys() == {"id", "ok"}
    stats = cast("dict[str, int]", client.ask("stats")["stats"])
    assert all(isinstance(number, int) for number in stats.values())


@pytest.mark.parametrize("order", ["admin.flush", "admin.compact"])
def test_an_order_to_the_storage_is_answered_with_its_stats_before(client: ForeignClient, order: str) -> None:
    stats = cast("dict[str, int]", client.ask(order)["stats"])
    assert all(name.startswith("engine_") and isinstance(number, int) for name, number in stats.items())
    assert {"engine_frozen_memtables", "engine_flushes", "engine_compacting_all"} <= stats.keys()


def test_many_requests_under_way_each_get_their_own_reply(client: ForeignClient, key: bytes) -> None:
    keys = [key + b"%d" % number for number in range(200)]
    puts = client.ask_all([request_line("put", key=each, value=each) for each in keys])
    assert all(reply["ok"] is True for reply in puts)
    assert [reply["values"] for reply in client.ask_all([request_line("get", key=each) for each in keys])] == [
        [each] for each in keys
    ]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("get", {"code": "bad_request"}),
        ("get key=", {"code": "bad_request"}),
        ("get key=6b w=2", {"code": "bad_request"}),
        ("get key=6b cl=most", {"code": "bad_request"}),
        ("put key=6b value=null", {"code": "bad_request"}),
        (request_line("put", key=b"k", value=b"v", ctx=MALFORMED), {"code": "bad_request"}),
        (request_line("get", key=bytes(1025)), {"code": "too_large"}),
        (request_line("put", key=b"k", value=bytes(10_241)), {"code": "too_large"}),
        ("get ks=nowhere key=6b", {"code": "unknown_keyspace"}),
        ("reverse key=6b", {"code": "unknown_op"}),
        ("get key=6b stale=true", {"code": "unsupported"}),
        ("put key=6b value=76 rev=1", {"code": "unsupported"}),
        ("cas key=6b value=76 rev=1", {"code": "unsupported"}),
        ("admin.repair", {"code": "unsupported"}),
        ("get key=6b r=4", {"code": "no_quorum", "required": 4, "alive": 3}),
        ("put key=6b value=76 w=4", {"code": "no_quorum", "required": 4, "alive": 3}),
    ],
    ids=lambda each: each[:40] if isinstance(each, str) else "",
)
def test_a_refusal_is_definite_and_has_its_code(client: ForeignClient, line: str, error: dict[str, object]) -> None:
    assert error_of(client.ask_all([line])[0]) == {**error, "definite": True}


def test_too_many_siblings_are_refused_until_somebody_resolves_them(client: ForeignClient, key: bytes) -> None:
    puts = client.ask_all([request_line("put", key=key, value=b"%d" % number) for number in range(110)])
    assert sum(reply["ok"] is True for reply in puts) == 100
    refused = next(reply for reply in puts if reply["ok"] is False)
    assert error_of(refused) == {"code": "too_many_siblings", "definite": True, "siblings": 101, "cap": 100}
    values, ctx = client.get(key)
    assert len(values) == 100
    client.put(key, b"all", ctx=ctx)
    assert client.get(key)[0] == [b"all"]
