"""A wrong configuration is refused by name, wherever it came from; a right one is complete."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from kvbus.config import NodeConfig, load_config
from kvbus.core.topology import Topology
from kvbus.errors import ConfigError
from kvbus.local.toml_text import toml_text
from kvbus.ports.engine import EngineSettings

MINIMAL = '[node]\nname = "n1"\ndata_dir = "data"\n'
THREE = """
[node]
name = "n2"
data_dir = "/var/lib/kvbus"
dc = "dc2"

[listen]
client = "tcp://127.0.0.1:7410"
peer = "tcp://127.0.0.1:7411"
gossip = "tcp://127.0.0.1:7412"
http = "127.0.0.1:7413"

[cluster]
name = "demo"
partitions = 128
replicas = { dc1 = 2, dc2 = 1 }
initial_members = [
  { name = "n1", client = "tcp://a:1", peer = "tcp://a:2", gossip = "tcp://a:3", rack = "r7" },
  { name = "n2", client = "tcp://b:1", peer = "tcp://b:2", gossip = "tcp://b:3", dc = "dc2", weight = 2 },
  { name = "n3", client = "tcp://c:1", peer = "tcp://c:2", gossip = "tcp://c:3" },
]

[keyspaces.default]
w = 3

[keyspaces.Ledger]
r = 1
availability = "quorum"

[durability]
sync = "interval"
interval_ms = 200

[storage]
memory_budget = "64MiB"
compression = "zstd"
"""


def load(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> NodeConfig:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, environ or {})


def refusal(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, environ)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(folder / "config.toml"), "FILE")


def test_a_name_and_a_folder_make_a_cluster_of_one(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL)
    assert [member.name for member in config.members] == ["n1"]
    assert config.members[0].client == config.listen.client == "tcp://127.0.0.1:7400"
    assert (config.partitions, config.replicas, config.engine, config.storage) == (64, 3, "lsm", EngineSettings())
    assert config.data_dir == str(tmp_path / "data")
    assert not config.faults_enabled
    default = config.keyspaces["default"]
    assert (default.mode, default.n, default.r, default.w, default.availability) == ("ap", 3, 2, 2, "always")


def test_every_section_is_read(tmp_path: Path) -> None:
    config = load(tmp_path, THREE)
    assert (config.name, config.cluster, config.data_dir) == ("n2", "demo", "/var/lib/kvbus")
    assert config.replicas == {"dc1": 2, "dc2": 1}
    assert [(m.name, m.dc, m.rack, m.weight) for m in config.members] == [
        ("n1", "dc1", "r7", 1.0),
        ("n2", "dc2", "r1", 2.0),
        ("n3", "dc1", "r1", 1.0),
    ]
    assert {name: (k.n, k.r, k.w, k.availability) for name, k in config.keyspaces.items()} == {
        "default": (3, 2, 3, "always"),
        "Ledger": (3, 1, 2, "quorum"),
    }
    assert (config.storage.sync, config.storage.interval_ms) == ("interval", 200)
    assert (config.storage.memory_bytes, config.storage.compression) == (64 << 20, "zstd")


def test_the_members_make_a_topology(tmp_path: Path) -> None:
    config = load(tmp_path, THREE)
    topology = Topology.first(members=config.members, partitions=config.partitions, replicas=config.replicas)
    assert len(topology.owners) == 128
    assert all(len(owners) == 3 for owners in topology.owners)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    environ = {
        "KVBUS_NODE__DATA_DIR": "2024",
        "KVBUS_CLUSTER__PARTITIONS": "32",
        "KVBUS_CLUSTER__REPLICAS": "{ dc1 = 1, dc2 = 1 }",
        "KVBUS_KEYSPACES__DEFAULT__W": "1",
        "KVBUS_KEYSPACES__LEDGER__AVAILABILITY": "always",
        "KVBUS_KEYSPACES__FRESH__R": "2",
        "KVBUS_FAULTS__ENABLED": "true",
        "KVBUS_DIR": "/elsewhere",
        "PATH": "/bin",
    }
    config = load(tmp_path, THREE, environ)
    assert config.data_dir == str(tmp_path / "2024")
    assert (config.partitions, config.replicas, config.faults_enabled) == (32, {"dc1": 1, "dc2": 1}, True)
    assert config.keyspaces["default"].w == 1
    assert config.keyspaces["Ledger"].availability == "always"
    assert config.keyspaces["fresh"].r == 2


def test_r_and_w_are_two_but_never_more_than_n(tmp_path: Path) -> None:
    default = load(tmp_path, MINIMAL + "[cluster]\nreplicas = 1\n").keyspaces["default"]
    assert (default.n, default.r, default.w) == (1, 1, 1)


def test_members_may_come_from_the_environment(tmp_path: Path) -> None:
    member = '{ name = "n1", client = "tcp://a:1", peer = "tcp://a:2", gossip = "tcp://a:3" }'
    config = load(tmp_path, MINIMAL, {"KVBUS_CLUSTER__INITIAL_MEMBERS": f"[{member}]"})
    assert config.members[0].peer == "tcp://a:2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cluster]\npartitons = 3", "FILE: [cluster] partitons: unknown key partitons; did you mean partitions?"),
        ("[clutser]\nname = 'x'", "FILE: [clutser]: unknown section clutser; did you mean cluster?"),
        (
            "[keyspaces.a]\nwrites = 1",
            "FILE: [keyspaces.a] writes: unknown key writes; known here: mode, r, w, availability",
        ),
        (
            "[cluster]\ninitial_members = [{ name = 'n1', perr = 'x' }]",
            "FILE: [cluster] initial_members[0] perr: unknown key perr; did you mean peer? (and 3 more)",
        ),
        ("[faults]\nenabled = 1", "FILE: [faults] enabled: 1 is wrong: it should be a valid boolean"),
        ("[cluster]\npartitions = '64'", "FILE: [cluster] partitions: '64' is wrong: it should be a valid integer"),
        (
            "[cluster]\npartitions = 48",
            "FILE: [cluster] partitions: partitions = 48: take a power of two from 1 to 65536, such as 64",
        ),
        (
            "[cluster]\nreplicas = { dc1 = 0 }",
            "FILE: [cluster] replicas dc1: 0 is wrong: it should be greater than or equal to 1",
        ),
        (
            "[cluster]\nreplicas = { dc9 = 1 }",
            "FILE: [cluster] replicas: no member lies in 'dc9', only in dc1; correct one or the other",
        ),
        (
            "[cluster]\njoin = ['tcp://a:1']",
            "FILE: [cluster] join: joining a running cluster is not available yet; list initial_members",
        ),
        (
            "[storage]\nengine = 'disk'",
            "FILE: [storage] engine: no engine 'disk' is installed; choose one of: lsm, memory, rocks",
        ),
        ("[keyspaces.ledger]\nmode = 'cp'", "FILE: [keyspaces.ledger] mode: mode cp is not available yet; use ap"),
        ("[keyspaces.a]\nmode = 'ca'", "FILE: [keyspaces.a] mode: there is no mode 'ca'; choose one of: ap"),
        (
            "[keyspaces.a]\nw = 4",
            "FILE: [keyspaces.a] w: 4 of N = 3 replicas cannot answer; take 1 to 3, or raise [cluster] replicas",
        ),
        ("[keyspaces.'a b']\nr = 1", "FILE: [keyspaces.a b]: 'a b' is no name; use 1 to 64 of A-Z a-z 0-9 _ . -"),
        (
            "[durability]\nsync = 'never'",
            "FILE: [durability] sync: 'never' is wrong: it should be 'batch', 'interval' or 'none'",
        ),
        ("[listen]\npeer = 'localhost:1'", "FILE: [listen] peer: 'localhost:1' is no address; write tcp://host:port"),
        (
            "[listen]\npeer = 'tcp://h:70000'",
            "FILE: [listen] peer: 'tcp://h:70000' is no address; write tcp://host:port",
        ),
        ("[listen]\nhttp = 'tcp://h:70'", "FILE: [listen] http: 'tcp://h:70' is no address; write host:port"),
        (
            "[listen]\npeer = 'tcp://127.0.0.1:7400'",
            "FILE: [listen] peer: 'tcp://127.0.0.1:7400' is client's too; give each its port",
        ),
        ("[node2]\n[cluster]\nname = 3", "FILE: [node2]: unknown section node2; did you mean node? (and 1 more)"),
    ],
)
def test_a_wrong_key_in_the_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, MINIMAL + text) == message


def test_a_file_that_is_no_toml_is_named_with_the_place(tmp_path: Path) -> None:
    assert (
        refusal(tmp_path, "[node\n")
        == "FILE is not TOML: Expected ']' at the end of a table declaration (at line 1, column 6); mend it there"
    )


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("KVBUS_CLUSTER__PARTITONS", "64", "unknown key partitons; did you mean partitions?"),
        ("KVBUS_CLUTSER__PARTITIONS", "64", "unknown section clutser; did you mean cluster?"),
        ("KVBUS_CLUSTER__PARTITIONS", "many", "'many' is wrong: it should be a valid integer"),
        (
            "KVBUS_CLUSTER__PARTITIONS",
            "48",
            "partitions = 48: take a power of two from 1 to 65536, such as 64",
        ),
        ("KVBUS_KEYSPACES__DEFAULT__MODE", "cp", "mode cp is not available yet; use ap"),
        ("KVBUS_NODE__NAME__X", "1", "name is not a table"),
        ("KVBUS_LISTEN__CLIENT", "7400", "'7400' is no address; write tcp://host:port"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path: Path, variable: str, value: str, problem: str) -> None:
    assert refusal(tmp_path, MINIMAL, {variable: value}) == f"{variable} in the environment: {problem}"


def test_a_missing_key_is_looked_for_in_the_file(tmp_path: Path) -> None:
    message = refusal(tmp_path, "", {"KVBUS_NODE__NAME": "n1"})
    assert message == "FILE: [node] data_dir: is missing; add it"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml does not exist; name a configuration file with --config"):
        load_config(tmp_path / "nowhere.toml", {})


def test_plain_text_beyond_this_machine_must_be_asked_for(tmp_path: Path) -> None:
    text = MINIMAL + '[listen]\nclient = "tcp://0.0.0.0:7400"\n'
    assert "say [security] insecure = true" in refusal(tmp_path, text)
    assert load(tmp_path, text + "[security]\ninsecure = true\n").insecure


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"])
def test_this_machine_needs_no_leave(tmp_path: Path, host: str) -> None:
    load(tmp_path, MINIMAL + f'[listen]\nclient = "tcp://{host}:7400"\n')


def test_the_node_must_be_among_the_members(tmp_path: Path) -> None:
    text = THREE.replace('name = "n2"\ndata', 'name = "n9"\ndata')
    assert "[node] name 'n9' is not among n1, n2, n3" in refusal(tmp_path, text)


@pytest.mark.parametrize("twice", ["n1", "tcp://a:1", "tcp://a:2"])
def test_a_member_shares_neither_name_nor_address(tmp_path: Path, twice: str) -> None:
    other = {"n1": '"n3"', "tcp://a:1": '"tcp://c:1"', "tcp://a:2": '"tcp://c:2"'}[twice]
    assert f"{twice!r} stands there twice" in refusal(tmp_path, THREE.replace(other, f'"{twice}"'))


def test_the_node_and_its_member_entry_agree_on_the_place(tmp_path: Path) -> None:
    message = refusal(tmp_path, THREE.replace('dc = "dc2"\n', 'dc = "dc1"\n', 1))
    assert message == "FILE: [node] dc: 'dc1' is not 'dc2' as in initial_members; make them equal"


def test_two_keyspaces_with_one_hash_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, MINIMAL + "[keyspaces.orders-42795]\n[keyspaces.orders-91376]\n")
    assert message == (
        "FILE: [keyspaces.orders-91376]: its name has the same hash as that of 'orders-42795'; rename one of the two"
    )


def test_nodes_of_one_cluster_agree_whatever_their_own_settings(tmp_path: Path) -> None:
    one = load(tmp_path, THREE)
    other = load(
        tmp_path,
        THREE.replace('name = "n2"\ndata', 'name = "n1"\ndata').replace('dc = "dc2"\n', "", 1).replace("741", "742"),
    )
    assert one.name != other.name
    assert one.agreement() == other.agreement()


@pytest.mark.parametrize(
    ("before", "after"),
    [("128", "64"), ("dc1 = 2", "dc1 = 3"), ("Ledger", "ledger"), ("tcp://a:2", "tcp://a:9"), ('"r7"', '"r8"')],
)
def test_a_difference_that_matters_changes_the_agreement(tmp_path: Path, before: str, after: str) -> None:
    assert load(tmp_path, THREE).agreement() != load(tmp_path, THREE.replace(before, after)).agreement()


def test_the_effective_configuration_reads_back_as_itself(tmp_path: Path) -> None:
    config = load(tmp_path, THREE)
    assert load(tmp_path, toml_text(config.effective())) == config


def test_text_that_toml_would_misread_is_escaped(tmp_path: Path) -> None:
    strange = 'a "quoted" \\ back\x7fslash é ☃\n'
    path = tmp_path / "config.toml"
    path.write_text(toml_text({"node": {"name": "n1", "data_dir": strange}}), encoding="utf-8")
    assert load_config(path, {}).data_dir == str(tmp_path / strange)
