"""Clients that take up every file that a node may have open are kept waiting; those that it has are served."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from time import monotonic, sleep

from kvbus.client import Client
from tests.live.placed_nodes import DIE_WITH_PARENT, PlacedNodes, placed_nodes
from tests.live.private_mounts import need_tools
from tests.live.wire_socket import WireSocket

# Of 256 files 64 are for tables; so slow a compaction leaves the small ones that flushes write.
_FILES = 256
_SETTINGS = '[storage]\nmemory_budget = "1MiB"\ncompaction_rate = "1MiB"\n'
_TABLES = 90
_BATCH = 16
_VALUE_BYTES = 8000
_LARGE_REPLY = 40
_LOAD_SECONDS = 60.0
_STORM_SECONDS = 20.0


def load(nodes: PlacedNodes, client: Client) -> list[bytes]:
    """Write until there are so many tables; return all keys."""
    noise = Random(1)
    keys: list[bytes] = []
    give_up = monotonic() + _LOAD_SECONDS
    while nodes.stat("n1", "tables") < _TABLES:
        assert monotonic() < give_up, f"{nodes.stat('n1', 'tables')} tables of {len(keys)} values"
        fresh = [b"%06d" % number for number in range(len(keys), len(keys) + _BATCH)]
        for key in fresh:
            client.put(key, noise.randbytes(_VALUE_BYTES))
        keys += fresh
    return keys


@contextmanager
def many_clients(address: str) -> Iterator[None]:
    """Connect more clients than the node may have files open."""
    with ExitStack() as clients:
        for _ in range(_FILES):
            clients.enter_context(WireSocket(address))
        yield


def wait_until_full(nodes: PlacedNodes) -> None:
    """Wait until the node has as many files open as it may."""
    give_up = monotonic() + _STORM_SECONDS
    while open_files(nodes) < _FILES:
        assert monotonic() < give_up, open_files(nodes)
        sleep(0.05)


def open_files(nodes: PlacedNodes) -> int:
    """Return how many files the node has open."""
    pid = nodes.nodes["n1"].pid
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_a_node_whose_files_clients_take_up_serves_those_that_it_has(tmp_path: Path) -> None:
    need_tools("setpriv", "prlimit")
    with placed_nodes(tmp_path, 1, _SETTINGS) as nodes:
        nodes.start({"n1": (*DIE_WITH_PARENT, "prlimit", f"--nofile={_FILES}:{_FILES}")})
        with nodes.client("n1") as client:
            keys = load(nodes, client)
            with many_clients(nodes.nodes["n1"].client):
                wait_until_full(nodes)
                found = [reply.value or b"" for reply in map(client.get, keys)]
                assert list(map(len, found)) == [_VALUE_BYTES] * len(keys)
                large = sum(1 for _ in client.scan(with_values=True, page_keys=_LARGE_REPLY))
                assert large == len(keys)
                client.put(b"meanwhile", b"v")
                wait_until_full(nodes)
            with nodes.client("n1", deadline_ms=10_000) as late:
                assert late.get(b"meanwhile").value == b"v"
        assert nodes.stop("n1") == 0
