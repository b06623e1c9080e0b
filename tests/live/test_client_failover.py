"""The clients against a cluster of real processes, one of which dies or hangs."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvbus.client import AsyncClient, Client, GetReply, PutReply, Siblings
from kvbus.errors import RequestTimeout
from tests.live.local_cluster import LocalCluster, local_cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """Run a cluster for one test."""
    with local_cluster(tmp_path / "cluster") as started:
        yield started


def test_a_cluster_serves_the_blocking_client(cluster: LocalCluster) -> None:
    with Client(cluster.addresses[0]) as client:
        client.put(b"k", b"a")
        client.put(b"k", b"b")
        with pytest.raises(Siblings):
            _ = client.get(b"k").value
        client.modify(b"k", lambda found: b"+".join(sorted(found)))
        found = client.get(b"k", receipt=True, explain=True)
        assert found.value == b"a+b"
        assert found.receipt is not None
        assert found.explain is not None
        keys = [b"s%04d" % number for number in range(3000)]
        assert all(isinstance(reply, PutReply) for reply in client.put_many((key, b"v") for key in keys))
        assert all(isinstance(reply, GetReply) and reply.value == b"v" for reply in client.get_many(keys))
        assert sorted(entry.key for entry in client.scan(b"s")) == keys


def test_a_killed_node_costs_only_the_writes_that_were_under_way(cluster: LocalCluster) -> None:
    failed: list[Exception] = []

    async def work() -> int:
        done = 0
        async with AsyncClient(cluster.addresses[0]) as client:
            await client.put(b"k", b"v")
            end = time.monotonic() + 3

            async def worker(number: int) -> None:
                nonlocal done
                while time.monotonic() < end:
                    try:
                        await client.put(b"%d-%d" % (number, done), b"v")
                    except RequestTimeout as error:
                        failed.append(error)
                    await client.get(b"%d" % number)
                    done += 1

            killing = asyncio.get_running_loop().call_later(1, cluster.signal, "n2", signal.SIGKILL)
            await asyncio.gather(*(worker(number) for number in range(16)))
            killing.cancel()
        return done

    assert asyncio.run(work()) > 100
    # Each worker had at most one write under way at the node.
    assert len(failed) <= 16
    assert all(isinstance(error, RequestTimeout) and not error.definite for error in failed)


def test_a_hanging_node_holds_reads_up_only_until_its_heartbeats_are_missed(cluster: LocalCluster) -> None:
    with Client(cluster.addresses[0], deadline_ms=10_000) as client:
        client.put(b"k", b"v")
        cluster.signal("n3", signal.SIGSTOP)
        try:
            start = time.monotonic()
            assert [client.get(b"k", r=1).value for _ in range(12)] == [b"v"] * 12
            assert time.monotonic() - start < 8
        finally:
            cluster.signal("n3", signal.SIGCONT)
