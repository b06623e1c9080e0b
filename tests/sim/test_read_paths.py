"""``explain`` shows what each asked replica looked into: memtable, filters, tables, block cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from kvbus.sim.client import SimClient
from tests.sim.flushed import KEYS, flushed


def paths(client: SimClient, key: bytes, r: int = 1) -> list[Mapping[str, Any]]:
    """Return what the replicas that answered say of a get from ``r`` of them."""
    explained = client.get(key, explain=True, r=r).explain
    assert explained is not None
    replicas = cast("Sequence[Mapping[str, Any]]", explained["replicas"])
    return [replica for replica in replicas if replica["state"] == "answered"]


def test_a_key_in_a_table_is_read_from_the_disk_once_and_then_from_the_cache() -> None:
    world = flushed(3)
    with world.client("n1") as client:
        for cached in (False, True):
            found = paths(client, KEYS[0], r=3)
            assert len(found) == 3
            for replica in found:
                assert (replica["memtable"], replica["siblings"]) == ("miss", 1)
                (read,) = [table for table in replica["sstables"] if table["found"]]
                assert [read["table"], "maybe"] in replica["blooms"]
                assert read["cached"] is cached


def test_a_key_that_was_just_written_is_in_the_memtable_and_no_filter_is_asked() -> None:
    world = flushed(1)
    with world.client("n1") as client:
        client.put(KEYS[0], b"new")
        (replica,) = paths(client, KEYS[0])
        assert (replica["memtable"], replica["blooms"], replica["sstables"]) == ("hit", [], [])


def test_a_key_that_nobody_wrote_is_ruled_out_by_filters() -> None:
    world = flushed(1)
    with world.client("n1") as client:
        ruled_out = 0
        for number in range(50):
            (replica,) = paths(client, b"key-%02d?" % number)
            assert replica["memtable"] == "miss"
            assert not any(table["found"] for table in replica["sstables"])
            ruled_out += [answer for _, answer in replica["blooms"]].count("no")
        assert ruled_out > 30
