"""``kvbus lab``: real cuts between network namespaces, and a host on which nothing of them is ever left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from kvbus.cli.lab.enclosure import check_machine, check_tools, check_user
from kvbus.errors import ConfigError
from tests.live.command_server import environment
from tests.live.local_cluster import run_kvbus

_GONE_SECONDS = 5.0
_TOOLS = ("ip", "mount", "nft", "nsenter", "setpriv", "unshare")

# What somebody's own test in the lab looks like. It leaves by a node's namespace, as a program on that side would.
_SOMEBODYS_TEST = """
import json, os, subprocess, sys, time
from kvbus import Client, ClientError

def lab(*words, within=()):
    command = [*within, sys.executable, "-m", "kvbus", "lab", *words]
    return subprocess.run(command, capture_output=True, text=True)

def everybody_stores():
    try:
        return not lone.put(b"whole", b"", ctx=lone.get(b"whole").ctx, w=3, deadline_ms=500).degraded
    except ClientError:
        return False

nodes = os.environ["KVBUS_CONNECT"].split(",")
with Client(nodes[0], routing="direct") as lone, Client(nodes[1], routing="direct") as other:
    seen = {"whole": everybody_stores()}
    seen["cut"] = json.loads(lab("cut", "n1 | n2,n3", "-o", "json").stdout)["cut"]
    seen["degraded"] = [client.put(b"k", name).degraded for client, name in ((lone, b"A"), (other, b"B"))]
    seen["parted"] = everybody_stores()
    seen["wrong"] = lab("cut", "n1 | n7").stderr
    seen["heal"] = lab("heal", within=["nsenter", f"--net={os.environ['KVBUS_LAB']}/net/n1"]).stdout
    while not everybody_stores():
        time.sleep(0.05)
    seen["siblings"] = sorted(value.decode() for value in lone.get(b"k", r=3).values)
print(json.dumps(seen))
sys.exit(7)
"""


@pytest.fixture(scope="module")
def machine() -> None:
    """Skip where no lab can be, with the reason that the command itself gives."""
    try:
        check_machine()
    except ConfigError as error:
        pytest.skip(str(error))


@dataclass(frozen=True)
class Host:
    """All that a lab could leave on the host, but for processes."""

    namespaces: list[str]
    devices: list[str]
    tables: str
    mounts: list[str]
    folders: list[str]


def host() -> Host:
    named = Path("/run/netns")
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    return Host(
        namespaces=sorted(os.listdir(named)) if named.exists() else [],
        devices=sorted(os.listdir("/sys/class/net")),
        tables=subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout,
        mounts=[line for line in mounts if "kvbus" in line],
        folders=[str(path) for place in ("/dev/shm", tempfile.gettempdir()) for path in Path(place).glob("kvbus-lab*")],
    )


def parents() -> dict[int, int]:
    """Return the parent of each process that has not ended; one that nobody has collected yet has ended."""
    found: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX":
            found[int(stat.parent.name)] = int(parent)
    return found


def children(pid: int) -> list[int]:
    """Return the processes that ``pid`` started, or was given, and that have not ended."""
    return [child for child, parent in parents().items() if parent == pid]


def family(pid: int) -> list[int]:
    """Return ``pid``, its children, theirs and so on."""
    return [pid, *(member for child in children(pid) for member in family(child))]


def wait_until_gone(pids: list[int]) -> None:
    give_up = monotonic() + _GONE_SECONDS
    while left := sorted(parents().keys() & set(pids)):
        assert monotonic() < give_up, f"still there after {_GONE_SECONDS} s: {left}"
        sleep(0.02)


@pytest.mark.usefixtures("machine")
def test_the_proof_holds_and_leaves_nothing_behind() -> None:
    before = host()
    done = run_kvbus("lab", "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert host() == before
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["nodes"] == ["n1", "n2", "n3"]
    answers = {(row["network"], row["tried"], row["through"]): row["answer"] for row in told["seen"]}
    parted = "n1 | n2,n3, noticed"
    assert answers["n1 | n2,n3", "put A", "n1"] == "degraded, 1 copy"
    assert answers[parted, "get", "n1"] == "degraded, 1 copy: A"
    assert answers[parted, "put X --w 2", "n1"].startswith("refused (no_quorum)")
    assert answers[parted, "put B", "n2"] == "ok"
    assert answers["healed", "get --r 3", "n1"] == "ok: A B (siblings)"
    assert answers["n1 -> n2", "UDP n1 → n2", ""] == "is lost"
    assert answers["n1 -> n2", "UDP n2 → n1", ""] == "arrives"
    assert 0.5 < told["seconds"]["cut_noticed"] < 6.0
    assert 0.0 < told["seconds"]["recovered"] < 20.0


@pytest.mark.usefixtures("machine")
def test_a_claim_that_does_not_hold_fails_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVBUS_KEYSPACES__DEFAULT__W", "1")
    done = run_kvbus("lab")
    assert done.returncode == 1
    assert "not so: put A through n1 ends degraded; it ended ok" in done.stderr
    assert "put old" in done.stdout, "what was seen until then is shown"


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("victim", ["the command", "its unshare", "the first process inside"])
def test_nothing_is_left_when_a_process_of_the_lab_is_killed(victim: str) -> None:
    before = host()
    command = [sys.executable, "-m", "kvbus", "lab", "--run", "--"]
    leaves_a_daemon = ["sh", "-c", "setsid sleep 600 & echo up; exec sleep 600"]
    with subprocess.Popen(
        [*command, *leaves_a_daemon], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as lab:
        assert lab.stdout is not None
        assert lab.stdout.readline() == "up\n"
        pids = family(lab.pid)
        assert len(pids) == 8, "the command, unshare, the first process, three nodes, two of the user's"
        [unshare] = children(lab.pid)
        [first] = children(unshare)
        killed = {"the command": lab.pid, "its unshare": unshare, "the first process inside": first}[victim]
        os.kill(killed, signal.SIGKILL)
        _, complaint = lab.communicate(timeout=_GONE_SECONDS)
    wait_until_gone(pids)
    assert host() == before
    assert lab.returncode == (-signal.SIGKILL if killed == lab.pid else 1)
    if killed == unshare:
        assert complaint == "kvbus: the lab was ended by SIGKILL; nothing of it is left\n"


@pytest.mark.usefixtures("machine")
def test_a_command_in_the_lab_cuts_and_heals(tmp_path: Path) -> None:
    before = host()
    (tmp_path / "somebodys.py").write_text(_SOMEBODYS_TEST, encoding="utf-8")
    done = run_kvbus("lab", "--run", "--", sys.executable, str(tmp_path / "somebodys.py"))
    assert done.returncode == 7, done.stdout + done.stderr
    assert host() == before
    seen: dict[str, Any] = json.loads(done.stdout)
    assert "no node 'n7'; there are: n1, n2, n3" in seen.pop("wrong")
    assert seen == {
        "whole": True,
        "cut": [["n1", "n2"], ["n1", "n3"], ["n2", "n1"], ["n3", "n1"]],
        "degraded": [True, False],
        "parted": False,
        "heal": "healed\n",
        "siblings": ["A", "B"],
    }


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("held", [True, False])
def test_a_lab_whose_command_died_before_it_began_does_not_begin(held: bool) -> None:
    lifeline, other_end = os.pipe()
    try:
        if not held:
            os.close(other_end)
        text = f"from kvbus.cli.lab.enclosure import check_enclosed; check_enclosed({lifeline}); print('begins')"
        done = subprocess.run(
            ["unshare", "--pid", "--fork", sys.executable, "-c", text],
            env=environment(), pass_fds=[lifeline], capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        os.close(lifeline)
        if held:
            os.close(other_end)
    assert (done.returncode, done.stdout) == ((0, "begins\n") if held else (1, ""))


@pytest.mark.usefixtures("machine")
def test_the_inner_part_refuses_to_run_on_the_host() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kvbus.cli.lab", "0", "3", "table"],
        env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "start that one" in done.stderr


@pytest.mark.usefixtures("machine")
def test_a_kernel_without_bridge_rules_is_told_with_the_tools_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nft").write_text("#!/bin/sh\necho 'Operation not supported' >&2\nexit 1\n", encoding="utf-8")
    (tmp_path / "nft").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    done = run_kvbus("lab", "-o", "json")
    assert done.returncode == 1
    told = json.loads(done.stdout)["error"]["message"]
    assert "CONFIG_NF_TABLES_BRIDGE" in told
    assert "Operation not supported" in told


@pytest.mark.usefixtures("machine")
def test_a_program_that_is_not_there_is_told_before_the_lab_starts() -> None:
    done = run_kvbus("lab", "--run", "--", "no-such-program", "--with", "options")
    assert done.returncode == 1
    assert "there is no command 'no-such-program'" in done.stderr


@pytest.mark.parametrize("missing", _TOOLS)
def test_a_missing_tool_is_named_with_its_package(missing: str, tmp_path: Path) -> None:
    for tool in _TOOLS:
        (tmp_path / tool).symlink_to(shutil.which("true") or "")
    check_tools(str(tmp_path))
    (tmp_path / missing).unlink()
    with pytest.raises(ConfigError, match=rf"no {missing} on the PATH .*apt-get install [a-z]"):
        check_tools(str(tmp_path))


def test_only_root_on_linux_is_let_in() -> None:
    check_user("linux", 0)
    with pytest.raises(ConfigError, match=r"run: sudo .* -m kvbus lab"):
        check_user("linux", 1000)
    with pytest.raises(ConfigError, match="needs the network namespaces of Linux"):
        check_user("darwin", 0)


@pytest.mark.parametrize("words", [("cut", "n1 | n2,n3"), ("heal",)])
def test_a_cut_outside_a_lab_says_where_it_works(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KVBUS_LAB", raising=False)
    done = run_kvbus("lab", *words)
    assert done.returncode == 1
    assert "kvbus lab --run -- COMMAND" in done.stderr
    monkeypatch.setenv("KVBUS_LAB", "/dev/shm/kvbus-lab")
    assert "where no lab is" in run_kvbus("lab", *words).stderr


def test_wrong_usage_ends_with_2() -> None:
    assert run_kvbus("lab", "--nodes", "2").returncode == 2
    assert run_kvbus("lab", "--run").returncode == 2
    assert run_kvbus("lab", "--nonsense").returncode == 2
