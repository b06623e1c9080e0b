"""A wrong setting, port or data directory ends a start in one clear line that names the mend."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.command_server import environment
from tests.live.local_cluster import LocalCluster, run_kvbus
from tests.live.ports import free_base_port, taken


def config(folder: Path, *, name: str = "n1", cluster: str = "one", data: str = "data", more: str = "") -> Path:
    """Write a one-node configuration on free ports."""
    base = free_base_port(1)
    path = folder / f"{name}-{cluster}.toml"
    path.write_text(
        f'[node]\nname = "{name}"\ndata_dir = "{data}"\n'
        f'[listen]\nclient = "tcp://127.0.0.1:{base}"\npeer = "tcp://127.0.0.1:{base + 1}"\n'
        f'gossip = "tcp://127.0.0.1:{base + 2}"\nhttp = "127.0.0.1:{base + 3}"\n'
        f'[cluster]\nname = "{cluster}"\n{more}'
    )
    return path


def complaint(*arguments: str) -> str:
    """Run a command that must fail with exit code 1; return its one line."""
    done = run_kvbus(*arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("kvbus: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0].removeprefix("kvbus: ")


def run_until_ready(path: Path) -> None:
    """Run a node in the foreground until it serves, then let it drain; it must end by itself with 0."""
    node = subprocess.Popen(
        [sys.executable, "-m", "kvbus", "node", "--config", str(path)],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert node.stderr is not None
    with node.stderr:
        assert any('"event": "serving"' in line for line in node.stderr)
        node.terminate()
        node.stderr.read()
    assert node.wait(timeout=15) == 0


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def used_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the data directory of a node n1 of a cluster named one, which has run and ended."""
    folder = tmp_path_factory.mktemp("used") / "data"
    folder.mkdir()
    run_until_ready(config(folder.parent))
    return folder


@pytest.mark.parametrize("command", ["node", "check-config"])
def test_an_unknown_key_is_named_with_the_one_that_was_meant(tmp_path: Path, command: str) -> None:
    path = config(tmp_path, more="partitons = 64\n")
    told = complaint(command, "--config", str(path))
    assert told == f"{path}: [cluster] partitons: unknown key partitons; did you mean partitions?"


def test_an_unknown_variable_is_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVBUS_CLUSTER__PARTITONS", "64")
    told = complaint("node", "--config", str(config(data.parent)))
    assert told == "KVBUS_CLUSTER__PARTITONS in the environment: unknown key partitons; did you mean partitions?"


def test_a_missing_data_directory_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    told = complaint("node", "--config", str(config(tmp_path, data="nowhere")))
    assert "data_dir" in told
    assert told.endswith(f"does not exist; create it: mkdir -p {tmp_path / 'nowhere'}")


@pytest.mark.parametrize(("offset", "key"), [(0, "client"), (1, "peer"), (2, "gossip"), (3, "http")])
def test_a_taken_port_is_named(data: Path, offset: int, key: str) -> None:
    path = config(data.parent)
    base = int(path.read_text().partition('client = "tcp://127.0.0.1:')[2].partition('"')[0])
    with taken(base + offset):
        told = complaint("node", "--config", str(path))
    assert told.startswith(f"[listen] {key} = ")
    assert str(base + offset) in told
    assert "choose another port" in told


def test_another_nodes_data_directory_is_refused(used_data: Path) -> None:
    told = complaint("node", "--config", str(config(used_data.parent, name="n9")))
    assert told == f"{used_data} belongs to node 'n1', not 'n9'; correct [node] name or data_dir"


def test_another_clusters_data_directory_is_refused(used_data: Path) -> None:
    told = complaint("node", "--config", str(config(used_data.parent, cluster="two")))
    assert told == f"{used_data} belongs to cluster 'one', not 'two'; correct [cluster] name or [node] data_dir"


def test_a_directory_of_something_else_is_refused(data: Path) -> None:
    (data / "holiday.jpg").write_bytes(b"")
    told = complaint("node", "--config", str(config(data.parent)))
    assert "give the node its own data directory or an empty one" in told


def test_a_directory_that_is_in_use_is_refused(unharmed_cluster: LocalCluster, tmp_path: Path) -> None:
    in_use = unharmed_cluster.node("n1").data_dir
    told = complaint("node", "--config", str(config(tmp_path, cluster=unharmed_cluster.folder.name, data=in_use)))
    assert told.startswith(f"{in_use} is used by another process")


def test_a_mode_that_is_not_there_yet_is_refused_plainly(data: Path) -> None:
    path = config(data.parent, more='[keyspaces.ledger]\nmode = "cp"\n')
    assert complaint("node", "--config", str(path)).endswith("mode cp is not available yet; use ap")
    told = complaint("cluster", "up", "--dir", str(data.parent / "cp"), "--mode", "cp")
    assert told == "mode cp is not available yet; use ap"


def test_cluster_up_names_the_taken_port_and_leaves_nothing_behind(tmp_path: Path) -> None:
    base = free_base_port(3)
    with taken(base + 11):
        told = complaint("cluster", "up", "--dir", str(tmp_path / "c"), "--base-port", str(base))
    assert told == f"port {base + 11} (n2's peer port) is taken by another process; choose others with --base-port"
    assert not (tmp_path / "c").exists()


def test_settings_that_a_stopped_cluster_does_not_start_with_are_forgotten(tmp_path: Path) -> None:
    folder, other = tmp_path / "c", tmp_path / "other.toml"
    other.write_text("[cluster]\npartitions = 8\n")
    place = ("--dir", str(folder))
    base = free_base_port(1)
    try:
        assert not run_kvbus("cluster", "up", *place, "--nodes", "1", "--base-port", str(base)).returncode
        assert not run_kvbus("cluster", "down", *place).returncode
        before = (folder / "n1" / "config.toml").read_text()
        assert "partitions" in complaint("cluster", "up", *place, "--config", str(other))
        assert (folder / "n1" / "config.toml").read_text() == before
        assert not run_kvbus("cluster", "up", *place).returncode
    finally:
        run_kvbus("cluster", "down", *place)


def test_a_cluster_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "c"
    file.write_text("a file")
    for command in ("up", "status"):
        assert complaint("cluster", command, "--dir", str(file)) == f"{file} is no folder; choose another --dir"


def test_cluster_up_blames_the_extra_file_for_its_keys(tmp_path: Path) -> None:
    extra = tmp_path / "extra.toml"
    for text, problem in (
        ("[keyspaces.default]\nreads = 1\n", "[keyspaces.default] reads: unknown key reads"),
        ("[listen]\nclient = 'tcp://127.0.0.1:1'\n", "[listen] is different on each node and made by cluster up"),
        ("cluster = 1\n", "[cluster]: 1 is wrong: it should be a table of settings"),
    ):
        extra.write_text(text)
        told = complaint("cluster", "up", "--dir", str(tmp_path / "c"), "--config", str(extra))
        assert told.startswith(f"{extra}: {problem}")


def test_a_node_that_ends_while_the_cluster_starts_is_told_with_its_last_words(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    (folder / "n2" / "data").mkdir(parents=True)
    (folder / "n2" / "data" / "holiday.jpg").write_bytes(b"")
    told = complaint("cluster", "up", "--dir", str(folder), "--base-port", str(free_base_port(3)))
    assert told.startswith("n2 ended while it started: kvbus: ")
    assert "give the node its own data directory" in told
    assert not (folder / "cluster.json").exists()


def test_a_folder_without_a_cluster_is_named_with_the_command_that_makes_one(tmp_path: Path) -> None:
    for command in (("get", "k"), ("cluster", "status"), ("cluster", "down")):
        assert complaint(*command, "--dir", str(tmp_path)).endswith(f"make one: kvbus cluster up --dir {tmp_path}")


def test_a_damaged_cluster_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text("{")
    assert str(tmp_path / "cluster.json") in complaint("cluster", "status", "--dir", str(tmp_path))


def test_a_right_configuration_is_printed_whole(tmp_path: Path) -> None:
    done = run_kvbus("check-config", "--config", str(config(tmp_path)), "-o", "json")
    assert done.returncode == 0
    effective = json.loads(done.stdout)
    assert effective["keyspaces"] == {"default": {"mode": "ap", "r": 2, "w": 2, "availability": "always"}}
    assert effective["node"]["data_dir"] == str(tmp_path / "data")
