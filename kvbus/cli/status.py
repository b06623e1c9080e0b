"""``kvbus status``: the nodes as one of them sees the cluster, and what each says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from kvbus.cli.connection import Connection, NodeView, connected, listens
from kvbus.cli.fault_orders import described
from kvbus.cli.options import (
    DEFAULT_DEADLINE_MS,
    DEFAULT_KEYSPACE,
    ConnectOption,
    DeadlineOption,
    FolderOption,
    OutputOption,
)
from kvbus.cli.output import Output, complain, failures_shown, print_json, say, table
from kvbus.errors import ClientError, Unsupported


def status(
    folder: FolderOption = None,
    connect: ConnectOption = None,
    deadline_ms: DeadlineOption = DEFAULT_DEADLINE_MS,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the nodes, their state and how many keys each holds; deleted keys count until they are collected."""
    with failures_shown(output), connected(folder, connect, DEFAULT_KEYSPACE) as link:
        report = _report(link, deadline_ms)
    if output is Output.JSON:
        print_json(report)
        return
    say(f"cluster {report['cluster']}, topology epoch {report['epoch']}, seen from {report['asked']}\n")
    nodes = cast("list[Mapping[str, object]]", report["nodes"])
    headings = ["node", "state", "dc/rack", "weight", "keys", "epoch", "client", "reports"]
    rows = [_row(node) for node in nodes]
    table(headings, rows, wrapped=["reports"]) if any(row[-1] for row in rows) else table(
        headings[:-1], [row[:-1] for row in rows]
    )
    for name, keyspace in cast("Mapping[str, Mapping[str, object]]", report["keyspaces"]).items():
        say(f"\nkeyspace {name}: {_keyspace_text(keyspace)}")
    faults = cast("list[str]", report["faults"])
    if faults:
        say("\nbroken on purpose, until kvbus heal:")
    for line in faults:
        say(f"  {line}")
    lost = [str(node["name"]) for node in nodes if not node["reachable"]]
    if lost:
        complain(f"\n{', '.join(lost)} cannot be reached from here")


def _report(link: Connection, deadline_ms: int) -> dict[str, object]:
    found = [_node(node, deadline_ms) for node in link.nodes]
    return {
        "cluster": link.hello["cluster"],
        "asked": link.hello["node"],
        "epoch": link.topology["epoch"],
        "keyspaces": link.hello["keyspaces"],
        "nodes": [entry for entry, _ in found],
        "faults": described([rule for _, rules in found for rule in rules]),
    }


def _node(node: NodeView, deadline_ms: int) -> tuple[dict[str, object], Sequence[Mapping[str, object]]]:
    """Return a member as the asked node sees it, with its own account and its faults where it can be reached."""
    rules: Sequence[Mapping[str, object]] = ()
    entry: dict[str, object] = {
        "name": node.name,
        "client": node.client,
        "dc": node.dc,
        "rack": node.rack,
        "weight": node.weight,
        "status": node.status,
        "reachable": False,
        "keys": None,
        "epoch": None,
        "version": None,
        "sees": {},
    }
    if not listens(node.client):
        return entry, rules
    try:
        with connected(None, node.client, DEFAULT_KEYSPACE) as link:
            stats = link.client.stats(deadline_ms=deadline_ms)
            entry |= {
                "reachable": True,
                "keys": stats.get("engine_keys"),
                "epoch": stats.get("topology_epoch"),
                "version": link.hello["version"],
                "sees": {other.name: other.status for other in link.nodes},
            }
            rules = _rules(link, deadline_ms)
    except ClientError as error:
        complain(f"{node.name} does not answer: {error}")
    return entry, rules


def _rules(link: Connection, deadline_ms: int) -> Sequence[Mapping[str, object]]:
    try:
        found = link.client.admin("faults", deadline_ms=deadline_ms)
    except Unsupported:
        return ()
    return cast("Sequence[Mapping[str, object]]", found["rules"])


def _row(node: Mapping[str, object]) -> list[str]:
    sees = cast("Mapping[str, str]", node["sees"])
    missed: dict[str, list[str]] = {}
    for name, state in sees.items():
        if state != "up":
            missed.setdefault(state, []).append(name)
    reports = "; ".join(f"{', '.join(names)} {state}" for state, names in missed.items())
    keys, epoch = ("" if node[name] is None else str(node[name]) for name in ("keys", "epoch"))
    place = f"{node['dc']}/{node['rack']}"
    status = str(node["status"])
    return [str(node["name"]), status, place, f"{node['weight']}", keys, epoch, str(node["client"]), reports]


def _keyspace_text(keyspace: Mapping[str, object]) -> str:
    mode, preset = str(keyspace["mode"]).upper(), keyspace.get("preset")
    sizes = f"N={keyspace['n']} R={keyspace['r']} W={keyspace['w']}"
    kind = "demands" if keyspace.get("availability") == "quorum" else "targets"
    return f"{mode}, {sizes} ({preset}, as {kind})"
