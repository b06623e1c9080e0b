"""Strangers and impostors at the peer port: refused, told why, logged and counted; the cluster goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from struct import pack
from time import monotonic, sleep

import pytest

from kvbus.config import load_config
from kvbus.core.columns import pack_column
from kvbus.core.ring import key_hash
from kvbus.core.types import Epoch
from kvbus.wire.peer_frames import MAX_FRAME_BYTES, MAX_FRAMES, PEER_PROTOCOL_VERSION, Hello, pack_head
from kvbus_modes.ap.mode import EPOCH_BITS
from tests.live.local_cluster import LocalCluster
from tests.live.wire_socket import WireSocket, code_of

SEED = 20_260_803
WELCOME, REFUSED = b"\x02", b"\x03"
WRITE, WRITE_ACK, READ, READ_ANSWER, SCAN, SCAN_ANSWER, FORWARD, FORWARD_ANSWER = range(0x10, 0x18)
RECOVERY_SECONDS = 8.0


@pytest.fixture(scope="module")
def cluster(unharmed_cluster: LocalCluster) -> Iterator[LocalCluster]:
    pids, before = unharmed_cluster.pids, unharmed_cluster.memory_kib("n1")
    yield unharmed_cluster
    unharmed_cluster.assert_unharmed(pids)
    assert unharmed_cluster.memory_kib("n1") - before < 100 << 10


@pytest.fixture
def stranger(cluster: LocalCluster) -> Iterator[WireSocket]:
    """Give a DEALER at n1's peer port; afterwards the whole cluster must serve a write with all three replicas."""
    with WireSocket(cluster.node("n1").peer) as socket:
        yield socket
    cluster.wait_until_whole(RECOVERY_SECONDS)


def _count_after(cluster: LocalCluster, counter: str, before: float, expected: int) -> float:
    """Return by how much the counter of n1 has grown, as soon as that is ``expected`` or the time is up."""
    give_up = monotonic() + 5
    while (grown := cluster.metric("n1", counter) - before) < expected and monotonic() < give_up:
        sleep(0.02)
    return grown


def _hello(cluster: LocalCluster, name: str) -> Hello:
    """Return what the node ``name`` itself says at its links: an impostor that has read its data directory."""
    node = cluster.node(name)
    config = load_config(Path(node.config), {})
    papers = json.loads(Path(node.data_dir, "node.json").read_bytes())
    return Hello(
        version=PEER_PROTOCOL_VERSION,
        cluster=config.cluster,
        name=name,
        node_id=papers["node_id"],
        incarnation=papers["incarnation"],
        epoch=1,
        agreement=config.agreement(),
    )


def _refusal(socket: WireSocket, *frames: bytes) -> str:
    socket.send_frames(frames)
    (answer,) = socket.receive_frames()
    assert answer[:1] == REFUSED
    return answer[1:].decode()


def _take_the_place_of(cluster: LocalCluster, socket: WireSocket, name: str) -> None:
    socket.send_frames([_hello(cluster, name).encode()])
    assert socket.receive_frames() == [WELCOME]


def _engine_key(cluster: LocalCluster, key: bytes) -> bytes:
    keyspace = load_config(Path(cluster.node("n1").config), {}).keyspaces["default"]
    return keyspace.engine_head(key_hash("default", key) >> 58) + key


def test_every_wrong_hello_is_refused_with_its_mend_counted_and_logged(
    cluster: LocalCluster, stranger: WireSocket
) -> None:
    good = _hello(cluster, "n3")
    before = cluster.metric("n1", "kvbus_peer_refusals_total")
    wrong = {
        "upgrade the older node": replace(good, version=PEER_PROTOCOL_VERSION + 1),
        "correct [cluster] name": replace(good, cluster="other"),
        "is no other member": replace(good, name="n9"),
        "correct [cluster] initial_members": replace(good, name="n1"),
        "make [cluster] and [keyspaces] equal": replace(good, agreement="0" * 32),
        "another data directory": replace(good, node_id="f" * 32),
        "stop the older process": replace(good, incarnation=0),
    }
    for mend, hello in wrong.items():
        assert mend in _refusal(stranger, hello.encode())
        assert mend in cluster.log("n1")
    assert cluster.metric("n1", "kvbus_peer_refusals_total") - before == len(wrong)


def test_whoever_does_not_say_hello_is_told_to(cluster: LocalCluster, stranger: WireSocket) -> None:
    random = Random(SEED)
    dropped = cluster.metric("n1", "kvbus_dropped_peer_messages_total")
    data = pack_head(READ, space=0, batch=1, epoch=Epoch(1)) + pack_column([b"\0" * 6])
    for frames in ([b""], [data], [b"\x00" * 100], [b"\x02"], [b"\x03because"], [b"", b"\x01"]):
        assert _refusal(stranger, *frames) == "say hello first"
    assert "say hello first" in cluster.log("n1")
    assert cluster.metric("n1", "kvbus_dropped_peer_messages_total") - dropped == 6
    good = _hello(cluster, "n3").encode()
    for size in range(1, len(good)):
        assert "hello" in _refusal(stranger, good[:size])
    for number in range(2000):
        garbage = (b"\x01" if number % 2 else b"\x04") + random.randbytes(random.randrange(200))
        assert _refusal(stranger, garbage)
    assert "4096 bytes" in _refusal(stranger, b"\x01" + b"x" * 5000)


def test_a_thousand_wrong_names_do_not_fill_the_log(cluster: LocalCluster, stranger: WireSocket) -> None:
    before, good = len(cluster.log("n1")), _hello(cluster, "n3")
    for number in range(2000):
        assert "is no other member" in _refusal(stranger, replace(good, name=f"stranger-{number}" * 20).encode())
    assert len(cluster.log("n1")) - before < 100_000


def test_messages_of_many_frames_and_over_the_cap_are_dropped(cluster: LocalCluster, stranger: WireSocket) -> None:
    assert _refusal(stranger, *[b"x"] * 10_000) == "say hello first"
    with WireSocket(cluster.node("n1").peer) as loud:
        loud.send_frames([b"\x10" * (MAX_FRAME_BYTES + 1)])
        assert loud.is_silent(0.5), "the connection ends and nothing is answered"
    _take_the_place_of(cluster, stranger, "n2")
    dropped = cluster.metric("n1", "kvbus_dropped_peer_messages_total")
    stranger.send_frames([b"x"] * (MAX_FRAMES + 1))
    assert _count_after(cluster, "kvbus_dropped_peer_messages_total", dropped, 1) >= 1


def test_a_link_that_an_impostor_took_goes_back_to_its_owner(cluster: LocalCluster, stranger: WireSocket) -> None:
    """n3 learns with its next frame that its hello counts no more, says hello again and has its link back."""
    _take_the_place_of(cluster, stranger, "n3")
    with cluster.connect("n3") as wire:
        assert wire.code(op="put", key=b"stolen", value=b"v", w=2, deadline_ms=3000) == "ok"
    cluster.wait_until_whole(RECOVERY_SECONDS)
    stranger.send_frames([pack_head(READ, space=0, batch=1, epoch=Epoch(1)) + pack_column([b"\0" * 6])])
    (answer,) = stranger.receive_frames()
    assert answer == REFUSED + b"say hello first"


def test_garbage_from_a_welcome_sender_is_counted_frame_by_frame(cluster: LocalCluster, stranger: WireSocket) -> None:
    random = Random(SEED)
    _take_the_place_of(cluster, stranger, "n2")
    before = cluster.metric("n1", "kvbus_peer_protocol_errors_total")
    frames = [random.randbytes(random.randrange(24)) for _ in range(500)]
    frames = [frame for frame in frames if frame[:1] != b"\x01"]
    for kind in (WRITE, WRITE_ACK, READ, READ_ANSWER, SCAN, SCAN_ANSWER, 0x18, 0x1F, 0x20, 0xFF):
        head = pack_head(kind, space=0, batch=random.getrandbits(64), epoch=Epoch(1))
        # A first word of 4 bytes that is no count of what follows.
        frames += [head + b"\xff\xff\xff\x7f" + random.randbytes(random.randrange(64)) for _ in range(100)]
    for begin in range(0, len(frames), 100):
        stranger.send_frames(frames[begin : begin + 100])
    assert _count_after(cluster, "kvbus_peer_protocol_errors_total", before, len(frames)) == len(frames)


def _one_sibling(context: bytes, *, flags: int = 0, counter: int = 1, value: bytes = b"v") -> bytes:
    dot = pack("<IQQ", 2, 5, counter)
    return b"\x01\x01\x00" + dot + pack("<QBII", 1, flags, len(context), len(value)) + context + value


def test_a_broken_record_is_refused_and_its_key_stays_readable(cluster: LocalCluster, stranger: WireSocket) -> None:
    entry = pack("<IQQ", 1, 1, 1)
    contexts = [b"garbage!", b"\x01\x01\x00\x00\x00", b"\x01\x09\x00\x00\x00" + entry, b"\x02\x01\x00\x00\x00" + entry]
    contexts += [b"\x01\x01\x00\x00\x00" + pack("<IQQ", 1, 1, 0), b"\x01\x02\x00\x00\x00" + entry + entry]
    records = [_one_sibling(context) for context in contexts]
    records += [b"", b"\x01", b"\x01\x02\x00", b"\xff" * 60, _one_sibling(b"", counter=0), _one_sibling(b"", flags=9)]
    records += [_one_sibling(b"") + b"more", _one_sibling(b"")[:-1], b"\x01\xff\xff" + b"\x00" * 60]
    before = cluster.metric("n1", "kvbus_peer_protocol_errors_total")
    _take_the_place_of(cluster, stranger, "n3")
    for number, record in enumerate(records):
        key = _engine_key(cluster, b"poison-%d" % number)
        head = pack_head(WRITE, space=0, batch=number, epoch=Epoch(1)) + bytes(16)
        frame = head + pack_column([key]) + pack_column([record])
        stranger.send_frames([frame])
    with cluster.connect("n1") as wire:
        for number in range(len(records)):
            assert wire.code(op="get", key=b"poison-%d" % number, r=1) == "ok"
            assert wire.ask(op="get", key=b"poison-%d" % number, r=1)["values"] == []
            assert wire.code(op="put", key=b"poison-%d" % number, value=b"v", w=1) == "ok"
        assert wire.code(op="scan", with_values=True, r=1) == "ok"
    assert cluster.metric("n1", "kvbus_peer_protocol_errors_total") - before == len(records)


def test_an_engine_key_without_a_user_key_is_refused(cluster: LocalCluster, stranger: WireSocket) -> None:
    keys, errors = cluster.metric("n1", "kvbus_keys"), cluster.metric("n1", "kvbus_peer_protocol_errors_total")
    _take_the_place_of(cluster, stranger, "n2")
    for key in (b"", b"abc", _engine_key(cluster, b"")):
        payload = pack_column([key]) + pack_column([_one_sibling(b"")])
        stranger.send_frames([pack_head(WRITE, space=0, batch=1, epoch=Epoch(1)) + bytes(16) + payload])
    assert _count_after(cluster, "kvbus_peer_protocol_errors_total", errors, 3) == 3
    assert cluster.metric("n1", "kvbus_keys") == keys


def test_lying_answers_to_what_is_under_way_end_in_honest_errors(cluster: LocalCluster, stranger: WireSocket) -> None:
    """n3 says nothing (it is asked through a link that it no longer serves); the impostor answers in its place."""
    _take_the_place_of(cluster, stranger, "n3")
    incarnation = _hello(cluster, "n1").incarnation
    lies: list[bytes] = []
    for number in range(400):
        batch = (incarnation << EPOCH_BITS) + number
        for kind, payload in (
            (READ_ANSWER, pack_column([_one_sibling(b"garbage!")])),
            (READ_ANSWER, pack_column([b"\xff" * 40])),
            (SCAN_ANSWER, pack_column([]) + pack_column([])),
            (SCAN_ANSWER, pack_column([b"\0" * 6]) + pack_column([b"\xff" * 40])),
            (WRITE_ACK, pack("<3I", 2, 0, 4_000_000_000)),
            (FORWARD_ANSWER, b"\xa1\x62ok\xf5"),
        ):
            lies.append(pack_head(kind, space=0, batch=batch, epoch=Epoch(1)) + payload)
    with cluster.connect("n1") as wire:
        for number in range(60):
            wire.send(op="get", key=b"lie-%d" % number, r=3, deadline_ms=1000)
            wire.send(op="put", key=b"lie-%d" % number, value=b"v", w=3, deadline_ms=1000)
            wire.send(op="scan", prefix=b"lie-", r=3, deadline_ms=1000)
            stranger.send_frames(lies[number * 40 : (number + 1) * 40])
        for _ in range(180):
            assert code_of(wire.receive()) in ("ok", "timeout", "no_quorum")
