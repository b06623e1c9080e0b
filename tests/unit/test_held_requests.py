"""Requests that wait: clients take turns, the room is bounded, and nobody is shut out of it by another."""

from __future__ import annotations

import pytest

from kvbus.core.request import ClientOrigin
from kvbus.runtime.held_requests import OWN_REQUESTS, HeldRequest, HeldRequests


def request(client: bytes, body: bytes = b"") -> HeldRequest:
    return HeldRequest(ClientOrigin(client, False), body, 0.0)


def filled(*clients: bytes) -> HeldRequests:
    held = HeldRequests()
    for number, client in enumerate(clients):
        assert held.hold(request(client, b"%d" % number))
    return held


def taken(held: HeldRequests) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    while len(held):
        origin, body, _ = held.take()
        found.append((origin.routing_id, body))
    return found


def test_clients_take_turns_and_each_keeps_its_order() -> None:
    held = filled(b"a", b"a", b"a", b"b", b"c", b"b")
    turns = [(b"a", b"0"), (b"b", b"3"), (b"c", b"4"), (b"a", b"1"), (b"b", b"5"), (b"a", b"2")]
    assert taken(held) == turns


def test_who_comes_late_waits_for_one_request_of_each_other() -> None:
    held = filled(*[b"flood"] * 100)
    held.take()
    assert held.hold(request(b"late"))
    assert [held.take().origin.routing_id for _ in range(2)] == [b"flood", b"late"]


def test_a_full_room_refuses_those_who_fill_it_and_not_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvbus.runtime.held_requests.ROOM_REQUESTS", 50)
    held = filled(*[b"flood"] * 50)
    assert not held.hold(request(b"flood"))
    assert [held.hold(request(b"polite")) for _ in range(OWN_REQUESTS + 1)] == [True] * OWN_REQUESTS + [False]
    assert len(held) == 50 + OWN_REQUESTS


def test_a_room_full_of_bytes_leaves_each_other_client_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvbus.runtime.held_requests.ROOM_BYTES", 1000)
    monkeypatch.setattr("kvbus.runtime.held_requests.OWN_BYTES", 100)
    held = HeldRequests()
    assert held.hold(request(b"flood", bytes(1000)))
    assert not held.hold(request(b"flood", b"1"))
    assert held.hold(request(b"polite", bytes(60)))
    assert not held.hold(request(b"polite", bytes(60)))
    assert not held.hold(request(b"another", bytes(101)))
    assert [len(body) for _, body in taken(held)] == [1000, 60]


def test_room_that_was_left_can_be_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvbus.runtime.held_requests.ROOM_BYTES", 100)
    monkeypatch.setattr("kvbus.runtime.held_requests.OWN_BYTES", 0)
    held = HeldRequests()
    for _ in range(10):
        assert held.hold(request(b"a", bytes(60)))
        assert not held.hold(request(b"a", bytes(60)))
        assert taken(held) == [(b"a", bytes(60))]


def test_new_clients_cannot_take_more_than_twice_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvbus.runtime.held_requests.ROOM_REQUESTS", 50)
    held = HeldRequests()
    assert [held.hold(request(b"%d" % number)) for number in range(101)] == [True] * 100 + [False]
    monkeypatch.setattr("kvbus.runtime.held_requests.ROOM_REQUESTS", 1000)
    monkeypatch.setattr("kvbus.runtime.held_requests.ROOM_BYTES", 100)
    assert [held.hold(request(b"c%d" % number, bytes(90))) for number in range(3)] == [True, True, False]
