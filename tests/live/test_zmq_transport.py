"""Live transports: gossip finds the one receiver that its topic names, and refused requests are counted."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import cast

import pytest
import zmq

from kvbus.core.metrics import Metrics
from kvbus.core.tick import Tick
from kvbus.runtime.gossip_port import GossipPort
from kvbus.runtime.zmq_transport import ZmqTransport
from kvbus.wire.cbor import decode_map, dumps
from tests.live.transports import loopback_topology, open_transport

# Every name but the last begins another one.
NAMES = ("n", "n1", "n10", "n2")
ARRIVAL_SECONDS = 5.0


@pytest.fixture
def transports() -> Iterator[Mapping[str, ZmqTransport]]:
    """Give one live transport a name, each subscribed to its own name at all others."""
    topology = loopback_topology(NAMES)
    with ExitStack() as stack:
        made: dict[str, ZmqTransport] = {}
        for number, name in enumerate(NAMES):
            made[name] = open_transport(topology, number, Metrics())
            stack.callback(made[name].close)
        _wait_for_subscriptions(made)
        yield made


def _wait_for_subscriptions(transports: Mapping[str, ZmqTransport]) -> None:
    """Publish to every pair until it arrives: a subscription travels, and what is published before it does is lost."""
    missing = [(sender, receiver) for sender in NAMES for receiver in NAMES if sender != receiver]
    give_up = monotonic() + ARRIVAL_SECONDS
    while missing:
        assert monotonic() < give_up, f"no gossip from {missing}"
        for sender, receiver in missing:
            transports[sender].publish(receiver.encode(), f"probe {sender} {receiver}".encode())
        sleep(0.05)
        for receiver, transport in transports.items():
            for frame in _taken(transport):
                _, sender, meant_for = frame.decode().split()
                assert meant_for == receiver
                if (sender, receiver) in missing:
                    missing.remove((sender, receiver))
    for transport in transports.values():
        _taken(transport)


def _taken(transport: ZmqTransport) -> list[bytes]:
    frames: list[bytes] = []
    transport.watch(monotonic(), frames)
    return frames


def _arrived(transport: ZmqTransport, count: int) -> list[bytes]:
    frames: list[bytes] = []
    give_up = monotonic() + ARRIVAL_SECONDS
    while len(frames) < count and monotonic() < give_up:
        frames += _taken(transport)
        sleep(0.005)
    sleep(0.05)
    return frames + _taken(transport)


@pytest.mark.parametrize("receiver", NAMES[1:])
def test_only_the_named_node_gets_a_frame(transports: Mapping[str, ZmqTransport], receiver: str) -> None:
    transports["n"].publish(receiver.encode(), b"for you")
    assert _arrived(transports[receiver], 1) == [b"for you"]
    assert {name: _taken(transport) for name, transport in transports.items() if name != receiver} == {
        name: [] for name in NAMES if name != receiver
    }


def test_a_name_that_begins_another_does_not_get_the_others_frames(transports: Mapping[str, ZmqTransport]) -> None:
    """libzmq filters by prefix: n1 is subscribed to all that begins with n1, so also to n10."""
    for number in range(50):
        transports["n2"].publish(b"n10", b"%d" % number)
    transports["n2"].publish(b"n1", b"mine")
    assert _arrived(transports["n10"], 50) == [b"%d" % number for number in range(50)]
    assert _arrived(transports["n1"], 1) == [b"mine"]
    assert _taken(transports["n"]) == []


def test_frames_of_one_sender_arrive_in_order_and_whole(transports: Mapping[str, ZmqTransport]) -> None:
    sent = [b"", b"\x00", *(bytes([number % 256]) * (number * 37) for number in range(500))]
    for frame in sent:
        transports["n1"].publish(b"n2", frame)
    assert _arrived(transports["n2"], len(sent)) == sent


def test_messages_of_another_shape_are_dropped() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    publisher, rogue, subscriber = context.socket(zmq.PUB), context.socket(zmq.PUB), context.socket(zmq.SUB)
    try:
        rogue_port = rogue.bind_to_random_port("tcp://127.0.0.1")
        port = GossipPort(publisher, subscriber, topic=b"n1", addresses=[f"tcp://127.0.0.1:{rogue_port}"])
        seen: list[bytes] = []
        give_up = monotonic() + ARRIVAL_SECONDS
        while not seen and monotonic() < give_up:
            for message in ([b"n1"], [b"n1", b"a", b"b"], [b"n1", b""] * 50, [b"n11", b"x"], [b"n1", b"fine"]):
                rogue.send_multipart(message)
            sleep(0.05)
            port.receive(seen)
        assert set(seen) == {b"fine"}
    finally:
        context.destroy(0)


def test_publishing_to_nobody_is_no_error(transports: Mapping[str, ZmqTransport]) -> None:
    for number in range(10_000):
        transports["n1"].publish(b"nobody", b"%d" % number)
    transports["n1"].publish(b"n2", b"still there")
    assert _arrived(transports["n2"], 1) == [b"still there"]


def _memory_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def test_strangers_at_the_gossip_port_leave_nothing_behind() -> None:
    """A PUB to which nobody says anything kept 16 KB of each connection that came and went."""
    topology = loopback_topology(("n1",))
    transport = open_transport(topology, 0, Metrics())
    host, _, port = topology.members[0].gossip.removeprefix("tcp://").rpartition(":")
    random = Random(3)
    try:
        sizes_kib: list[int] = []
        for _ in range(3):
            for _ in range(20):
                for _ in range(100):
                    with socket.create_connection((host, int(port))) as stranger:
                        stranger.sendall(random.randbytes(3000))
                _taken(transport)
            sleep(0.3)
            sizes_kib.append(_memory_kib())
    finally:
        transport.close()
    assert sizes_kib[-1] - sizes_kib[0] < 16_000, "4,000 connections kept 60 MB"


def test_what_was_shed_and_what_was_bad_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvbus.runtime.held_requests.ROOM_REQUESTS", 10)
    monkeypatch.setattr("kvbus.runtime.client_port._MESSAGES_A_TICK", 1)
    topology, metrics = loopback_topology(("n1",)), Metrics()
    transport = open_transport(topology, 0, metrics)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.connect(topology.members[0].client)
    codes: list[object] = []
    pings, sent = 0, 0
    give_up = monotonic() + ARRIVAL_SECONDS
    try:
        while "overloaded" not in codes or len(codes) + pings < sent:
            assert monotonic() < give_up
            for number in range(100 if "overloaded" not in codes else 0):
                dealer.send(dumps({"id": number, "op": "ping"} if number else {"id": 0}))
                sent += 1
            tick = Tick(0.0, 0)
            transport.receive(tick)
            pings += len(tick.node_requests)
            while dealer.poll(1):
                error = decode_map(dealer.recv())["error"]
                codes.append(cast("Mapping[str, object]", error)["code"])
    finally:
        context.destroy(0)
        transport.close()
    assert codes.count("overloaded") == metrics.shed_total
    assert codes.count("bad_request") == metrics.bad_requests_total > 0
