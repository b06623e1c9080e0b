"""The page's rule where a key lives, followed by the Node client with a hash function of its own."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import cast

import pytest

from tests.interop.conftest import OpenClient
from tests.interop.foreign_client import request_line

# The page's rows: keyspace, key in hexadecimal, h1, partition of 64.
_ROW = re.compile(r"^\| `(\w+)`, `([0-9a-f]+)` .*\| `([0-9a-f]{16})` \| (\d+) \|$", re.MULTILINE)
VECTORS = _ROW.findall(files("kvbus.wire").joinpath("PROTOCOL.md").read_text(encoding="utf-8"))


def test_the_page_has_vectors() -> None:
    assert len(VECTORS) == 3


@pytest.mark.parametrize(("ks", "key", "hash_", "partition"), VECTORS)
def test_client_and_node_meet_the_vectors_of_the_page(
    open_client: OpenClient, ks: str, key: str, hash_: str, partition: str
) -> None:
    client = open_client("node", "n1")
    expected = {"hash": hash_, "partition": int(partition)}
    assert client.ask("locate", ks=ks, key=bytes.fromhex(key), partitions=64) == expected
    explained = cast("dict[str, object]", client.ask("get", ks=ks, key=bytes.fromhex(key), explain=True)["explain"])
    assert {name: explained[name] for name in expected} == expected


def test_the_topology_says_which_nodes_hold_a_key(open_client: OpenClient, key: bytes) -> None:
    client = open_client("node", "n2")
    topology = client.ask("topology")
    owners = cast("list[list[int]]", topology["owners"])
    names = [cast("str", node["name"]) for node in cast("list[dict[str, object]]", topology["nodes"])]
    partitions = cast("int", topology["partitions"])
    assert (len(owners), topology["hash"]) == (partitions, "mmh3_x64_128")
    keys = [key + bytes(length) for length in range(40)]
    places = client.ask_all([request_line("locate", ks="default", key=each, partitions=partitions) for each in keys])
    replies = client.ask_all([request_line("get", key=each, explain=True) for each in keys])
    for place, reply in zip(places, replies, strict=True):
        explained = cast("dict[str, object]", reply["explain"])
        assert (explained["hash"], explained["partition"]) == (place["hash"], place["partition"])
        replicas = [replica["node"] for replica in cast("list[dict[str, object]]", explained["replicas"])]
        assert replicas == [names[index] for index in owners[cast("int", place["partition"])]]
