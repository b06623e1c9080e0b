"""What a command or a test run started does not outlive it, however it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

OWNER = """
import json, sys
from kvbus.local.temporary import TemporaryCluster

with TemporaryCluster(2) as cluster:
    print(json.dumps([str(cluster.folder), *[node.pid for node in cluster.nodes.values()]]), flush=True)
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
def test_a_temporary_clusters_nodes_and_folder_do_not_outlive_their_owner(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        folder, *pids = json.loads(owner.stdout.readline())
        assert len(pids) == 2
        assert not any(gone(pid) for pid in pids)
        owner.send_signal(number)
    wait_for(lambda: all(gone(pid) for pid in pids) and not Path(folder).exists())


def test_a_cluster_that_ends_in_order_leaves_nothing_either() -> None:
    done = subprocess.run([sys.executable, "-c", OWNER], input=b"", capture_output=True, check=True)
    folder, *pids = json.loads(done.stdout)
    assert all(gone(pid) for pid in pids)
    assert not Path(folder).exists()
    assert done.stderr == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_campaign_that_is_stopped_shows_what_it_found(number: signal.Signals, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    command = [*TORTURE, "--resume", str(journal)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as campaign:
        wait_for(lambda: journal.exists() and len(journal.read_text(encoding="utf-8").splitlines()) > 2, 60.0)
        campaign.send_signal(number)
        shown, said = campaign.communicate(timeout=60)
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
