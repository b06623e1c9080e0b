"""A node's own account of what is broken on purpose: which of its directions, at which end, since when."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

import pytest

from kvbus.core.faults import OPERATIONS
from kvbus.core.types import NodeIndex
from kvbus.errors import BadRequest
from kvbus.runtime.faults import LinkFaults
from kvbus.wire.fault_requests import FIELDS

NAMES = ("n1", "n2", "n3")
N1, N2, N3 = (NodeIndex(number) for number in range(3))


class Node(LinkFaults):
    """The faults of one node, and all that arrived late or was asked of the clock."""

    def __init__(self, me: str) -> None:
        super().__init__(me, NAMES, Random(1))
        self.arrived: list[tuple[str, int, bytes]] = []
        self.alarms: list[float] = []
        self.alarm = self.alarms.append
        for name, stream in (("out", self.outgoing), ("in", self.incoming), ("gossip", self.published)):
            stream.deliver = partial(self._arrive, name)

    def _arrive(self, stream: str, peer: NodeIndex, frames: list[bytes]) -> None:
        self.arrived += [(stream, peer, frame) for frame in frames]

    def ask(self, operation: str, now: float = 0.0, **fields: Any) -> list[tuple[str, str, str, str]]:
        """Perform an operation; return the rules in force as (from, to, kind, end)."""
        told: Any = self.obey(f"admin.{operation}", fields, now)["rules"]
        return [(rule["from"], rule["to"], rule["kind"], rule["at"]) for rule in told]


def test_a_partition_is_kept_at_both_ends_of_each_way() -> None:
    assert Node("n1").ask("partition", sides="n1 | n2,n3") == [
        ("n1", "n2", "partition", "sender"),
        ("n1", "n3", "partition", "sender"),
        ("n2", "n1", "partition", "receiver"),
        ("n3", "n1", "partition", "receiver"),
    ]
    assert Node("n2").ask("partition", sides="n1 | n2,n3") == [
        ("n2", "n1", "partition", "sender"),
        ("n1", "n2", "partition", "receiver"),
    ]


def test_a_node_outside_a_cut_keeps_nothing_of_it() -> None:
    node = Node("n3")
    assert node.ask("partition", sides="n1 | n2") == []
    assert not node.is_active


def test_a_fault_sent_to_all_nodes_is_applied_once_a_way() -> None:
    kept = [rule for name in NAMES for rule in Node(name).ask("fault", kind="drop", chance=0.5, sides="n1 | n2")]
    assert kept == [("n1", "n2", "drop", "sender"), ("n2", "n1", "drop", "sender")]


def test_a_receiver_applies_a_fault_when_it_is_told_to() -> None:
    fields: Any = {"kind": "delay", "ms": 5, "ways": [["n1", "n2"]], "at": "receiver"}
    assert Node("n2").ask("fault", **fields) == [("n1", "n2", "delay", "receiver")]
    assert Node("n1").ask("fault", **fields) == []


def test_rules_show_what_was_written_and_what_it_cost() -> None:
    node = Node("n1")
    node.ask("fault", kind="clog", sides="  n1   -> n2")
    node.ask("partition", ways=[["n3", "n1"]])
    node.taken(node.outgoing, N2, [bytes(100)], 0.0)
    node.taken(node.incoming, N3, [b"a", b"b"], 0.0)
    told: Any = node.obey("admin.faults", {}, 0.0)["rules"]
    assert [(rule["sides"], rule["lost"], rule["held_bytes"]) for rule in told] == [
        ("n1 -> n2", 0, 164),
        ("n3 -> n1", 2, 0),
    ]
    assert node.counters() == {"fault_rules": 2, "fault_lost_frames_total": 2}


def test_frames_of_other_peers_pass() -> None:
    node = Node("n1")
    node.ask("partition", sides="n1 | n2")
    assert node.taken(node.outgoing, N2, [b"a"], 0.0) == []
    assert node.taken(node.outgoing, N3, [b"a"], 0.0) == [b"a"]
    assert node.taken(node.incoming, N3, [b"a"], 0.0) == [b"a"]


def test_gossip_obeys_the_senders_rules() -> None:
    node = Node("n1")
    node.ask("partition", sides="n1 | n2")
    assert node.taken(node.published, N2, [b"a"], 0.0) == []
    assert node.taken(node.published, N3, [b"a"], 0.0) == [b"a"]


def test_late_frames_are_delivered_at_the_time_that_the_alarm_was_set_for() -> None:
    node = Node("n1")
    node.ask("fault", kind="delay", ms=100, sides="n1 -> n2")
    node.ask("fault", kind="delay", ms=50, ways=[["n3", "n1"]], at="receiver")
    node.taken(node.outgoing, N2, [b"a"], 1.0)
    node.taken(node.incoming, N3, [b"b"], 1.0)
    assert node.alarms == pytest.approx([1.1, 1.05])
    node.alarms.clear()
    node.release(1.06)
    assert node.arrived == [("in", N3, b"b")]
    assert node.alarms == pytest.approx([1.1]), "the rest is not forgotten"
    node.release(1.11)
    assert node.arrived[1:] == [("out", N2, b"a")]


def test_a_heal_lets_go_of_what_is_held_and_of_every_rule() -> None:
    node = Node("n1")
    node.ask("fault", kind="clog", sides="n1 -> n2")
    node.ask("partition", sides="n3")
    node.taken(node.outgoing, N2, [b"a", b"b"], 0.0)
    node.taken(node.outgoing, N3, [b"lost"], 0.0)
    assert node.ask("heal", 7.0) == []
    assert node.alarms == [7.0]
    node.release(7.0)
    assert node.arrived == [("out", N2, b"a"), ("out", N2, b"b")]
    assert (node.is_active, node.cut_since) == (False, {})
    assert node.counters() == {"fault_rules": 0, "fault_lost_frames_total": 1}, "what is counted stays counted"


def test_a_heal_without_faults_wakes_nobody() -> None:
    node = Node("n1")
    assert node.ask("heal", 7.0) == []
    assert node.alarms == []


def test_a_cut_of_either_direction_cuts_the_link_from_its_first_moment() -> None:
    node = Node("n1")
    node.ask("fault", 1.0, kind="drop", sides="n1 -> n2")
    node.ask("partition", 2.0, ways=[["n2", "n1"], ["n3", "n1"]])
    assert node.cut_since == {N2: 1.0, N3: 2.0}
    node.ask("fault", 3.0, kind="drop", chance=0.5, sides="n1 -> n2")
    assert node.cut_since == {N2: 1.0, N3: 2.0}, "the other direction is still cut"


def test_a_drop_that_is_no_longer_total_cuts_no_longer() -> None:
    node = Node("n1")
    node.ask("fault", 1.0, kind="drop", sides="n1 -> n2")
    node.ask("fault", 2.0, kind="drop", chance=0.5, sides="n1 -> n2")
    assert node.cut_since == {}


@pytest.mark.parametrize("kind", ["clog", "delay", "duplicate"])
def test_other_faults_leave_the_link_up(kind: str) -> None:
    node = Node("n1")
    node.ask("fault", kind=kind, sides="n1 | n2", **({"ms": 5} if kind == "delay" else {}))
    assert node.cut_since == {}


@pytest.mark.parametrize(
    ("operation", "fields", "mend"),
    [
        ("partition", {}, "either sides"), ("partition", {"sides": "n1", "ways": [["n1", "n2"]]}, "either sides"),
        ("partition", {"sides": 5}, "must be text"), ("partition", {"sides": "x" * 5000}, "4096"),
        ("partition", {"sides": "n1 | n9"}, "there are: n1, n2, n3"),
        ("partition", {"sides": "n1,n2,n3"}, "parts nobody"),
        ("partition", {"ways": []}, "array of pairs"), ("partition", {"ways": "n1"}, "array of pairs"),
        ("partition", {"ways": ["n1"]}, "pair of two nodes"),
        ("partition", {"ways": [["n1", "n1"]]}, "pair of two nodes"),
        ("partition", {"ways": [["n1", "n2", "n3"]]}, "pair of two nodes"),
        ("partition", {"ways": [["n1", "n9"]]}, "no node 'n9'; there are: n1, n2, n3"),
        ("partition", {"ways": [["n1", ["n2"]]]}, "no node 'list'"),
        ("fault", {"sides": "n1"}, "kind must be one of drop, delay, duplicate, clog"),
        ("fault", {"sides": "n1", "kind": "partition"}, "kind must be one of"),
        ("fault", {"sides": "n1", "kind": ["drop"]}, "kind must be one of"),
        ("fault", {"sides": "n1", "kind": "drop", "chance": "half"}, "chance must be a number"),
        ("fault", {"sides": "n1", "kind": "drop", "chance": True}, "chance must be a number"),
        ("fault", {"sides": "n1", "kind": "drop", "chance": 0}, "chance must be a number above 0"),
        ("fault", {"sides": "n1", "kind": "delay", "ms": 1.5}, "ms must be an unsigned integer"),
        ("fault", {"sides": "n1", "kind": "delay"}, "delay needs ms"),
        ("fault", {"sides": "n1", "kind": "clog", "ms": 5}, "clog has no ms"),
        ("fault", {"sides": "n1", "kind": "clog", "at": "both"}, '"sender" or "receiver"'),
    ],
)  # fmt: skip
def test_a_wrong_field_is_refused_with_its_mend_and_changes_nothing(
    operation: str, fields: dict[str, Any], mend: str
) -> None:
    node = Node("n1")
    with pytest.raises(BadRequest, match=mend):
        node.ask(operation, **fields)
    assert (node.rules(), node.is_active) == ([], False)


def test_the_machine_and_the_wire_know_the_same_operations() -> None:
    assert sorted(OPERATIONS) == sorted(FIELDS)
