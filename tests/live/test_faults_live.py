"""Clusters broken on purpose through the command line: who still answers, what is told, and that a heal mends it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import Any, cast

import pytest

from kvbus.client import AsyncClient
from tests.live.local_cluster import LocalCluster, local_cluster, run_kvbus
from tests.live.wire_socket import WireSocket, code_of

Json = dict[str, Any]
# The transport's silence, a look at the links ten times a second, and a slow machine.
NOTICED_SECONDS = 6.0


@pytest.fixture
def breakable(cluster: LocalCluster) -> Iterator[LocalCluster]:
    """Give the shared cluster, and mend it afterwards, whatever the test left."""
    yield cluster
    for name in cluster.names:
        cluster.node(name).resume()
    run(cluster, "heal")


def run(cluster: LocalCluster, *arguments: str, code: int = 0) -> str:
    """Run a command; return what it printed on both streams."""
    done = run_kvbus(*arguments, "--dir", str(cluster.folder))
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def as_json(cluster: LocalCluster, *arguments: str, code: int = 0) -> Json:
    done = run_kvbus(*arguments, "-o", "json", "--dir", str(cluster.folder))
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stderr == ""
    found: Json = json.loads(done.stdout)
    return found


def states(cluster: LocalCluster, name: str) -> dict[str, str]:
    """Return each node's state as ``name`` sees it."""
    with cluster.connect(name) as wire:
        nodes: Any = wire.ask(op="topology")["nodes"]
    return {node["name"]: node["status"] for node in nodes}


def wait_for(cluster: LocalCluster, name: str, down: set[str]) -> None:
    """Wait until ``name`` sees exactly these nodes down."""
    give_up = monotonic() + NOTICED_SECONDS
    while {other for other, state in states(cluster, name).items() if state == "down"} != down:
        assert monotonic() < give_up, f"{name} sees {states(cluster, name)}"
        sleep(0.05)


def seconds(wire: WireSocket, count: int = 7, **fields: object) -> float:
    """Return the median time of requests, one after the other."""
    times: list[float] = []
    for _ in range(count):
        begun = monotonic()
        assert wire.code(**fields) == "ok"
        times.append(monotonic() - begun)
    return median(times)


def test_both_sides_of_a_partition_answer_and_the_lone_one_says_degraded(breakable: LocalCluster) -> None:
    told = as_json(breakable, "partition", "n1 | n2,n3")
    assert told["ways"] == [["n1", "n2"], ["n1", "n3"], ["n2", "n1"], ["n3", "n1"]]
    assert (told["kept_by"], told["failed"]) == (["n1", "n2", "n3"], [])
    wait_for(breakable, "n1", {"n2", "n3"})
    for name in ("n2", "n3"):
        wait_for(breakable, name, {"n1"})
    with breakable.connect("n1") as lone, breakable.connect("n2") as rest:
        left, right = (wire.ask(op="put", key=b"cut-cart", value=side) for wire, side in ((lone, b"A"), (rest, b"B")))
        assert (left["ok"], left["degraded"], left["acks"]) == (True, True, 1)
        assert (right["ok"], right.get("degraded")) == (True, None)
        assert lone.code(op="put", key=b"cut-cart", value=b"C", w=2) == "no_quorum"
        assert lone.ask(op="get", key=b"cut-cart")["values"] == [b"A"]
        assert rest.ask(op="get", key=b"cut-cart")["values"] == [b"B"]
        assert as_json(breakable, "heal") == {"healed": ["n1", "n2", "n3"], "not_running": [], "failed": []}
        for name in breakable.names:
            wait_for(breakable, name, set())
        breakable.wait_until_whole()
        found: Any = lone.ask(op="get", key=b"cut-cart", r=3)["values"]
        assert sorted(found) == [b"A", b"B"]


def test_status_names_what_is_broken_so_that_nobody_forgets_to_heal(breakable: LocalCluster) -> None:
    run(breakable, "partition", "n1 | n2,n3")
    run(breakable, "fault", "delay", "n2 -> n3", "--ms", "5", "--jitter-ms", "3")
    assert as_json(breakable, "status")["faults"] == ["partition: n1 | n2,n3", "delay 5 ms + 0 to 3: n2 -> n3"]
    assert "until kvbus heal:\n  partition: n1 | n2,n3\n  delay" in run(breakable, "status")
    listed = as_json(breakable, "fault", "list")["faults"]
    assert len(listed) == 9, "both ends of four directions, and one sender"
    assert breakable.metric("n1", "kvbus_fault_rules") == 4
    run(breakable, "heal")
    assert as_json(breakable, "status")["faults"] == []
    assert run(breakable, "fault", "list") == "nothing is broken on purpose\n"


def test_a_one_way_cut_ends_the_link_at_both_ends_and_no_other(breakable: LocalCluster) -> None:
    run(breakable, "partition", "n1 -> n2")
    wait_for(breakable, "n1", {"n2"})
    wait_for(breakable, "n2", {"n1"})
    assert states(breakable, "n3") == {"n1": "up", "n2": "up", "n3": "up"}
    with breakable.connect("n1") as wire:
        put = wire.ask(op="put", key=b"cut-one-way", value=b"v", w=2)
        assert (put["ok"], put.get("degraded")) == (True, None), "n3 still hears n1"
    run(breakable, "heal")
    for name in ("n1", "n2"):
        wait_for(breakable, name, set())


def test_a_delay_is_paid_once_a_round_trip_and_ends_with_the_heal(breakable: LocalCluster) -> None:
    # More than half of the pause between two looks at all sockets: a frame must not have to wait for the next one.
    delay_ms = 40
    with breakable.connect("n1") as wire:
        plain = min(seconds(wire, op="get", key=b"cut-slow", r=3) for _ in range(3))
        # The replicas have nothing else to wake up for than the answers that they hold back.
        run(breakable, "fault", "delay", "* -> n1", "--ms", str(delay_ms))
        slow = min(seconds(wire, op="get", key=b"cut-slow", r=3) for _ in range(3))
        run(breakable, "heal")
        healed = min(seconds(wire, op="get", key=b"cut-slow", r=3) for _ in range(3))
    print(f"get {plain * 1000:.1f} ms, delayed {slow * 1000:.1f} ms, healed {healed * 1000:.1f} ms")
    assert delay_ms / 1000 <= slow < 2 * delay_ms / 1000
    assert slow / max(plain, healed) > 5


def test_a_lossy_way_fails_some_demands_and_not_others(breakable: LocalCluster) -> None:
    run(breakable, "fault", "drop", "n1 -> n2", "--chance", "0.5")
    with breakable.connect("n1") as wire:
        codes = [
            wire.code(op="put", key=b"cut-lossy-%d" % number, value=b"v", w=3, deadline_ms=150) for number in range(24)
        ]
    assert set(codes) == {"ok", "timeout"}
    (rule,) = as_json(breakable, "fault", "list")["faults"]
    assert (rule["node"], rule["from"], rule["to"], rule["kind"], rule["chance"]) == ("n1", "n1", "n2", "drop", 0.5)
    assert rule["lost"] >= codes.count("timeout")
    assert breakable.metric("n1", "kvbus_fault_lost_frames_total") >= rule["lost"]


def test_a_clogged_way_holds_frames_with_the_link_up_and_the_heal_lets_them_go(breakable: LocalCluster) -> None:
    run(breakable, "fault", "clog", "n1 -> n2,n3")
    with breakable.connect("n1") as near, breakable.connect("n2") as far:
        put = near.ask(op="put", key=b"cut-clogged", value=b"v")
        assert (put["ok"], put["degraded"], put["acks"]) == (True, True, 1)
        assert far.ask(op="get", key=b"cut-clogged", r=1)["values"] == []
        assert "down" not in states(breakable, "n1").values()
        held = [rule["held_bytes"] for rule in as_json(breakable, "fault", "list")["faults"]]
        assert min(held) > 0
        run(breakable, "heal")
        give_up = monotonic() + NOTICED_SECONDS
        while far.ask(op="get", key=b"cut-clogged", r=1)["values"] != [b"v"]:
            assert monotonic() < give_up
            sleep(0.01)


def test_a_cut_holds_while_one_end_is_started_anew(breakable: LocalCluster) -> None:
    run(breakable, "partition", "n1 | n2,n3")
    wait_for(breakable, "n2", {"n1"})
    breakable.kill("n1")
    begun = monotonic()
    told = run(breakable, "cluster", "start", "n1")
    assert monotonic() - begun < 30, "it does not wait for links that are cut"
    assert "its links not waited for (partition: n1 | n2,n3)" in told
    assert [rule["node"] for rule in as_json(breakable, "fault", "list")["faults"]] == ["n2", "n2", "n3", "n3"]
    sleep(0.5)  # Its first hellos have long been said.
    assert states(breakable, "n1") == {"n1": "up", "n2": "down", "n3": "down"}
    run(breakable, "heal")
    for name in breakable.names:
        wait_for(breakable, name, set())


def test_a_paused_node_is_shown_not_told_of_cuts_and_goes_on_with_resume(breakable: LocalCluster) -> None:
    assert as_json(breakable, "pause", "n3")["nodes"][0]["state"] == "paused"
    assert run(breakable, "pause", "n3") == "n3 is paused already\n"
    shown = {node["name"]: node["state"] for node in as_json(breakable, "cluster", "status")["nodes"]}
    assert shown == {"n1": "running", "n2": "running", "n3": "paused"}
    assert "paused" in run(breakable, "cluster", "start", "n3")
    cut = as_json(breakable, "partition", "n3", code=1)
    assert cut["kept_by"] == ["n1", "n2"]
    assert [(each["node"], each["code"]) for each in cut["failed"]] == [("n3", "unreachable")]
    slow = as_json(breakable, "fault", "delay", "n3 -> n1", "--ms", "5")
    assert (slow["kept_by"], slow["bare"]) == (["n1"], []), "the receiver stands in for a sender that does not answer"
    assert run(breakable, "resume", "n3") == "resumed n3\n"
    assert run(breakable, "resume", "n3") == "n3 was not paused\n"
    assert as_json(breakable, "heal")["healed"] == ["n1", "n2", "n3"]


def test_a_paused_node_can_be_stopped_and_one_that_is_stopped_cannot_be_paused(breakable: LocalCluster) -> None:
    run(breakable, "pause", "n3")
    said_before = len(breakable.log("n3"))
    assert run(breakable, "cluster", "stop", "n3") == "stopped n3\n"
    assert '"event": "stopped"' in breakable.log("n3")[said_before:], "it ended cleanly"
    for command in ("pause", "resume"):
        assert "n3 is not running; start it with: kvbus cluster start n3" in run(breakable, command, "n3", code=1)
    cut = as_json(breakable, "partition", "n3", code=1)
    assert (cut["kept_by"], cut["failed"][0]["message"]) == (["n1", "n2"], "n3 is not running")
    assert as_json(breakable, "heal") == {"healed": ["n1", "n2"], "not_running": ["n3"], "failed": []}


def test_without_the_setting_nothing_is_broken_and_the_setting_is_named(tmp_path: Path) -> None:
    with local_cluster(tmp_path / "whole", nodes=2, settings="[faults]\nenabled = false\n") as whole:
        for command in (("partition", "n1"), ("heal",), ("fault", "list"), ("fault", "clog", "n1")):
            error = as_json(whole, *command, code=1)["error"]
            assert (error["code"], error["definite"]) == ("unsupported", True)
            assert "[faults] enabled = true" in error["message"]
        assert as_json(whole, "status")["faults"] == []
        with whole.connect("n1") as wire:
            assert wire.code(op="admin.partition", sides="n1") == "unsupported"


def test_the_protocols_operations_answer_with_the_rules_in_force(breakable: LocalCluster) -> None:
    with breakable.connect("n2") as wire:
        reply = wire.ask(op="admin.fault", kind="drop", ways=[["n2", "n1"]], chance=0.25)
        rule = {"from": "n2", "to": "n1", "kind": "drop", "chance": 0.25, "ms": 0, "jitter_ms": 0,
                "sides": "n2 -> n1", "at": "sender", "lost": 0, "held_bytes": 0}  # fmt: skip
        assert reply["rules"] == [rule]
        assert wire.ask(op="admin.faults")["rules"] == [rule]
        assert wire.ask(op="admin.heal")["rules"] == []
        for fields in ({"sides": "n9"}, {"ways": [["n1"]]}, {"colour": 1}, {}):
            refused = wire.ask(op="admin.partition", **fields)
            assert code_of(refused) == "bad_request"
        assert wire.code(op="admin.heal", sides="n1") == "bad_request"
        assert wire.code(op="admin.repair") == "unsupported"


def test_an_application_can_break_its_own_cluster_with_the_asyncio_client(breakable: LocalCluster) -> None:
    async def broken_and_mended() -> list[object]:
        async with AsyncClient(breakable.node("n1").client, routing="direct") as client:
            cut = await client.admin("partition", {"sides": "n1"})
            listed = await client.admin("faults")
            return [len(cast("list[object]", reply["rules"])) for reply in (cut, listed, await client.admin("heal"))]

    assert asyncio.run(broken_and_mended()) == [4, 4, 0]


@pytest.mark.parametrize(
    ("arguments", "code", "mend"),
    [
        (("partition", "n1 | n9"), 1, "no node 'n9'; there are: n1, n2, n3"),
        (("partition", "n1,n2,n3"), 1, 'write sides as "n1 | n2,n3"'),
        (("fault", "drop", "n1 -> n2 -> n3"), 1, "is no direction"),
        (("fault", "drop", "n1", "--chance", "1.5"), 2, "chance must be a number"),
        (("fault", "delay", "n1"), 2, "--ms"),
        (("fault", "delay", "n1", "--ms", "70000"), 2, "60000"),
        (("fault", "clog", "n1", "--chance", "0.5"), 2, "--chance"),
        (("partition",), 2, "SIDES"),
        (("pause",), 2, "NAME"),
        (("pause", "n9"), 1, "has no node 'n9'"),
    ],
)
def test_a_wrong_order_changes_nothing_and_says_what_is_right(
    breakable: LocalCluster, arguments: tuple[str, ...], code: int, mend: str
) -> None:
    assert mend in " ".join(run(breakable, *arguments, code=code).replace("│", "").split())
    assert as_json(breakable, "fault", "list")["faults"] == []
