"""Start nodes of a local cluster and wait until they serve and see each other."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from time import monotonic, sleep
from typing import cast

from kvbus.errors import ConfigError, KvbusError
from kvbus.local.folder import LocalNode
from kvbus.local.process import last_line, spawn

READY_SECONDS = 60.0
_POLL_SECONDS = 0.05
_ANSWER_SECONDS = 2.0


class StartError(KvbusError):
    """A node did not start; the message holds what it said last."""


@dataclass(slots=True)
class Started:
    """A node's fresh process and where its log began."""

    node: LocalNode
    process: subprocess.Popen[bytes]
    log_start: int


def start(node: LocalNode, within: Sequence[str] = ()) -> Started:
    """Start one node's process; the words ``within`` are put in front of its command and end by becoming it.

    Raises:
        ConfigError: its folder or configuration file is gone.
    """
    if not Path(node.config).is_file():
        raise ConfigError(f"{node.config} is gone; restore it, or make a cluster in another --dir")
    log_start = node.log.stat().st_size if node.log.exists() else 0
    return Started(node, spawn(Path(node.config), node.log, within), log_start)


def wait_until_ready(
    started: Sequence[Started], others: Sequence[LocalNode], progress: Callable[[int, int], None]
) -> None:
    """Wait until every started and other node serves and has links to all of them.

    ``progress`` is told how many of how many nodes are ready.

    Raises:
        StartError: a started node ended, or the time is up.
    """
    nodes = [each.node for each in started] + list(others)
    waiting = nodes
    give_up = monotonic() + READY_SECONDS
    while True:
        for each in started:
            if each.process.poll() is not None:
                said = last_line(each.node.log, each.log_start)
                raise StartError(f"{each.node.name} ended while it started: {said or f'see {each.node.log}'}")
        names = [node.name for node in nodes]
        waiting = [node for node in waiting if not _is_ready(node, names)]
        progress(len(nodes) - len(waiting), len(nodes))
        if not waiting:
            return
        if monotonic() > give_up:
            late = waiting[0]
            said = last_line(late.log, 0)
            raise StartError(f"{late.name} is not ready after {READY_SECONDS:.0f} s; its log ends with: {said}")
        sleep(_POLL_SECONDS)


def _is_ready(node: LocalNode, names: Sequence[str]) -> bool:
    answer = readiness(node.http)
    members = answer.get("members")
    if answer.get("ready") is not True or not isinstance(members, dict):
        return False
    states = cast("Mapping[str, object]", members)
    return all(states.get(name) == "up" for name in names)


def readiness(http: str) -> Mapping[str, object]:
    """Return what ``/readyz`` of the node at ``http`` (host:port) answers; empty when nobody does."""
    connection = HTTPConnection(http, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return cast("Mapping[str, object]", json.loads(connection.getresponse().read()))
    except (OSError, HTTPException, ValueError):
        return {}
    finally:
        connection.close()
