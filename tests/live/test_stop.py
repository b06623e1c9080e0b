"""SIGTERM: take nothing new, finish what is under way, sync, hand the version hold on, end with 0."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.live.command_server import environment
from tests.live.local_cluster import LocalCluster, local_cluster, run_kvbus
from tests.live.ports import taken
from tests.live.wire_socket import WireSocket, code_of

LOAD = 2000


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Give a cluster of one node that has run and was stopped."""
    with local_cluster(tmp_path_factory.mktemp("stopped") / "cluster", nodes=1) as running:
        running.stop("n1")
        yield running


def _clock_and_epochs(cluster: LocalCluster, key: str) -> tuple[object, list[int]]:
    """Return the key's clock and the epochs behind it, as the command line prints them."""
    told = run_kvbus("get", key, "--connect", cluster.node("n1").client, "-o", "json", "--debug")
    assert told.returncode == 0, told.stderr
    printed = json.loads(told.stdout)
    return printed["clock"], sorted({dot[1] for dot in printed["dots"]})


def _overwrite(cluster: LocalCluster, key: bytes) -> None:
    with cluster.connect("n1") as wire:
        ctx = wire.ask(op="get", key=key, r=3).get("ctx")
        more = {} if ctx is None else {"ctx": ctx}
        assert wire.code(op="put", key=key, value=b"v", w=3, **more) == "ok"


def test_a_stop_under_load_loses_nothing_that_was_acknowledged(cluster: LocalCluster) -> None:
    acknowledged: list[int] = []
    refused: set[str] = set()
    said_before = len(cluster.log("n1"))
    with cluster.connect("n1") as wire:

        def listen_once() -> None:
            reply = wire.receive()
            if code_of(reply) == "ok":
                acknowledged.append(cast("int", reply["id"]))
            else:
                refused.add(code_of(reply))

        for number in range(LOAD):
            wire.send(id=number, op="put", key=b"stop-%d" % number, value=b"%d" % number, w=2)
            if number == LOAD // 2:
                listen_once()  # The node is at work, not only about to be.
                cluster.signal("n1", signal.SIGTERM)
        is_running = True
        while is_running:
            is_running = cluster.node("n1").is_running()
            while not wire.is_silent(0.05):
                listen_once()
    assert acknowledged
    assert refused <= {"shutting_down"}
    assert '"event": "stopped"' in cluster.log("n1")[said_before:]
    cluster.start("n1")
    with cluster.connect("n1") as wire:
        for number in acknowledged:
            assert wire.ask(op="get", key=b"stop-%d" % number, r=1)["values"] == [b"%d" % number]
    print(f"{len(acknowledged)} of {LOAD} puts were acknowledged around the stop")


def test_requests_that_wait_for_their_turn_at_a_stop_are_answered(cluster: LocalCluster) -> None:
    count, keys = 6000, [b"waiting-%d" % number for number in range(64)]
    with cluster.connect("n1") as wire:
        for number in range(count):
            wire.send(id=number, op="mget", keys=keys)
        answered = {cast("int", wire.receive()["id"])}
        cluster.signal("n1", signal.SIGTERM)
        codes: set[str] = set()
        while len(answered) < count:
            reply = wire.receive()
            answered.add(cast("int", reply["id"]))
            codes.add(code_of(reply))
    assert "shutting_down" in codes
    cluster.wait_for_end("n1")
    cluster.start("n1")


def test_a_clean_restart_goes_on_with_its_version_epoch_and_a_crash_does_not(cluster: LocalCluster) -> None:
    for _ in range(2):
        _overwrite(cluster, b"hold")
    clock, (epoch,) = _clock_and_epochs(cluster, "hold")
    assert clock == [["n1", 2]]
    cluster.stop("n1")
    cluster.start("n1")
    _overwrite(cluster, b"hold")
    assert _clock_and_epochs(cluster, "hold") == ([["n1", 3]], [epoch])
    cluster.kill("n1")
    cluster.start("n1")
    _overwrite(cluster, b"hold")
    clock, (first, second) = _clock_and_epochs(cluster, "hold")
    assert clock == [["n1", 4]]
    assert first == epoch < second


def _node_process(cluster: LocalCluster, name: str) -> subprocess.CompletedProcess[str]:
    return run_kvbus("node", "--config", cluster.node(name).config)


def test_a_second_process_on_one_data_directory_is_refused(cluster: LocalCluster) -> None:
    papers = Path(cluster.node("n1").data_dir, "node.json").read_bytes()
    second = _node_process(cluster, "n1")
    assert second.returncode == 1
    assert "is used by another process" in second.stderr
    assert "Traceback" not in second.stderr
    assert Path(cluster.node("n1").data_dir, "node.json").read_bytes() == papers
    with cluster.connect("n1") as wire:
        assert wire.code(op="put", key=b"first", value=b"v") == "ok"


@pytest.mark.parametrize("purpose", ["client", "peer", "gossip", "http"])
def test_a_taken_port_is_named(stopped: LocalCluster, purpose: str) -> None:
    port = int(str(getattr(stopped.node("n1"), purpose)).rpartition(":")[2])
    with taken(port):
        node = _node_process(stopped, "n1")
    assert node.returncode == 1
    assert f"[listen] {purpose}" in node.stderr
    assert str(port) in node.stderr
    assert "Traceback" not in node.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_exit_code_is_0_for_both_signals(stopped: LocalCluster, number: signal.Signals) -> None:
    # The starts that were refused above have left nothing in the way of this one.
    node = subprocess.Popen(
        [sys.executable, "-m", "kvbus", "node", "--config", stopped.node("n1").config],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert node.stderr is not None
    with node.stderr:
        for line in node.stderr:
            if '"event": "serving"' in line:
                break
        with WireSocket(stopped.node("n1").client) as wire:
            assert wire.code(op="ping") == "ok"
        node.send_signal(number)
        assert '"event": "stopped"' in node.stderr.read()
    assert node.wait(10) == 0


def test_what_is_under_way_is_finished_before_the_end_and_nothing_new_is_taken(cluster: LocalCluster) -> None:
    """A write that demands a hanging replica keeps the node draining until that replica wakes.

    All happens within the 1.5 s in which the links' heartbeats have not yet given the hanging node up.
    """
    hanging, stopping = cluster.pid("n3"), cluster.pid("n1")
    with cluster.connect("n1") as wire, cluster.connect("n1") as other:
        assert wire.code(op="ping") == other.code(op="ping") == "ok"
        os.kill(hanging, signal.SIGSTOP)
        try:
            wire.send(id=b"slow", op="put", key=b"slow", value=b"v", w=3)
            assert wire.code(op="put", key=b"quick", value=b"v", w=2) == "ok"
            os.kill(stopping, signal.SIGTERM)
            while (code := other.code(op="get", key=b"quick")) == "ok":
                pass
            assert code == "shutting_down"
            status, _, body = cluster.http("n1", "/readyz")
            assert (status, json.loads(body)["ready"]) == (503, False)
            assert cluster.http("n1", "/healthz")[0] == 200
            assert other.code(op="put", key=b"quick", value=b"v") == "shutting_down"
            assert other.code(op="mget", keys=[b"quick"]) == "shutting_down"
            assert other.code(op="scan") == "shutting_down"
            assert other.code(op="ping") == "ok"
            with cluster.connect("n1") as late:
                assert late.code(op="put", key=b"late", value=b"v") == "shutting_down"
        finally:
            os.kill(hanging, signal.SIGCONT)
        reply = wire.receive()
        assert (reply["id"], code_of(reply)) == (b"slow", "ok")
    cluster.wait_for_end("n1")
