"""A sync that fails ends the node at once: the kernel may have dropped the pages, and a second one would succeed.

strace lets a system call on a chosen file fail.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from kvbus.client import Client
from kvbus.errors import ClientError
from tests.live.placed_nodes import DIE_WITH_PARENT, PlacedNodes, placed_nodes
from tests.live.private_mounts import need_tools

_SETTINGS = '[storage]\nmemory_budget = "1MiB"\n'
_FILL_SECONDS = 30.0
_BATCH = 50
_LEAST = 100
_SYNC = re.compile(r"(fsync|fdatasync)\(\d+")


@pytest.fixture(autouse=True, scope="module")
def machine() -> None:
    """Skip where system calls cannot be made to fail, with the reason."""
    need_tools("strace", "setpriv")


def failing(trace: Path, call: str, path: Path, when: int, error: str) -> list[str]:
    """Return the words behind which ``call`` on ``path`` fails once, the ``when``-th time, with ``error``.

    All syncs of that file are written to ``trace``.
    """
    return [
        *(*DIE_WITH_PARENT, "strace", "--daemonize", "--follow-forks", "--quiet=all", "--trace=fsync,fdatasync"),
        *(f"--inject={call}:error={error}:when={when}", f"--output={trace}", "--trace-path", str(path)),
    ]


def write_until(client: Client, done: Callable[[int], bool]) -> dict[bytes, bytes]:
    """Write fresh keys until ``done``, which is told how many of a batch failed; return what was acknowledged."""
    acknowledged: dict[bytes, bytes] = {}
    give_up = monotonic() + _FILL_SECONDS
    number = errors = 0
    while not done(errors):
        assert monotonic() < give_up, f"still going on after {_FILL_SECONDS} s and {number} puts"
        items = [(b"sync-%d" % each, b"%d;" % each * 60) for each in range(number, number + _BATCH)]
        number += _BATCH
        replies = client.put_many(items, deadline_ms=1000)
        errors = sum(isinstance(reply, ClientError) for reply in replies)
        for (key, value), reply in zip(items, replies, strict=True):
            if not isinstance(reply, ClientError):
                acknowledged[key] = value
    return acknowledged


def syncs_from_the_failed_one_on(trace: Path) -> list[str]:
    """Return what strace told of the file, from the sync that failed on."""
    syncs = [line for line in trace.read_text(encoding="utf-8").splitlines() if _SYNC.search(line)]
    failed = next(index for index, line in enumerate(syncs) if "INJECTED" in line)
    return syncs[failed:]


def assert_holds(nodes: PlacedNodes, acknowledged: dict[bytes, bytes]) -> None:
    """Start the node again, without the fault, and see that nothing acknowledged is gone."""
    nodes.start({"n1": DIE_WITH_PARENT})
    with nodes.client("n1") as client:
        for (key, value), reply in zip(acknowledged.items(), client.get_many(acknowledged), strict=True):
            assert not isinstance(reply, ClientError), reply
            assert reply.values == [value], key


@pytest.mark.parametrize(
    ("call", "file", "when", "error"),
    [
        pytest.param("fdatasync", "log-00000001", 5, "EIO", id="log"),
        pytest.param("fdatasync", "log-00000001", 5, "ENOSPC", id="log, no space"),
        pytest.param("fdatasync", "table-00000001", 1, "EIO", id="table"),
        pytest.param("fdatasync", "manifest-00000001", 2, "EIO", id="manifest"),
        pytest.param("fsync", "", 5, "EIO", id="folder"),
    ],
)
def test_a_failed_sync_ends_the_node_and_nothing_acknowledged_is_gone(
    call: str, file: str, when: int, error: str, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    with placed_nodes(tmp_path / "cluster", 1, _SETTINGS) as nodes:
        nodes.start({"n1": failing(trace, call, nodes.data("n1") / file, when, error)})
        with nodes.client("n1") as client:
            acknowledged = write_until(client, lambda errors: errors == _BATCH)
        assert nodes.wait_for_exit("n1") == 1
        assert re.search(r'"event": "fatal", "level": "critical"', nodes.log("n1"))
        assert len(acknowledged) >= _LEAST
        assert_holds(nodes, acknowledged)
    assert len(syncs_from_the_failed_one_on(trace)) == 1, "a sync that has failed is not tried again"


@pytest.mark.parametrize(("file", "when"), [("table-00000001", 1), ("manifest-00000001", 2)], ids=["table", "manifest"])
def test_no_space_at_a_flushs_sync_fails_the_flush_and_the_next_one_does_it(
    file: str, when: int, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    with placed_nodes(tmp_path / "cluster", 1, _SETTINGS) as nodes:
        nodes.start({"n1": failing(trace, "fdatasync", nodes.data("n1") / file, when, "ENOSPC")})
        with nodes.client("n1") as client:
            acknowledged = write_until(client, lambda errors: nodes.stat("n1", "flushes") >= 3)
        assert nodes.stat("n1", "maintenance_failures") == 1
        assert "failed and will be tried again" in nodes.log("n1")
        nodes.wait_for_stat("n1", "read_only", 0)
        nodes.kill("n1")
        assert_holds(nodes, acknowledged)
    assert syncs_from_the_failed_one_on(trace)
