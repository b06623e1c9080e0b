"""Links of live transports that are broken on purpose: who sees them end, and when they come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import monotonic, sleep
from typing import Any

import pytest

from kvbus.core.metrics import Metrics
from kvbus.core.request import Call, ClientOrigin, NodeRequest
from kvbus.core.tick import Tick
from kvbus.core.topology import Topology
from kvbus.core.types import NodeIndex
from kvbus.runtime.gossip_port import GossipPort
from kvbus.runtime.peer_port import PeerPort
from kvbus.runtime.zmq_transport import ZmqTransport
from tests.live.transports import loopback_topology, open_transport

NAMES = ("n1", "n2", "n3")
PATIENCE_SECONDS = 8.0
# More than any heartbeat's timeout and any pause between two hellos.
LONG_SECONDS = 5.0


class End:
    """One transport, driven by hand, and all that it has said."""

    def __init__(self, topology: Topology, me: int) -> None:
        self._topology, self._me = topology, me
        self.up: dict[str, bool] = {}
        self.changes: list[tuple[str, bool]] = []
        self.frames: list[tuple[str, bytes]] = []
        self.gossip: list[bytes] = []
        self.alarms: list[float] = []
        self.ahead_seconds = 0.0
        self.transport = self._open()

    def _open(self) -> ZmqTransport:
        transport = open_transport(self._topology, self._me, Metrics(), faults_enabled=True)
        transport.wake_by(self.alarms.append)
        return transport

    def restart(self) -> None:
        """Close and open again, with no memory of any fault."""
        self.transport.close()
        self.up = {}
        self.transport = self._open()

    def close(self) -> None:
        """Close every socket."""
        self.transport.close()

    def ask(self, operation: str, **fields: object) -> Call:
        """Perform an operation as if a client had asked for it."""
        call = Call(ClientOrigin(b"nobody", False), 1, f"admin.{operation}", "admin", 1, False)
        self.transport.obey(NodeRequest(call, dict(fields)))
        return call

    def turn(self) -> None:
        """Take what arrived; the clock that links are followed by may be ahead."""
        now = monotonic()
        tick = Tick(now, 0)
        self.transport.watch(now + self.ahead_seconds, self.gossip)
        self.transport.receive(tick)
        for peer, is_up in tick.links:
            self.up[NAMES[peer]] = is_up
            self.changes.append((NAMES[peer], is_up))
        self.frames += [(NAMES[peer], frame) for peer, frame in tick.frames]

    def send(self, to: str, frame: bytes) -> bool:
        """Send one frame."""
        return self.transport.send_peer(NodeIndex(NAMES.index(to)), [frame])


Ends = dict[str, End]


def until(ends: Ends, condition: Callable[[], bool]) -> None:
    give_up = monotonic() + PATIENCE_SECONDS
    while not condition():
        assert monotonic() < give_up, {name: end.up for name, end in ends.items()}
        for end in ends.values():
            end.turn()
        sleep(0.002)


def all_up(ends: Ends) -> bool:
    return all(end.up == {name: True for name in NAMES if name != me} for me, end in ends.items())


def pass_time(ends: Ends, seconds: float) -> None:
    end_at = monotonic() + seconds
    until(ends, lambda: monotonic() >= end_at)


def let_long_pass(ends: Ends) -> None:
    """Set the clocks forward, and let what then happens happen."""
    for end in ends.values():
        end.ahead_seconds += LONG_SECONDS
    pass_time(ends, 0.3)


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Give three transports whose links are up."""
    topology = loopback_topology(NAMES)
    with ExitStack() as stack:
        made = {name: End(topology, number) for number, name in enumerate(NAMES)}
        for end in made.values():
            stack.callback(end.close)
        until(made, lambda: all_up(made))
        for end in made.values():
            end.changes.clear()
        yield made


def error_code(call: Call) -> str:
    return "ok" if call.error is None else call.error.code


@pytest.mark.parametrize(
    ("told", "operation", "fields"),
    [
        (("n1", "n2"), "partition", {"sides": "n1 | n2"}),
        (("n1", "n2"), "partition", {"sides": "n1 -> n2"}),
        (("n1",), "partition", {"sides": "n1 -> n2"}),
        (("n2",), "partition", {"sides": "n1 -> n2"}),
        (("n1",), "fault", {"kind": "drop", "sides": "n1 -> n2"}),
    ],
)
def test_a_cut_ends_the_link_at_both_ends_whichever_way_it_goes_and_whoever_was_told(
    ends: Ends, told: tuple[str, ...], operation: str, fields: dict[str, Any]
) -> None:
    for name in told:
        assert error_code(ends[name].ask(operation, **fields)) == "ok"
    pass_time(ends, 0.3)
    assert all_up(ends), "at first frames vanish and the link is up"
    for _ in range(2):
        let_long_pass(ends)
    changes = {name: end.changes for name, end in ends.items()}
    assert changes == {"n1": [("n2", False)], "n2": [("n1", False)], "n3": []}
    for name in told:
        ends[name].ask("heal")
    begun = monotonic()
    until(ends, lambda: all_up(ends))
    assert monotonic() - begun < 1.0, "nobody waits for the next usual hello"
    assert ends["n1"].send("n2", b"after")
    assert ends["n2"].send("n1", b"after")
    until(ends, lambda: bool(ends["n2"].frames and ends["n1"].frames))
    assert (ends["n2"].frames, ends["n1"].frames) == ([("n1", b"after")], [("n2", b"after")])


def test_a_cut_link_carries_nothing_either_way_once_it_has_ended(ends: Ends) -> None:
    ends["n1"].ask("partition", sides="n1 -> n2")
    assert ends["n2"].send("n1", b"passes")
    until(ends, lambda: bool(ends["n1"].frames))
    ends["n1"].ahead_seconds = LONG_SECONDS
    until({"n1": ends["n1"]}, lambda: ends["n1"].changes == [("n2", False)])
    assert ends["n2"].send("n1", b"too late"), "n2 has not noticed yet"
    let_long_pass(ends)
    assert ends["n1"].frames == [("n2", b"passes")]


def test_a_short_cut_loses_frames_and_leaves_the_link_up(ends: Ends) -> None:
    ends["n1"].ask("partition", sides="n1 | n2")
    assert ends["n1"].send("n2", b"lost"), "nothing tells"
    ends["n2"].send("n1", b"lost")
    pass_time(ends, 0.2)
    ends["n1"].ask("heal")
    ends["n1"].turn()
    ends["n1"].send("n2", b"arrives")
    until(ends, lambda: bool(ends["n2"].frames))
    assert (ends["n2"].frames, ends["n1"].frames) == ([("n1", b"arrives")], [])
    assert all_up(ends)


def test_a_cut_outlives_the_restart_of_one_end(ends: Ends) -> None:
    for name in ("n1", "n2"):
        ends[name].ask("partition", sides="n1 | n2")
    let_long_pass(ends)
    assert ends["n1"].up["n2"] is ends["n2"].up["n1"] is False
    ends["n1"].restart()
    until(ends, lambda: ends["n1"].up.get("n3", False))
    let_long_pass(ends)
    assert ends["n1"].up == {"n3": True}
    assert ends["n2"].up["n1"] is False
    ends["n2"].ask("heal")
    until(ends, lambda: all_up(ends))


def test_only_the_link_that_is_cut_at_one_end_alone_waits_for_that_end(ends: Ends) -> None:
    for name in ("n1", "n2"):
        ends[name].ask("partition", sides="n1 | n2")
    let_long_pass(ends)
    assert ends["n1"].up["n2"] is ends["n2"].up["n1"] is False
    ends["n1"].ask("heal")
    let_long_pass(ends)
    assert ends["n1"].up["n2"] is ends["n2"].up["n1"] is False
    ends["n2"].ask("heal")
    until(ends, lambda: all_up(ends))


def test_delayed_frames_arrive_in_order_at_their_time(ends: Ends) -> None:
    ends["n1"].ask("fault", kind="delay", ms=150, jitter_ms=20, sides="n1 -> n2")
    begun = monotonic()
    for number in range(20):
        assert ends["n1"].send("n2", b"%d" % number)
    assert ends["n1"].alarms
    assert 0.15 <= min(ends["n1"].alarms) - begun < 0.25
    until(ends, lambda: len(ends["n2"].frames) == 20)
    assert monotonic() - begun >= 0.15
    assert [frame for _, frame in ends["n2"].frames] == [b"%d" % number for number in range(20)]


def test_a_receiver_can_hold_what_arrives(ends: Ends) -> None:
    ends["n2"].ask("fault", kind="clog", ways=[["n1", "n2"]], at="receiver")
    ends["n1"].send("n2", b"held")
    ends["n3"].send("n2", b"passes")
    until(ends, lambda: bool(ends["n2"].frames))
    pass_time(ends, 0.2)
    ends["n2"].ask("heal")
    until(ends, lambda: len(ends["n2"].frames) == 2)
    assert ends["n2"].frames == [("n3", b"passes"), ("n1", b"held")]


def test_a_doubled_frame_arrives_twice(ends: Ends) -> None:
    ends["n1"].ask("fault", kind="duplicate", sides="n1 -> n2")
    ends["n1"].send("n2", b"a")
    until(ends, lambda: len(ends["n2"].frames) == 2)
    assert ends["n2"].frames == [("n1", b"a")] * 2


def gossip_until(ends: Ends, sender: str, receiver: str, frame: bytes) -> None:
    """Publish until it arrives: a subscription travels, and what is published before it does is lost."""
    give_up = monotonic() + PATIENCE_SECONDS
    while frame not in ends[receiver].gossip:
        assert monotonic() < give_up, f"no gossip from {sender} to {receiver}"
        ends[sender].transport.publish(receiver.encode(), frame)
        pass_time(ends, 0.03)


@pytest.mark.parametrize("told", ["n1", "n2"])
def test_gossip_does_not_cross_a_cut_at_either_end(ends: Ends, told: str) -> None:
    for sender in ("n1", "n3"):
        gossip_until(ends, sender, "n2", b"before " + sender.encode())
    ends[told].ask("partition", sides="n1 -> n2")
    pass_time(ends, 0.1)
    for _ in range(5):
        ends["n1"].transport.publish(b"n2", b"lost")
        pass_time(ends, 0.02)
    gossip_until(ends, "n3", "n2", b"meanwhile")
    ends[told].ask("heal")
    pass_time(ends, 0.1)
    gossip_until(ends, "n1", "n2", b"after")
    assert b"lost" not in ends["n2"].gossip


def test_published_frames_are_delayed_too(ends: Ends) -> None:
    gossip_until(ends, "n1", "n2", b"before")
    ends["n1"].ask("fault", kind="delay", ms=100, sides="n1 -> n2")
    begun = monotonic()
    ends["n1"].transport.publish(b"n2", b"late")
    until(ends, lambda: b"late" in ends["n2"].gossip)
    assert monotonic() - begun >= 0.1


def test_a_node_whose_faults_are_not_enabled_has_the_plain_ports_and_names_the_setting() -> None:
    transport = open_transport(loopback_topology(("n1", "n2")), 0, Metrics())
    try:
        assert {PeerPort, GossipPort} <= {type(port) for port in vars(transport).values()}
        call = Call(ClientOrigin(b"nobody", False), 1, "admin.heal", "admin", 1, False)
        transport.obey(NodeRequest(call))
        assert error_code(call) == "unsupported"
        assert call.error is not None
        assert "[faults] enabled = true" in call.error.message
        assert "fault_rules" not in transport.counters()
    finally:
        transport.close()
