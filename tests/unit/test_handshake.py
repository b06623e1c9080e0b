"""Who may open a link."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvbus.core.types import NodeIndex
from kvbus.errors import PeerProtocolError
from kvbus.wire.cbor import dumps
from kvbus.wire.handshake import Handshake, Known
from kvbus.wire.peer_frames import HELLO, PEER_PROTOCOL_VERSION, Hello, decode_hello

OWN = Hello(version=PEER_PROTOCOL_VERSION, cluster="c", name="n1", node_id="id1", incarnation=1, epoch=1, agreement="a")
PEER = replace(OWN, name="n2", node_id="id2", incarnation=5)
MEMBERS = {"n1": NodeIndex(0), "n2": NodeIndex(1)}


def handshake(**known: Known) -> Handshake:
    return Handshake(OWN, MEMBERS, known)


def test_a_member_is_accepted_and_remembered() -> None:
    shake = handshake()
    assert shake.judge(PEER) is None
    assert shake.known == {"n2": Known("id2", 5)}
    assert shake.member("n2") == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"version": PEER_PROTOCOL_VERSION + 1}, "upgrade"), ({"agreement": "b"}, "equal on all nodes"),
     ({"cluster": "d"}, "[cluster] name"), ({"name": "n3"}, "initial_members"),
     ({"name": "n1"}, "initial_members"),
     ({"node_id": "id9"}, "data directory"), ({"incarnation": 4}, "stop the older process")],
)  # fmt: skip
def test_a_refusal_names_the_mend_and_remembers_nothing(change: dict[str, object], reason: str) -> None:
    shake = handshake(n2=Known("id2", 5))
    refused = shake.judge(decode_hello(bytes([HELLO]) + dumps({**_fields(PEER), **change})))
    assert refused is not None
    assert reason in refused
    assert shake.known == {"n2": Known("id2", 5)}


def test_the_same_start_may_come_again_and_a_later_one_replaces_it() -> None:
    shake = handshake(n2=Known("id2", 5))
    assert shake.judge(PEER) is None
    assert shake.judge(replace(PEER, incarnation=6)) is None
    assert shake.judge(PEER) is not None


def _fields(hello: Hello) -> dict[str, object]:
    return {name: getattr(hello, name) for name in Hello.__slots__}


def test_hellos_round_trip() -> None:
    assert decode_hello(PEER.encode()) == PEER


@pytest.mark.parametrize("name", Hello.__slots__)
@pytest.mark.parametrize("value", [None, -1, 1.5, b"x", [], True])
def test_a_field_of_another_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(PeerProtocolError, match=name):
        decode_hello(bytes([HELLO]) + dumps({**_fields(PEER), name: value}))


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    for frame in (data, bytes([HELLO]) + data):
        with pytest.raises(PeerProtocolError):
            decode_hello(frame)
