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
def doomed(tmp_path: Path) -> Iterator[LocalCluster]:
    """Run a cluster for one test, which leaves it without a node."""
    with local_cluster(tmp_path / "cluster") as started:
        yield started


def test_a_cluster_serves_the_blocking_client(cluster: LocalCluster) -> None:
    with Client(cluster.addresses[0]) as client:
        client.put(b"mixed", b"a")
        client.put(b"mixed", b"b")
        with pytest.raises(Siblings):
            _ = client.get(b"mixed").value
        client.modify(b"mixed", lambda found: b"+".join(sorted(found)))
        found = client.get(b"mixed", receipt=True, explain=True)
        assert found.value == b"a+b"
        assert found.receipt is not None
        assert found.explain is not None
        keys = [b"many-%04d" % number for number in range(3000)]
        assert all(isinstance(reply, PutReply) for reply in client.put_many((key, b"v") for key in keys))
        assert all(isinstance(reply, GetReply) and reply.value == b"v" for reply in client.get_many(keys))
        assert sorted(entry.key for entry in client.scan(b"many-")) == keys


def test_a_hanging_node_holds_reads_up_only_until_its_heartbeats_are_missed(cluster: LocalCluster) -> None:
    """The node that hangs is the one that this client asks, once all its connections are up."""
    with Client(cluster.addresses[0], deadline_ms=10_000) as client:
        client.put(b"hanging", b"v")
        links = client._machine.links
        while not all(links.choose([address], 0, 0.0) == address for address in cluster.addresses):
            client.ping()
        receipt = client.get(b"hanging", receipt=True).receipt
        assert receipt is not None
        home = str(receipt["node"])
        cluster.signal(home, signal.SIGSTOP)
        try:
            start = time.monotonic()
            assert [client.get(b"hanging", r=1).value for _ in range(12)] == [b"v"] * 12
            assert time.monotonic() - start < 8
        finally:
            cluster.signal(home, signal.SIGCONT)


def test_a_killed_node_costs_only_the_writes_that_were_under_way(doomed: LocalCluster) -> None:
    failed: list[Exception] = []

    async def work() -> int:
        done = 0
        async with AsyncClient(doomed.addresses[0]) as client:
            await client.put(b"k", b"v")
            end = time.monotonic() + 1.2

            async def worker(number: int) -> None:
                nonlocal done
                while time.monotonic() < end:
                    try:
                        await client.put(b"%d-%d" % (number, done), b"v")
                    except RequestTimeout as error:
                        failed.append(error)
                    await client.get(b"%d" % number)
                    done += 1

            killing = asyncio.get_running_loop().call_later(0.4, doomed.signal, "n2", signal.SIGKILL)
            await asyncio.gather(*(worker(number) for number in range(16)))
            killing.cancel()
        return done

    assert asyncio.run(work()) > 100
    # Each worker had at most one write under way at the node.
    assert len(failed) <= 16
    assert all(isinstance(error, RequestTimeout) and not error.definite for error in failed)
