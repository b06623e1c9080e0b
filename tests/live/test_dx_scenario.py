"""The classic scenario D1 … D5 through a real cluster, by hand: the command line and one node at a time.

Source: DeCandia et al., "Dynamo" (2007), figure 3.
"""

from __future__ import annotations

import json
from typing import cast

from tests.live.local_cluster import LocalCluster, run_kvbus


class Person:
    """Somebody at a terminal who talks to one node only."""

    def __init__(self, cluster: LocalCluster, node: str) -> None:
        self._address = cluster.node(node).client

    def run(self, *arguments: str) -> dict[str, object]:
        """Run one command; return the JSON that it prints."""
        done = run_kvbus(*arguments, "--connect", self._address, "-o", "json")
        assert done.returncode == 0, done.stdout + done.stderr
        return cast("dict[str, object]", json.loads(done.stdout))

    def put(self, key: str, value: str, ctx: object = None) -> dict[str, object]:
        """Write on all three replicas, so that whoever reads next sees it."""
        return self.run("put", key, value, "--w", "3", *(() if ctx is None else ("--ctx", str(ctx))))

    def get(self, key: str) -> dict[str, object]:
        """Read from all three replicas."""
        return self.run("get", key, "--r", "3")


def test_the_classic_scenario_has_the_clocks_of_the_paper(cluster: LocalCluster) -> None:
    x, y, z = (Person(cluster, name) for name in ("n1", "n2", "n3"))
    first = x.put("cart", "D1")
    assert first["clock"] == [["n1", 1]]
    second = x.put("cart", "D2", first["ctx"])
    assert second["clock"] == [["n1", 2]]
    found = y.get("cart")
    assert (found["values"], found["clock"]) == (["D2"], [["n1", 2]])

    seen_by_z = z.get("cart")["ctx"]
    third = y.put("cart", "D3", found["ctx"])
    fourth = z.put("cart", "D4", seen_by_z)
    assert third["clock"] == [["n1", 2], ["n2", 1]]
    assert fourth["clock"] == [["n1", 2], ["n3", 1]]
    for person in (x, y, z):
        found = person.get("cart")
        assert sorted(cast("list[str]", found["values"])) == ["D3", "D4"]
        assert found["clock"] == [["n1", 2], ["n2", 1], ["n3", 1]]

    fifth = x.put("cart", "D5", found["ctx"])
    assert fifth["clock"] == [["n1", 3], ["n2", 1], ["n3", 1]]
    for person in (x, y, z):
        found = person.get("cart")
        assert (found["values"], found["clock"]) == (["D5"], [["n1", 3], ["n2", 1], ["n3", 1]])
        assert found["degraded"] is False


def test_an_overwrite_with_the_own_puts_context_leaves_what_it_did_not_see(cluster: LocalCluster) -> None:
    """Two blind puts through one coordinator; a reply that carried the record's clock would delete the first."""
    one, other = Person(cluster, "n1"), Person(cluster, "n1")
    one.put("wish", "a bicycle")
    mine = other.put("wish", "a boat")
    assert mine["clock"] == [["n1", 1]], "the reply covers its own write only"
    other.put("wish", "a bigger boat", mine["ctx"])
    for name in cluster.names:
        found = Person(cluster, name).get("wish")
        assert sorted(cast("list[str]", found["values"])) == ["a bicycle", "a bigger boat"]


def test_a_deletion_removes_what_was_read_and_nothing_else(cluster: LocalCluster) -> None:
    one, other = Person(cluster, "n1"), Person(cluster, "n2")
    seen = one.put("note", "read")["ctx"]
    other.put("note", "unread")
    one.run("delete", "note", "--ctx", str(seen), "--w", "3")
    assert other.get("note")["values"] == ["unread"]
    one.run("delete", "note", "--ctx", str(other.get("note")["ctx"]), "--w", "3")
    gone = run_kvbus("get", "note", "--connect", cluster.node("n3").client, "-o", "json")
    assert gone.returncode == 3
    assert json.loads(gone.stdout)["values"] == []
