"""What clients of other languages are told by the last node that is left."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

import pytest

from tests.interop.conftest import LANGUAGES, OpenClient
from tests.interop.foreign_client import ForeignClient, error_of, values_of
from tests.live.local_cluster import LocalCluster

REFUSAL = {"code": "no_quorum", "definite": True, "required": 2, "alive": 1}


@pytest.fixture(scope="module")
def minority(cluster: LocalCluster) -> Iterator[None]:
    """Kill all nodes but the first, and start them again when this file's tests are through."""
    cluster.kill("n2")
    cluster.kill("n3")
    with cluster.connect("n1") as wire:
        give_up = monotonic() + 10
        while (demand := wire.code(op="get", key=b"minority", r=2, deadline_ms=100)) != "no_quorum":
            assert monotonic() < give_up, f"n1 still believes in the others: {demand}"
    yield
    cluster.restore()


@pytest.fixture(params=LANGUAGES)
def survivor(request: pytest.FixtureRequest, open_client: OpenClient) -> ForeignClient:
    """Give a client of each language at the node that is left."""
    client = open_client(request.param, "n1")
    request.getfixturevalue("minority")
    return client


def test_an_answer_of_fewer_replicas_than_configured_says_so(survivor: ForeignClient, key: bytes) -> None:
    put = survivor.ask("put", key=key, value=b"v")
    assert (put["ok"], put["degraded"], put["acks"]) == (True, True, 1)
    got = survivor.ask("get", key=key)
    assert (values_of(got), got["degraded"], got["acks"]) == ([b"v"], True, 1)
    for batch in (
        survivor.ask("mput", keys=[key + b"a", key + b"b"], values=[b"1", b"2"]),
        survivor.ask("mget", keys=[key + b"a", key + b"b"]),
        survivor.ask("scan", prefix=key),
    ):
        assert (batch["ok"], batch["degraded"], batch["acks"]) == (True, True, 1)


def test_a_demand_is_refused_and_nothing_is_written(survivor: ForeignClient, key: bytes) -> None:
    assert error_of(survivor.ask("put", key=key, value=b"v", w=2)) == REFUSAL
    assert error_of(survivor.ask("delete", key=key, pw=2)) == REFUSAL
    assert error_of(survivor.ask("get", key=key, cl="quorum")) == REFUSAL
    assert error_of(survivor.ask("scan", prefix=key, r=2)) == REFUSAL
    assert survivor.get(key) == ([], b"")


def test_the_topology_says_who_is_down(survivor: ForeignClient) -> None:
    nodes = survivor.ask("topology")["nodes"]
    assert isinstance(nodes, list)
    assert [(node["name"], node["status"]) for node in nodes] == [("n1", "up"), ("n2", "down"), ("n3", "down")]
