"""Publish and subscribe between live transports: the sender's topic picks the one receiver."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from time import monotonic, sleep

import pytest
import zmq

from kvbus.core.topology import Member, Topology
from kvbus.core.types import NodeIndex
from kvbus.ports.mode import Limits
from kvbus.runtime.gossip_port import GossipPort
from kvbus.runtime.zmq_transport import Addresses, ZmqTransport
from kvbus.wire.client_requests import Intake
from kvbus.wire.handshake import Handshake
from kvbus.wire.peer_frames import PEER_PROTOCOL_VERSION, Hello
from tests.live.ports import free_base_port

# Every name but the last begins another one.
NAMES = ("n", "n1", "n10", "n2")
ARRIVAL_SECONDS = 5.0


def _transport(topology: Topology, me: int) -> ZmqTransport:
    member = topology.members[me]
    hello = Hello(
        version=PEER_PROTOCOL_VERSION,
        cluster="gossip",
        name=member.name,
        node_id=f"{me:032x}",
        incarnation=1,
        epoch=1,
        agreement="same",
    )
    return ZmqTransport(
        listen=Addresses(client=member.client, peer=member.peer, gossip=member.gossip),
        topology=topology,
        me=NodeIndex(me),
        handshake=Handshake(hello, topology.index, {}),
        intake=Intake({}, Limits()),
        request_bytes=1 << 20,
        reply_bytes=1 << 20,
        log=lambda event, fields: None,
        on_known=lambda: None,
    )


@pytest.fixture
def transports() -> Iterator[Mapping[str, ZmqTransport]]:
    """Give one live transport a name, each subscribed to its own name at all others."""
    base = free_base_port(len(NAMES))
    members = [
        Member(
            name=name,
            client=f"tcp://127.0.0.1:{base + 10 * number}",
            peer=f"tcp://127.0.0.1:{base + 10 * number + 1}",
            gossip=f"tcp://127.0.0.1:{base + 10 * number + 2}",
        )
        for number, name in enumerate(NAMES)
    ]
    topology = Topology.first(members=members, partitions=4, replicas=3)
    with ExitStack() as stack:
        made: dict[str, ZmqTransport] = {}
        for number, name in enumerate(NAMES):
            made[name] = _transport(topology, number)
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
