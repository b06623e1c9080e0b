"""The command line is a contract: its commands, JSON shapes and exit codes, against a real cluster of three nodes."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.live.command_server import environment
from tests.live.local_cluster import LocalCluster, local_cluster, run_kvbus
from tests.live.ports import free_base_port

Json = dict[str, Any]


def kvbus(cluster: LocalCluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_kvbus(*arguments, "--dir", str(cluster.folder))


def as_json(cluster: LocalCluster, *arguments: str, code: int = 0) -> Json:
    done = kvbus(cluster, *arguments, "-o", "json")
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stderr == ""
    found: Json = json.loads(done.stdout)
    return found


def test_cluster_json_has_the_contracts_fields_and_ports(cluster: LocalCluster) -> None:
    nodes: list[Json] = json.loads((cluster.folder / "cluster.json").read_text())["nodes"]
    assert [node["name"] for node in nodes] == ["n1", "n2", "n3"]
    base = int(nodes[0]["client"].rpartition(":")[2])
    for number, node in enumerate(nodes):
        assert list(node) == ["name", "client", "peer", "gossip", "http", "pid", "config", "data_dir"]
        first = base + 10 * number
        assert [node["client"], node["peer"], node["gossip"]] == [f"tcp://127.0.0.1:{first + n}" for n in range(3)]
        assert node["http"] == f"127.0.0.1:{first + 3}"
        assert Path(node["data_dir"]) == cluster.folder / node["name"] / "data"
        assert Path(node["config"]) == cluster.folder / node["name"] / "config.toml"
        assert isinstance(node["pid"], int)


def test_a_put_and_a_get_tell_one_story(cluster: LocalCluster) -> None:
    put = as_json(cluster, "put", "story", "once")
    assert list(put) == ["key", "ctx", "clock", "rev", "degraded"]
    get = as_json(cluster, "get", "story")
    assert list(get) == ["key", "values", "ctx", "clock", "rev", "degraded"]
    assert (get["key"], get["values"], get["rev"], get["degraded"]) == ("story", ["once"], None, False)
    assert bytes.fromhex(get["ctx"])
    assert get["clock"] == put["clock"] == [["n1", 1]]


def test_the_node_that_is_connected_to_coordinates(cluster: LocalCluster) -> None:
    addresses = {node: cluster.node(node).client for node in cluster.names}
    first = json.loads(run_kvbus("put", "turns", "a", "--connect", addresses["n2"], "-o", "json").stdout)
    assert first["clock"] == [["n2", 1]]
    both = f"{addresses['n3']},{addresses['n1']}"
    second = json.loads(run_kvbus("put", "turns", "b", "--connect", both, "--ctx", first["ctx"], "-o", "json").stdout)
    assert second["clock"] == [["n2", 1], ["n3", 1]]
    assert as_json(cluster, "get", "turns")["values"] == ["b"]


def test_blind_puts_are_siblings_until_a_context_resolves_them(cluster: LocalCluster) -> None:
    as_json(cluster, "put", "twins", "a")
    as_json(cluster, "put", "twins", "b")
    found = as_json(cluster, "get", "twins", "--debug")
    assert sorted(found["values"]) == ["a", "b"]
    assert found["clock"] == [["n1", 2]]
    assert [(name, counter) for name, _, counter in found["dots"]] == [("n1", 1), ("n1", 2)]
    as_json(cluster, "put", "twins", "ab", "--ctx", found["ctx"])
    assert as_json(cluster, "get", "twins")["values"] == ["ab"]


@pytest.mark.parametrize("key", ["the twins'", "-twins"])
def test_the_line_that_resolves_siblings_can_be_pasted(cluster: LocalCluster, key: str) -> None:
    where = ("--dir", str(cluster.folder))
    for value in ("a", "b"):
        assert run_kvbus("put", *where, "--", key, value).returncode == 0
    (line,) = [line for line in run_kvbus("get", *where, "--", key).stdout.splitlines() if "kvbus put" in line]
    words = shlex.split(line)
    assert words[0] == "kvbus"
    assert run_kvbus(*words[1:-1], "both").returncode == 0
    assert json.loads(run_kvbus("get", *where, "-o", "json", "--", key).stdout)["values"] == ["both"]


def test_a_deleted_and_an_absent_key_are_not_found(cluster: LocalCluster) -> None:
    absent = as_json(cluster, "get", "never", code=3)
    assert (absent["values"], absent["clock"]) == ([], [])
    put = as_json(cluster, "put", "gone", "x")
    as_json(cluster, "delete", "gone", "--ctx", put["ctx"])
    deleted = as_json(cluster, "get", "gone", code=3)
    assert deleted["values"] == []
    assert deleted["clock"] == [["n1", 2]]
    told = kvbus(cluster, "get", "gone")
    assert (told.returncode, told.stdout) == (3, "")
    assert told.stderr == "kvbus: gone has no value in keyspace default\n"


def test_a_receipt_and_an_explanation_come_when_asked_for(cluster: LocalCluster) -> None:
    put = as_json(cluster, "put", "worth", "x", "--w", "3", "--receipt")
    assert put["receipt"]["replicas"] == ["n1", "n2", "n3"]
    get = as_json(cluster, "get", "worth", "--r", "2", "--receipt", "--explain")
    assert get["receipt"]["acks"] == 2
    assert get["explain"]["coordinator"] == "n1"
    drawn = kvbus(cluster, "get", "worth", "--explain").stdout
    assert all(f"{n} {word}" in drawn for n, word in enumerate(("partition", "coordinator", "replicas"), 1))


def test_bytes_come_in_by_standard_input_and_out_as_base64(cluster: LocalCluster) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kvbus", "put", "binary", "-", "--dir", str(cluster.folder)],
        env=environment(),
        input=b"a\xffb",
        check=False,
    )
    assert done.returncode == 0
    assert as_json(cluster, "get", "binary")["values"] == [{"b64": "Yf9i"}]


def test_a_ttl_ends(cluster: LocalCluster) -> None:
    as_json(cluster, "put", "brief", "x", "--ttl-ms", "1")
    as_json(cluster, "get", "brief", code=3)


def test_load_names_bad_lines_and_stores_all_others(cluster: LocalCluster, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    lines = [json.dumps({"key": f"load-{n:04}", "value": {"n": n}}) for n in range(3000)]
    lines[1] = '{"key": 7}'
    lines[2500] = "nonsense"
    file.write_text("\n".join(lines) + "\n")
    told = as_json(cluster, "load", str(file), code=1)
    assert (told["loaded"], told["failed"], told["bad_lines"]) == (2998, 0, [2, 2501])
    assert as_json(cluster, "get", "load-2999")["values"] == ['{"n":2999}']
    listing = as_json(cluster, "scan", "load-", "--values")
    assert listing["degraded"] is False
    assert sorted(listing["keys"]) == [f"load-{n:04}" for n in range(3000) if n not in (1, 2500)]
    assert dict(zip(listing["keys"], listing["values"], strict=True))["load-0003"] == ['{"n":3}']
    assert len(as_json(cluster, "scan", "load-", "--limit", "7")["keys"]) == 7


def test_an_unfit_request_is_an_error_with_its_code(cluster: LocalCluster) -> None:
    assert as_json(cluster, "get", "x", "--ks", "nope", code=1)["error"]["code"] == "unknown_keyspace"
    assert as_json(cluster, "put", "x", "v" * 10_241, code=1)["error"]["code"] == "too_large"
    cas = as_json(cluster, "cas", "x", "v", "--rev", "0", code=1)["error"]
    assert (cas["code"], cas["definite"]) == ("unsupported", True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("get",),
        ("get", ""),
        ("get", "k", "--r", "0"),
        ("get", "k", "--cl", "most"),
        ("put", "k", "v", "--ctx", "xyz"),
        ("get", "k", "--nope"),
        ("get", "k", "--connect", "localhost:7400"),
        ("get", "k", "--connect", "tcp://localhost:7400,"),
        ("frob",),
    ],
)
def test_a_misuse_exits_with_two(cluster: LocalCluster, arguments: tuple[str, ...]) -> None:
    done = kvbus(cluster, *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_without_a_place_both_ways_to_name_one_are_told() -> None:
    done = run_kvbus("get", "k")
    assert done.returncode == 2
    assert "--dir" in done.stderr
    assert "--connect" in done.stderr


def test_status_asks_each_node_and_ring_shows_all_partitions(cluster: LocalCluster) -> None:
    status = as_json(cluster, "status")
    assert [(node["name"], node["status"], node["reachable"]) for node in status["nodes"]] == [
        (name, "up", True) for name in cluster.names
    ]
    assert status["keyspaces"]["default"]["mode"] == "ap"
    ring = as_json(cluster, "ring")
    assert len(ring["owners"]) == ring["partitions"] == 64
    assert all(sorted(row) == cluster.names for row in ring["owners"])
    assert [node["replicas"] for node in ring["nodes"]] == [64, 64, 64]
    assert "63: n" in kvbus(cluster, "ring").stdout
    assert "keyspace default: AP, N=3 R=2 W=2" in kvbus(cluster, "status").stdout


def test_a_lost_node_refuses_demands_and_degrades_targets(cluster: LocalCluster) -> None:
    pid = cluster.pid("n3")
    assert kvbus(cluster, "cluster", "kill", "n3").stdout == "killed n3\n"
    states = {node["name"]: node["state"] for node in as_json(cluster, "cluster", "status")["nodes"]}
    assert states == {"n1": "running", "n2": "running", "n3": "stopped"}
    refused = as_json(cluster, "put", "strict", "x", "--w", "3", code=4)["error"]
    assert (refused["code"], refused["definite"], refused["required"], refused["alive"]) == ("no_quorum", True, 3, 2)
    told = kvbus(cluster, "get", "strict", "--cl", "all")
    assert (told.returncode, told.stderr.count("\n")) == (4, 1)
    kvbus(cluster, "cluster", "stop", "n2")
    alone = as_json(cluster, "put", "lonely", "x")
    assert (alone["degraded"], alone["acks"]) == (True, 1)
    seen = as_json(cluster, "status")["nodes"]
    assert [(node["status"], node["reachable"]) for node in seen] == [("up", True), ("down", False), ("down", False)]
    for name in ("n2", "n3"):
        assert kvbus(cluster, "cluster", "start", name).returncode == 0
    assert cluster.pid("n3") != pid
    assert as_json(cluster, "put", "strict", "x", "--w", "3")["degraded"] is False


def test_nobody_there_is_an_error_and_not_an_unknown_outcome() -> None:
    port = free_base_port(1)
    done = run_kvbus("put", "k", "v", "--connect", f"tcp://127.0.0.1:{port}", "-o", "json")
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert (error["code"], error["definite"]) == ("unreachable", True)


def test_a_running_cluster_is_not_started_twice(cluster: LocalCluster) -> None:
    done = kvbus(cluster, "cluster", "up")
    assert done.returncode == 1
    assert "is running already (n1, n2, n3)" in done.stderr
    assert kvbus(cluster, "cluster", "start", "n1").stdout == "n1 is running already\n"


def test_a_cluster_goes_down_and_comes_up_with_its_data(tmp_path: Path) -> None:
    with local_cluster(tmp_path / "again", nodes=2) as running:
        as_json(running, "put", "kept", "x", "--w", "2")
        assert kvbus(running, "cluster", "down").stdout == "stopped n1, n2\n"
        assert [node["pid"] for node in as_json(running, "cluster", "status")["nodes"]] == [None, None]
        assert kvbus(running, "get", "kept").returncode == 1
        assert kvbus(running, "cluster", "up").returncode == 0
        assert as_json(running, "get", "kept", "--r", "2")["values"] == ["x"]


def test_a_reused_process_number_is_left_alone(tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        with local_cluster(tmp_path / "stale", nodes=1) as running:
            place = running.folder / "cluster.json"
            nodes: Json = json.loads(place.read_text())
            own = nodes["nodes"][0]["pid"]
            nodes["nodes"][0]["pid"] = bystander.pid
            place.write_text(json.dumps(nodes))
            assert kvbus(running, "cluster", "down").stdout == "no node was running\n"
            nodes["nodes"][0]["pid"] = own
            place.write_text(json.dumps(nodes))
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_the_version_is_told() -> None:
    assert run_kvbus("--version").stdout.startswith("kvbus 0.")
