"""What a command or a test run started does not outlive it, however it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep

import pytest

OWNER = """
import json, os, sys, time
from kvbus.local.temporary import TemporaryCluster

with TemporaryCluster(2) as cluster:
    if "forks" in sys.argv and not os.fork():
        os.closerange(0, 3)
        time.sleep(30)
        os._exit(0)
    nodes = cluster.nodes.values()
    told = [str(cluster.folder), *[node.pid for node in nodes], *[node.client for node in nodes]]
    print(json.dumps(told), flush=True)
    sys.stdin.read()
"""
TORTURE = [sys.executable, "-m", "kvbus", "torture", "--seeds", "1-500", "--jobs", "2"]


def gone(pid: int) -> bool:
    try:
        return not Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def wait_for(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    give_up = monotonic() + seconds
    while not condition():
        assert monotonic() < give_up
        sleep(0.05)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("also", [(), ("forks",)], ids=["alone", "with a child"])
def test_a_temporary_clusters_nodes_and_folder_do_not_outlive_their_owner(
    number: signal.Signals, also: tuple[str, ...]
) -> None:
    command = [sys.executable, "-c", OWNER, *also]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        folder, *pids = json.loads(owner.stdout.readline())[:3]
        assert not any(gone(pid) for pid in pids)
        owner.send_signal(number)
    wait_for(lambda: all(gone(pid) for pid in pids) and not Path(folder).exists())


@pytest.mark.parametrize("also", [(), ("forks",)], ids=["alone", "with a child"])
def test_a_cluster_that_ends_in_order_leaves_nothing_either(also: tuple[str, ...]) -> None:
    begun = monotonic()
    done = subprocess.run([sys.executable, "-c", OWNER, *also], input=b"", capture_output=True, check=True)
    assert monotonic() - begun < 25, "its owner waited for a child that is none of its business"
    folder, *pids = json.loads(done.stdout)[:3]
    assert all(gone(pid) for pid in pids)
    assert not Path(folder).exists()
    assert done.stderr == b""


def test_clusters_of_several_owners_at_once_do_not_meet() -> None:
    with ExitStack() as owners:
        running = [
            owners.enter_context(
                subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            for _ in range(3)
        ]
        told = [json.loads(owner.stdout.readline()) for owner in running if owner.stdout is not None]
        addresses = [address for each in told for address in each[3:]]
        assert len(addresses) == len({*addresses}) == 6
        assert not any(gone(pid) for each in told for pid in each[1:3])
        for owner in running:
            owner.communicate()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let children take Ctrl-C also where this run was started in the background, which makes them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_campaign_that_is_stopped_shows_what_it_found(number: signal.Signals, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    command = [*TORTURE, "--resume", str(journal)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as campaign:
        wait_for(lambda: journal.exists() and len(journal.read_text(encoding="utf-8").splitlines()) > 2, 60.0)
        campaign.send_signal(number)
        try:
            shown, said = campaign.communicate(timeout=60)
        finally:
            campaign.kill()
    assert campaign.returncode == 130
    assert "durable" in shown
    assert "of 500 seeds; --resume FILE goes on next time" in shown
    assert said.startswith("stopped after ")
    assert len(said.splitlines()) == 1


def test_a_campaigns_workers_do_not_outlive_it() -> None:
    with subprocess.Popen(TORTURE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as campaign:
        wait_for(lambda: len(children(campaign.pid)) >= 3)
        workers = children(campaign.pid)
        campaign.kill()
    wait_for(lambda: all(gone(pid) for pid in workers))


WORKING = """
import asyncio
from kvbus.runtime.process_worker import ProcessWorker

async def work() -> None:
    worker, done = ProcessWorker(), asyncio.Event()
    worker.submit(abs, -1, lambda outcome: done.set())
    await done.wait()
    print("ready", flush=True)
    await asyncio.sleep(600)

if __name__ == "__main__":
    asyncio.run(work())
"""


def test_a_nodes_worker_does_not_outlive_it(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(WORKING, encoding="utf-8")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        workers = children(owner.pid)
        assert workers
        owner.kill()
    wait_for(lambda: all(gone(pid) for pid in workers))
