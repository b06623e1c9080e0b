"""What PROTOCOL.md promises about contexts, demands, cursors, receipts, explain and large batches, word by word."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from struct import pack
from time import sleep
from typing import cast

import mmh3
import pytest

from tests.live.local_cluster import LocalCluster
from tests.live.wire_socket import Reply, WireSocket, code_of

SEED = 20_260_802


@pytest.fixture(scope="module")
def cluster(unharmed_cluster: LocalCluster) -> Iterator[LocalCluster]:
    pids = unharmed_cluster.pids
    yield unharmed_cluster
    unharmed_cluster.assert_unharmed(pids)


@pytest.fixture
def wire(cluster: LocalCluster) -> Iterator[WireSocket]:
    with cluster.connect("n1") as connection:
        yield connection


def _error(reply: Reply) -> dict[str, object]:
    assert reply["ok"] is False
    return cast("dict[str, object]", reply["error"])


def _values(wire: WireSocket, key: bytes) -> list[bytes]:
    return sorted(cast("list[bytes]", wire.ask(op="get", key=key, r=3)["values"]))


def _entry(server: int, epoch: int, counter: int) -> bytes:
    return pack("<IQQ", server, epoch, counter)


def test_a_context_that_is_none_is_refused_and_nothing_is_written(wire: WireSocket) -> None:
    random = Random(SEED)
    ctx = cast("bytes", wire.ask(op="put", key=b"ctx", value=b"kept")["ctx"])
    wrong = [ctx[:size] for size in range(1, len(ctx))] + [ctx + b"\x00", b"\x02" + ctx[1:], ctx + ctx[5:]]
    wrong += [random.randbytes(random.randrange(1, 80)) for _ in range(200)]
    wrong += [b"\x01\x01\x00\x00\x00" + _entry(0, 1 << 60, 1), b"\x01\x01\x00\x00\x00" + _entry(0, 1, 0)]
    for forged in wrong:
        for op in ("put", "delete"):
            value = {"value": b"lost"} if op == "put" else {}
            error = _error(wire.ask(op=op, key=b"ctx", ctx=forged, **value))
            assert (error["code"], error["definite"]) == ("bad_request", True), forged
    batch = wire.ask(op="mput", keys=[b"ctx", b"ctx-2"], values=[b"lost", b"good"], ctxs=[b"\x01", None])
    assert [(index, error["code"]) for index, error in cast("list[tuple[int, Reply]]", batch["errors"])] == [
        (0, "bad_request")
    ]
    assert _values(wire, b"ctx") == [b"kept"]
    assert _values(wire, b"ctx-2") == [b"good"]


def test_a_foreign_context_hides_nothing_that_is_written_later(wire: WireSocket) -> None:
    """It may name dots that this key never had; the put that carries it, and later ones, must stay readable."""
    others = [cast("bytes", wire.ask(op="put", key=b"other-%d" % n, value=b"o")["ctx"]) for n in range(3)]
    elsewhere = b"\x01\x01\x00\x00\x00" + _entry(77, 1 << 50, 9)
    for number, foreign in enumerate([*others, elsewhere]):
        key = b"foreign-%d" % number
        assert wire.code(op="put", key=key, value=b"first", ctx=foreign) == "ok"
        assert wire.code(op="put", key=key, value=b"second") == "ok"
        assert _values(wire, key) == [b"first", b"second"]


def test_demands_over_the_number_of_replicas_are_refused_before_anything_happens(wire: WireSocket) -> None:
    for op, option, more in (
        *(("put", name, {"value": b"v"}) for name in ("w", "pw")),
        *(("get", name, {}) for name in ("r", "pr")),
    ):
        for count in (4, 255):
            error = _error(wire.ask(op=op, key=b"demand", **{option: count}, **more))
            assert error["code"] == "no_quorum"
            assert error["definite"] is True
            assert (error["required"], error["alive"]) == (count, 3)
        for count in (0, 256, -1):
            assert wire.code(op=op, key=b"demand", **{option: count}, **more) == "bad_request"
    assert wire.code(op="get", key=b"demand", cl="one", r=1) == "bad_request"
    assert wire.code(op="get", key=b"demand", cl="most") == "bad_request"
    assert wire.code(op="put", key=b"demand", value=b"v", r=1) == "bad_request"
    assert _values(wire, b"demand") == []


@pytest.mark.parametrize("level", ["one", "quorum", "all", "local_one", "local_quorum", "each_quorum"])
def test_every_consistency_level_is_served(wire: WireSocket, level: str) -> None:
    key = level.encode()
    assert wire.code(op="put", key=key, value=b"v", cl=level) == "ok"
    assert wire.ask(op="get", key=key, cl="all")["values"] == [b"v"]
    assert wire.ask(op="get", key=key, cl=level)["values"] in ([b"v"], [])


def test_a_deadline_of_one_millisecond_is_answered(wire: WireSocket) -> None:
    codes = [wire.code(op="put", key=b"hurry", value=b"v", w=3, deadline_ms=1) for _ in range(20)]
    assert set(codes) <= {"ok", "timeout"}


def test_a_key_expires(wire: WireSocket) -> None:
    assert wire.code(op="put", key=b"brief", value=b"v", ttl_ms=1) == "ok"
    assert wire.ask(op="get", key=b"brief", r=3)["values"] == []
    assert wire.ask(op="get", key=b"brief", r=3)["ctx"]
    assert wire.code(op="delete", key=b"brief", ttl_ms=1) == "bad_request"


def test_cursors_of_nobody_are_refused_or_end_well(wire: WireSocket) -> None:
    random = Random(SEED)
    assert wire.code(op="scan", cursor=b"") == "bad_request"
    assert wire.code(op="scan", cursor=b"\x00") == "bad_request"
    assert wire.code(op="scan", cursor=b"\x00\x40") == "bad_request"
    for _ in range(300):
        reply = wire.ask(op="scan", limit=3, cursor=random.randbytes(random.randrange(2, 1500)))
        assert code_of(reply) in ("ok", "bad_request")
    assert wire.code(op="scan", cursor=b"\x00\x3f" + b"\xff" * 100_000) in ("ok", "bad_request", "too_large")


def test_pages_of_any_size_hold_every_key_once(wire: WireSocket) -> None:
    keys = [b"page-%03d" % number for number in range(300)]
    assert wire.code(op="mput", keys=keys, values=[b"v"] * len(keys)) == "ok"
    for limit in (1, 7, 299, 300, 1000):
        found: list[bytes] = []
        cursor: object = None
        while True:
            reply = wire.ask(op="scan", prefix=b"page-", limit=limit, cursor=cursor)
            page = cast("list[bytes]", reply["keys"])
            assert len(page) <= limit
            found += page
            cursor = reply["cursor"]
            if cursor is None:
                break
        assert sorted(found) == keys


def test_explain_and_receipts_are_refused_where_they_would_be_ignored(wire: WireSocket) -> None:
    keys = {"keys": [b"a", b"b"]}
    assert wire.code(op="mget", explain=True, **keys) == "bad_request"
    assert wire.code(op="put", key=b"a", value=b"v", explain=True) == "bad_request"
    assert wire.code(op="scan", explain=True) == "bad_request"
    assert wire.code(op="ping", receipt=True) == "bad_request"
    for request in ({"op": "mget", **keys}, {"op": "mput", "values": [b"1", b"2"], **keys}, {"op": "scan"}):
        receipt = cast("Reply", wire.ask(receipt=True, **request)["receipt"])
        assert receipt.keys() == {"mode", "node", "epoch", "acks", "primary", "hinted", "replicas", "guarantee"}


def test_explain_tells_each_key_its_own_way(wire: WireSocket) -> None:
    """Gets that arrive together are one batch inside the node; what is told of one must not be another's."""
    keys = {wire.send(op="get", key=b"way-%d" % number, explain=True): b"way-%d" % number for number in range(200)}
    for _ in range(len(keys)):
        reply = wire.receive()
        told = cast("Reply", reply["explain"])
        h1 = mmh3.hash64(b"default\x00" + keys[reply["id"]], 0, True, signed=False)[0]
        assert told["hash"] == f"{h1:016x}"
        assert told["partition"] == h1 >> 58


def test_a_reply_that_is_full_names_the_keys_that_no_longer_fit(wire: WireSocket) -> None:
    keys = [b"full-%04d" % number for number in range(1024)]
    assert wire.ask(op="mput", keys=keys, values=[b"x" * 10_240] * len(keys))["errors"] == []
    wire.send(op="mget", keys=keys, id=1)
    (frame,) = wire.receive_frames()
    assert len(frame) <= 4 << 20
    reply = wire.ask(op="mget", keys=keys)
    left_out = {index: error["code"] for index, error in cast("list[tuple[int, Reply]]", reply["errors"])}
    assert set(left_out.values()) == {"too_large"}
    for index, (values, ctx) in enumerate(
        zip(cast("list[list[bytes]]", reply["values"]), cast("list[bytes | None]", reply["ctxs"]), strict=True)
    ):
        assert (values == [] and ctx is None) if index in left_out else values == [b"x" * 10_240]
    again = wire.ask(op="mget", keys=[keys[index] for index in left_out][:300])
    assert again["errors"] == []


def wave_of(number: int) -> dict[str, object]:
    keys = [b"wave-%d-%04d" % (number, index) for index in range(1024)]
    return {"op": "mput", "keys": keys, "values": [b"x" * 10_240] * 1024, "w": 3, "deadline_ms": 30_000}


def test_batches_that_arrive_together_do_not_break_a_link(cluster: LocalCluster) -> None:
    """Eight clients write, then read, 10 MB each at once: more than one peer frame may hold."""
    lost_before = [cluster.metric(name, "kvbus_links_lost_total") for name in cluster.names]
    writers = [cluster.connect("n1") for _ in range(8)]
    try:
        for number, writer in enumerate(writers):
            writer.send(**wave_of(number))
        for number, writer in enumerate(writers):
            # On a fast machine more arrives at once than a node lets wait; what it refuses comes again.
            while code_of(reply := writer.receive(40)) == "overloaded":
                sleep(0.1)
                writer.send(**wave_of(number))
            assert (code_of(reply), reply["errors"]) == ("ok", [])
        for number, writer in enumerate(writers):
            keys = [b"wave-%d-%04d" % (number, index) for index in range(1024)]
            writer.send(op="mget", keys=keys, r=3, deadline_ms=30_000)
        for writer in writers:
            errors = cast("list[tuple[int, Reply]]", writer.receive(40)["errors"])
            assert {error["code"] for _, error in errors} == {"too_large"}
    finally:
        for writer in writers:
            writer.close()
    assert [cluster.metric(name, "kvbus_links_lost_total") for name in cluster.names] == lost_before


def test_siblings_stop_at_the_cap_and_can_be_resolved(wire: WireSocket) -> None:
    for number in range(100):
        assert wire.code(op="put", key=b"crowd", value=b"%d" % number) == "ok"
    error = _error(wire.ask(op="put", key=b"crowd", value=b"one more"))
    assert (error["code"], error["definite"]) == ("too_many_siblings", True)
    found = wire.ask(op="get", key=b"crowd")
    assert len(cast("list[bytes]", found["values"])) == 100
    assert wire.code(op="put", key=b"crowd", value=b"resolved", ctx=found["ctx"]) == "ok"
    assert _values(wire, b"crowd") == [b"resolved"]


def test_two_blind_puts_are_siblings_and_the_reply_covers_only_its_own(wire: WireSocket) -> None:
    assert wire.code(op="put", key=b"blind", value=b"first") == "ok"
    mine = wire.ask(op="put", key=b"blind", value=b"second")["ctx"]
    assert wire.code(op="put", key=b"blind", value=b"second, corrected", ctx=mine) == "ok"
    assert _values(wire, b"blind") == [b"first", b"second, corrected"]
