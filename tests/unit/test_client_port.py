"""The clients' port: replies that nobody reads, requests that nobody has time for."""

from __future__ import annotations

from typing import cast

import pytest
import zmq

from kvbus.core.request import Call, ClientOrigin
from kvbus.core.tick import Tick
from kvbus.ports.mode import Limits
from kvbus.runtime.client_port import ClientPort
from kvbus.wire.cbor import decode_map, dumps
from kvbus.wire.client_requests import Intake

MIB = 1 << 20


class Tracker:
    """ZeroMQ's word on one message."""

    def __init__(self) -> None:
        self.done = False


class Router:
    """A ROUTER whose clients read when the test says so."""

    def __init__(self) -> None:
        self.copy_threshold = 0
        self.refusal: int | None = None
        self.sent: list[bytes] = []
        self.trackers: list[Tracker] = []

    def send(self, frame: bytes, flags: int, *, copy: bool = True, track: bool = False) -> Tracker | None:
        if self.refusal is not None:
            raise zmq.ZMQError(self.refusal)
        self.sent.append(frame)
        if not track:
            return None
        self.trackers.append(Tracker())
        return self.trackers[-1]

    def read_all(self) -> None:
        for tracker in self.trackers:
            tracker.done = True


class Room:
    """A port, and what its clients were told."""

    def __init__(self) -> None:
        self.router = Router()
        self.port = ClientPort(cast("zmq.Socket[bytes]", self.router), Intake({}, Limits()), 4 * MIB)

    def reply(self, size: int, kind: str = "get", client: bytes = b"one") -> str:
        """Send a reply with ``size`` bytes; return what became of it."""
        call = Call(ClientOrigin(client, False), 7, kind, kind, 1, False)
        call.tokens[0] = bytes(size)
        before = len(self.router.sent)
        self.port.reply(call)
        if len(self.router.sent) == before:
            return "dropped"
        reply = decode_map(self.router.sent[-1])
        return "ok" if reply["ok"] else str(cast("dict[str, object]", reply["error"])["code"])


def test_reads_are_refused_at_16_mib_of_unread_replies_whatever_their_size() -> None:
    for size in (2 * MIB, 100_000, 3000):
        room = Room()
        taken = next(count for count in range(20_000) if room.reply(size) == "overloaded")
        assert 13 * MIB < taken * size < 17 * MIB
        assert room.reply(size, "put") == "ok"
        assert room.reply(size, client=b"another") == "ok"
        assert len(room.router.trackers) < 70


def test_a_client_that_reads_again_is_served_again() -> None:
    room = Room()
    for _ in range(3):
        while room.reply(MIB) == "ok":
            pass
        assert room.reply(MIB) == "overloaded"
        room.router.read_all()
        assert {room.reply(MIB) for _ in range(10)} == {"ok"}


def test_replies_that_were_not_sent_are_not_waited_for() -> None:
    for refusal in (zmq.EHOSTUNREACH, zmq.EAGAIN):
        room = Room()
        room.router.refusal = refusal
        assert {room.reply(MIB, kind) for _ in range(40) for kind in ("get", "put")} == {"dropped"}
        assert room.port.dropped_replies_total == 80
        room.router.refusal = None
        assert {room.reply(MIB) for _ in range(10)} == {"ok"}


def test_clients_that_went_are_forgotten_and_those_that_owe_are_not() -> None:
    room = Room()
    while room.reply(MIB, client=b"owing") == "ok":
        pass
    for number in range(5000):
        assert room.reply(100, client=b"%d" % number) == "ok"
    assert room.reply(MIB, client=b"owing") == "overloaded"


def outcomes_of_a_burst(count: int, body: dict[str, object], *, delimited: bool = False) -> list[object]:
    """Send requests at once, let the port have its turns, and return what each is told, by id; "taken" is no reply."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    for socket in (router, dealer):
        socket.set_hwm(0)
    try:
        router.bind("inproc://port")
        dealer.connect("inproc://port")
        intake = Intake({}, Limits())
        port = ClientPort(router, intake, 4 * MIB)
        for number in range(count):
            dealer.send_multipart([*([b""] if delimited else []), dumps({"id": number, **body})])
        told: list[object] = ["taken"] * count
        taken = 0
        more = True
        while more:
            tick = Tick(0.0, 0)
            more = port.receive()
            for call in intake.hand_over(tick):
                port.reply(call)
            taken += len(tick.node_requests)
        while dealer.poll(0):
            reply = decode_map(dealer.recv_multipart()[-1])
            error = cast("dict[str, object]", reply["error"])
            told[cast("int", reply["id"])] = error["code"]
            assert error["definite"] is True
        assert told.count("taken") == taken
        return told
    finally:
        context.destroy(0)


@pytest.mark.parametrize("delimited", [False, True])
def test_more_requests_than_may_wait_are_refused_and_none_is_lost(
    monkeypatch: pytest.MonkeyPatch, delimited: bool
) -> None:
    monkeypatch.setattr("kvbus.runtime.client_port._HOLDING_SECONDS", 60.0)
    assert outcomes_of_a_burst(5000, {"op": "ping"}, delimited=delimited) == ["taken"] * 5000
    monkeypatch.setattr("kvbus.runtime.held_requests.ROOM_REQUESTS", 100)
    told = outcomes_of_a_burst(1000, {"op": "ping"}, delimited=delimited)
    assert told == ["taken"] * 612 + ["overloaded"] * 388


def test_few_large_requests_fill_the_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvbus.runtime.client_port._HOLDING_SECONDS", 60.0)
    monkeypatch.setattr("kvbus.runtime.held_requests.ROOM_BYTES", 3 * MIB)
    told = outcomes_of_a_burst(20, {"op": "ping", "client": bytes(MIB - 100)})
    assert told == ["bad_request"] * 12 + ["overloaded"] * 8
