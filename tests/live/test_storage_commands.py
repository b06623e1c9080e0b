"""``kvbus flush``, ``compact`` and ``verify`` against real nodes with real files."""

from __future__ import annotations

import json
from typing import Any

from tests.live.local_cluster import LocalCluster, run_kvbus


def kvbus(cluster: LocalCluster, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = run_kvbus(*arguments, "--dir", str(cluster.folder), "-o", "json")
    assert done.returncode == code, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write(cluster: LocalCluster, name: str, count: int) -> None:
    with cluster.connect(name) as wire:
        keys = [b"storage %d" % number for number in range(count)]
        assert wire.ask(op="mput", keys=keys, values=[b"v"] * count, w=3)["errors"] == []


def states(found: dict[str, Any]) -> dict[str, str]:
    return {each["node"]: each["state"] for each in found["nodes"]}


def test_all_nodes_flush_what_is_in_memory_and_then_compact_it(unharmed_cluster: LocalCluster) -> None:
    for _ in range(2):
        write(unharmed_cluster, "n1", 100)
        flushed = kvbus(unharmed_cluster, "flush", "--wait", "--timeout", "60")
        assert states(flushed) == dict.fromkeys(("n1", "n2", "n3"), "done")
        for node in flushed["nodes"]:
            before, after = node["before"], node["after"]
            assert before["engine_memtable_bytes"] > after["engine_memtable_bytes"]
            assert after["engine_flushes"] > before["engine_flushes"]
            assert after["engine_frozen_memtables"] == 0
    compacted = kvbus(unharmed_cluster, "compact", "--wait", "--timeout", "60")
    assert states(compacted) == dict.fromkeys(("n1", "n2", "n3"), "done")
    for node in compacted["nodes"]:
        assert node["before"]["engine_level0_depth"] > 0
        assert node["after"]["engine_level0_depth"] == 0
        assert node["after"]["engine_compactions"] > node["before"]["engine_compactions"]
    with unharmed_cluster.connect("n2") as wire:
        # Blind puts are siblings, and all copies have both.
        assert wire.ask(op="get", key=b"storage 7", r=3)["values"] == [b"v", b"v"]


def test_one_node_is_told_alone_and_answers_before_it_is_done(unharmed_cluster: LocalCluster) -> None:
    write(unharmed_cluster, "n1", 10)
    begun = kvbus(unharmed_cluster, "flush", "n2")
    assert states(begun) == {"n2": "begun"}
    assert begun["nodes"][0]["after"] is None
    assert kvbus(unharmed_cluster, "flush", "n9", code=1)["error"]["message"] == (
        "there is no node 'n9'; there are: n1, n2, n3"
    )
    drawn = run_kvbus("flush", "n2", "--wait", "--dir", str(unharmed_cluster.folder))
    assert drawn.returncode == 0
    assert "done after" in drawn.stdout


def test_a_node_that_does_not_run_is_named_and_the_others_flush(cluster: LocalCluster) -> None:
    cluster.stop("n3")
    found = kvbus(cluster, "flush", "--wait", code=1)
    assert states(found) == {"n1": "done", "n2": "done"}
    assert [(each["node"], each["code"]) for each in found["failed"]] == [("n3", "unreachable")]


def test_a_stopped_node_is_verified_and_a_running_one_refused(cluster: LocalCluster) -> None:
    write(cluster, "n1", 50)
    kvbus(cluster, "flush", "--wait")
    write(cluster, "n1", 50)
    data_dir = cluster.node("n1").data_dir
    refused = run_kvbus("verify", data_dir)
    assert refused.returncode == 2
    assert "stop the node first (kvbus cluster stop NAME)" in refused.stderr
    cluster.kill("n1")
    killed = run_kvbus("verify", data_dir)
    assert killed.returncode == 0, killed.stdout
    cluster.start("n1")
    cluster.stop("n1")
    done = run_kvbus("verify", data_dir, "-o", "json")
    assert done.returncode == 0, done.stdout
    files = json.loads(done.stdout)["files"]
    assert {each["kind"] for each in files if each["state"] == "ok"} == {"manifest", "table", "log"}
