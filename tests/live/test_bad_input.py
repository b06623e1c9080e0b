"""A node under hostile clients: every message gets one coded reply or a counted drop, and nobody else notices.

The last test says what all of it cost.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from random import Random
from time import monotonic, sleep
from typing import cast

import pytest
import zmq
from cbor2 import CBORTag, dumps, loads

from tests.live.hostile_bodies import (
    FIELDS,
    REQUEST_ID,
    WRONG,
    body,
    cut_short,
    flipped,
    noise,
    tagged,
    unstructured,
    wrong_types,
)
from tests.live.local_cluster import LocalCluster
from tests.live.wire_socket import WireSocket, code_of

SEED = 20_260_801
NODE = "n1"
HEARTBEAT_SECONDS = 0.5
BIG_KEYS = [b"big-%04d" % number for number in range(1024)]

CODES = {
    *("ok", "bad_request", "too_large", "unknown_op", "unknown_keyspace", "unsupported", "no_quorum"),
    *("too_many_siblings", "overloaded", "timeout"),
}


class Siege:
    """The cluster, what it was like before, and how much was thrown at it."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.pids = cluster.pids
        self.memory_kib = _settled_memory_kib(cluster)
        self.cases = 0
        self.echoed: object = None

    def throw(self, wire: WireSocket, request: bytes) -> str:
        """Send one body; check its one reply; return the code, and leave the id that came back in ``echoed``."""
        self.cases += 1
        wire.send_frames([request])
        reply = wire.receive()
        code = code_of(reply)
        assert code in CODES, (request[:200], reply)
        assert code == "ok" or reply.keys() == {"id", "ok", "error"}, (request[:200], reply)
        assert reply["id"] in (None, _readable_id(request)), (request[:200], reply)
        self.echoed = reply["id"]
        return code


def _readable_id(request: bytes) -> object:
    try:
        fields: object = loads(request)
    except Exception:
        return None
    if not isinstance(fields, dict):
        return None
    names = cast("dict[object, object]", fields)
    return names.get("id", names.get(b"id"))


def _most_memory_for_deaf_client(cluster: LocalCluster, wire: WireSocket, requests: int) -> int:
    """Ask for 4 MB with each request and read nothing; return the most KiB that the node had meanwhile."""
    most, address = 0, cluster.node(NODE).client
    with WireSocket(address) as deaf:
        deaf.socket.disconnect(address)
        deaf.socket.setsockopt(zmq.RCVHWM, 1)
        deaf.socket.setsockopt(zmq.RCVBUF, 65_536)
        deaf.socket.connect(address)
        for number in range(requests):
            deaf.send(op="mget", keys=BIG_KEYS[:400], r=1)
            if number % 20 == 0:
                assert wire.code(op="ping") == "ok"
                most = max(most, cluster.memory_kib(NODE))
        for _ in range(requests // 30):
            most = max(most, cluster.memory_kib(NODE))
            sleep(0.05)
    return most


def _settled_memory_kib(cluster: LocalCluster) -> int:
    """Return what the node holds when it is idle, once that has not fallen for longer than any client is kept.

    After that time the node still has to look for what it can give back, in vain at first if it does so too early.
    """
    least, fell_at, worked = cluster.memory_kib(NODE), monotonic(), cluster.processor_seconds(NODE)
    while monotonic() - fell_at < 5.0:
        sleep(0.02)
        held = cluster.memory_kib(NODE)
        is_busy = cluster.processor_seconds(NODE) - worked > 0.2
        if held < least or is_busy:
            least, fell_at, worked = min(held, least), monotonic(), cluster.processor_seconds(NODE)
    return least


@pytest.fixture(scope="module")
def siege(unharmed_cluster: LocalCluster) -> Iterator[Siege]:
    cluster = unharmed_cluster
    with cluster.connect(NODE) as wire:
        for begin in range(0, len(BIG_KEYS), 256):
            keys = BIG_KEYS[begin : begin + 256]
            assert wire.code(op="mput", keys=keys, values=[b"x" * 10_240] * len(keys)) == "ok"
        for _ in range(3):
            assert wire.code(op="mget", keys=BIG_KEYS, r=2) == "ok"
        # The largest request and the most replies, so that what the allocator keeps is there before all measurements.
        assert wire.code(op="get", key=b"k" * ((16 << 20) - 100)) == "too_large"
        _most_memory_for_deaf_client(cluster, wire, 100)
        yield Siege(cluster)


@pytest.fixture
def wire(siege: Siege) -> Iterator[WireSocket]:
    """Give one connection; afterwards a good request must be served on it and by the same processes as ever."""
    with siege.cluster.connect(NODE) as connection:
        yield connection
        ctx = connection.ask(op="get", key=b"good").get("ctx")
        assert connection.code(op="put", key=b"good", value=b"still here", ctx=ctx) == "ok"
        assert connection.ask(op="get", key=b"good")["values"] == [b"still here"]
    siege.cluster.assert_unharmed(siege.pids)


def test_bodies_cut_short_or_with_bytes_behind_them_are_refused(siege: Siege, wire: WireSocket) -> None:
    for request in cut_short():
        assert siege.throw(wire, request) == "bad_request", request


def test_flipped_bits_and_noise_get_one_coded_reply_each(siege: Siege, wire: WireSocket) -> None:
    random = Random(SEED)
    for request in (*flipped(random, 4000), *noise(random, 2500)):
        siege.throw(wire, request)


def test_a_value_of_the_wrong_type_is_refused_in_every_field_of_every_operation(siege: Siege, wire: WireSocket) -> None:
    for op in FIELDS:
        assert siege.throw(wire, body(op)) == "ok"
    accepted: dict[tuple[str, str], int] = {}
    for op, name, value, request in wrong_types():
        if siege.throw(wire, request) == "ok":
            accepted[op, name] = accepted.get((op, name), 0) + 1
            fits = type(value) is type(FIELDS[op].get(name, b"")) or (name == "id" and value == b"")
            assert fits, f"{op} took {name} = {value!r}"
    assert all(count <= 2 for count in accepted.values()), accepted


def test_a_field_that_the_operation_does_not_have_is_refused(siege: Siege, wire: WireSocket) -> None:
    names = {name: value for fields in FIELDS.values() for name, value in fields.items()} | {"": 0, "KEY": b"k", "é": 1}
    for op, fields in FIELDS.items():
        for name, value in names.items():
            if name not in fields and name != "ks":
                assert siege.throw(wire, body(op, **{name: value})) == "bad_request", (op, name)
        for name in ("rev", "stale", "session", "seq"):
            assert siege.throw(wire, body(op, **{name: 1})) in ("unsupported", "bad_request"), (op, name)


def test_every_tag_but_64_is_refused_everywhere(siege: Siege, wire: WireSocket) -> None:
    for request in tagged():
        assert siege.throw(wire, request) == "bad_request", request
        assert siege.echoed is None, "the decoder refuses a tag, not whoever meets its value later"
    assert siege.throw(wire, body("put", key=CBORTag(64, b"js"), value=CBORTag(64, b"typed array"))) == "ok"
    assert wire.ask(op="get", key=b"js")["values"] == [b"typed array"]
    assert siege.throw(wire, body("get", key=CBORTag(64, "text"))) == "bad_request"


def test_what_is_no_strict_map_is_refused(siege: Siege, wire: WireSocket) -> None:
    for request in unstructured():
        assert siege.throw(wire, request) == "bad_request", request[:100]


def test_byte_string_names_are_read_as_text(siege: Siege, wire: WireSocket) -> None:
    assert siege.throw(wire, dumps({b"id": REQUEST_ID, b"op": "put", "key": b"perl", b"value": b"5"})) == "ok"
    assert wire.ask(op="get", key=b"perl")["values"] == [b"5"]


def test_limits_are_told_apart_from_mistakes(siege: Siege, wire: WireSocket) -> None:
    for request, code in (
        (body("put", key=b"k" * 1024, value=b"v" * 10_240), "ok"),
        (body("put", key=b"k" * 1025), "too_large"),
        (body("put", value=b"v" * 10_241), "too_large"),
        (body("put", ctx=b"c" * 65_537), "too_large"),
        (body("put", key=b""), "bad_request"),
        (body("mget", keys=[b"%d" % number for number in range(1024)]), "ok"),
        (body("mget", keys=[b"%d" % number for number in range(1025)]), "too_large"),
        (body("mget", keys=[]), "bad_request"),
        (body("mput", keys=[b"%d" % number for number in range(1025)], values=[b""] * 1025), "too_large"),
        (body("mput", keys=[b"a", b"a"], values=[b"1", b"2"]), "bad_request"),
        (body("mput", values=[b"1"]), "bad_request"),
        (body("mput", ctxs=[None]), "bad_request"),
        (body("mput", values=[None, b""]), "bad_request"),
        (body("scan", limit=1000), "ok"),
        (body("scan", limit=1001), "bad_request"),
        (body("scan", limit=0), "bad_request"),
        (body("scan", prefix=b"p" * 1025), "too_large"),
        (body("get", id=(1 << 53) - 1), "ok"),
        (body("get", id=1 << 53), "bad_request"),
        (body("get", id=b"i" * 16), "ok"),
        (body("get", id=b"i" * 17), "bad_request"),
        (body("put", ttl_ms=0), "bad_request"),
        (body("get", deadline_ms=0), "bad_request"),
        (body("get", deadline_ms=600_000), "ok"),
        (body("get", deadline_ms=600_001), "bad_request"),
        (body("get", ks="nowhere"), "unknown_keyspace"),
        (body("get", op="shutdown"), "unknown_op"),
        (body("get", op="cas"), "unsupported"),
        (body("hello", v=2), "bad_request"),
    ):
        assert siege.throw(wire, request) == code, request[:100]


def test_a_message_of_any_other_shape_is_refused_in_its_own_shape(siege: Siege, wire: WireSocket) -> None:
    ping = dumps({"id": 1, "op": "ping"})
    for frames in ([ping, ping], [b"", ping, b""], [b"x", ping], [b"", b"", ping], [ping, b""], [b""] * 10_000):
        siege.cases += 1
        wire.send_frames(frames)
        reply = wire.receive_frames()
        assert len(reply) == (2 if frames[0] == b"" else 1)
        assert loads(reply[-1])["id"] is None
        assert loads(reply[-1])["error"]["code"] == "bad_request"
    for frames in ([b""], [b"", b""]):
        wire.send_frames(frames)
        assert loads(wire.receive_frames()[-1])["error"]["code"] == "bad_request"
    wire.send_frames([b"", ping])
    assert wire.receive_frames() == [b"", dumps({"id": 1, "ok": True})]
    with WireSocket(siege.cluster.node(NODE).client, kind=zmq.REQ) as request_socket:
        assert request_socket.code(op="get", key=b"fuzz") == "ok"


def test_good_requests_between_bad_ones_are_all_served(siege: Siege, wire: WireSocket) -> None:
    random, good = Random(SEED), 300
    bad = [b"", b"\xff", dumps({"id": 1}), dumps([1]), body("get", key=1)]
    for number in range(good):
        for _ in range(random.randrange(4)):
            wire.send_frames([random.choice(bad)])
        wire.send(id=10_000 + number, op="put", key=b"between-%d" % number, value=b"v")
    served: set[object] = set()
    while len(served) < good:
        reply = wire.receive()
        if code_of(reply) == "ok":
            served.add(reply["id"])
    assert served == {10_000 + number for number in range(good)}


def test_a_flood_of_refused_requests_is_answered_and_counted_to_the_last(siege: Siege, wire: WireSocket) -> None:
    refused_before = siege.cluster.metric(NODE, "kvbus_bad_requests_total")
    for _ in range(5000):
        wire.send_frames([b"\xff"])
    for _ in range(5000):
        assert code_of(wire.receive()) == "bad_request"
    siege.cases += 5000
    assert siege.cluster.metric(NODE, "kvbus_bad_requests_total") - refused_before == 5000


def test_a_message_over_the_limit_ends_only_its_own_connection(siege: Siege, wire: WireSocket) -> None:
    with siege.cluster.connect(NODE) as loud:
        assert loud.code(op="ping") == "ok"
        loud.send_frames([b"x" * ((16 << 20) + 1)])
        reply = loud.receive()
        assert (reply["id"], code_of(reply)) == (None, "too_large")
        loud.send_frames([b"x" * ((17 << 20) + 1)])
        assert loud.is_silent(0.3)
        assert wire.code(op="ping") == "ok"
        assert loud.code(op="ping") == "ok", "a new connection of the same client is welcome"


def test_bytes_that_are_no_zeromq_hurt_nobody(siege: Siege, wire: WireSocket) -> None:
    random = Random(SEED)
    host, _, port = siege.cluster.node(NODE).client.removeprefix("tcp://").rpartition(":")
    greeting = b"\xff" + b"\x00" * 8 + b"\x7f\x03\x00NULL" + b"\x00" * 48
    openings = [
        *(b"GET /metrics HTTP/1.1\r\nHost: kvbus\r\n\r\n", b"", b"\x00", greeting, greeting[:20]),
        *(greeting + random.randbytes(size) for size in (1, 50, 5000)),
        *(random.randbytes(size) for size in (1, 10, 64, 10_000)),
        greeting + b"\x06" + b"\xff" * 8,
        greeting + b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER" + b"\x02" + b"\xff" * 8,
    ]
    with ExitStack() as open_sockets:
        for opening in openings * 4:
            siege.cases += 1
            raw = open_sockets.enter_context(socket.create_connection((host, int(port)), timeout=5))
            raw.sendall(opening)
        assert wire.code(op="ping") == "ok"


def test_clients_that_come_and_go_in_a_storm_leave_nothing_behind(siege: Siege, wire: WireSocket) -> None:
    for number in range(300):
        with siege.cluster.connect(NODE) as visitor:
            if number % 3 == 0:
                visitor.send(op="ping")
            elif number % 3 == 1:
                visitor.send(op="mget", keys=BIG_KEYS[:100])
        if number % 50 == 0:
            assert wire.code(op="ping") == "ok"


def test_a_client_that_floods_a_node_and_goes_does_not_take_it_along(siege: Siege, wire: WireSocket) -> None:
    """The whole node under a flood; ``test_flooded_sockets`` shows the cause without depending on its speed."""
    with siege.cluster.connect(NODE) as flood:
        request = dumps({"id": 1, "op": "mget", "keys": [b"absent-%d" % number for number in range(64)]})
        for _ in range(4000):
            flood.send_frames([request])
        sleep(0.1)
    siege.cases += 4000
    sleep(2 * HEARTBEAT_SECONDS)
    assert wire.code(op="ping") == "ok"


def test_a_client_that_never_reads_cannot_make_the_node_keep_its_replies(siege: Siege, wire: WireSocket) -> None:
    """600 requests of 3 KB ask for 2.4 GB of replies."""
    before = siege.cluster.memory_kib(NODE)
    most = _most_memory_for_deaf_client(siege.cluster, wire, 600)
    siege.cases += 600
    print(f"deaf client: memory rose by at most {(most - before) / 1024:.1f} MiB")
    assert most - before < 64 << 10


def test_a_scan_over_many_deleted_keys_ends(siege: Siege, wire: WireSocket) -> None:
    keys = [b"gone-%04d" % number for number in range(1000)]
    reply = wire.ask(op="mput", keys=keys, values=[b""] * len(keys))
    for key, ctx in zip(keys, cast("list[bytes]", reply["ctxs"]), strict=True):
        wire.send(op="delete", key=key, ctx=ctx)
    for _ in keys:
        assert code_of(wire.receive()) == "ok"
    for quorum in (1, 2, 3):
        assert wire.ask(op="scan", prefix=b"gone-", limit=1, r=quorum)["keys"] == []


def test_all_of_this_cost_less_than_20_mb(siege: Siege) -> None:
    grown_kib = _settled_memory_kib(siege.cluster) - siege.memory_kib
    print(f"{siege.cases} hostile messages, {grown_kib} KiB")
    assert siege.cases > 10_000
    assert grown_kib < 20_000, siege.cluster.largest_mappings(NODE)
    assert len(WRONG) > 15
