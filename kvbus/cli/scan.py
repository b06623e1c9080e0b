"""``kvbus scan``: the keys of a keyspace."""

from __future__ import annotations

from typing import Annotated

import typer

from kvbus.cli.connection import connected
from kvbus.cli.options import (
    DEFAULT_DEADLINE_MS,
    DEFAULT_KEYSPACE,
    ConnectOption,
    DeadlineOption,
    FolderOption,
    KeyspaceOption,
    LevelOption,
    OutputOption,
    ReadPrimariesOption,
    ReadQuorumOption,
)
from kvbus.cli.output import Output, complain, failures_shown, print_json, readable, say, shown, table

_PAGE_KEYS = 1000


def scan(
    prefix: Annotated[str, typer.Argument(metavar="[PREFIX]", help="Only keys that begin so.")] = "",
    folder: FolderOption = None,
    connect: ConnectOption = None,
    ks: KeyspaceOption = DEFAULT_KEYSPACE,
    values: Annotated[bool, typer.Option("--values", help="Show the values too.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Stop after so many keys.")] = None,
    r: ReadQuorumOption = None,
    pr: ReadPrimariesOption = None,
    cl: LevelOption = None,
    deadline_ms: DeadlineOption = DEFAULT_DEADLINE_MS,
    output: OutputOption = Output.TABLE,
) -> None:
    """List keys, partition by partition, each in key order."""
    keys: list[bytes] = []
    found: list[list[bytes]] = []
    degraded = False
    with failures_shown(output), connected(folder, connect, ks) as link:
        wanted = prefix.encode(errors="surrogateescape")
        page = min(limit, _PAGE_KEYS) if limit is not None else None
        for entry in link.client.scan(
            wanted, with_values=values, page_keys=page, r=r, pr=pr, cl=cl, deadline_ms=deadline_ms
        ):
            keys.append(entry.key)
            found.append(entry.values)
            degraded = degraded or entry.degraded
            if len(keys) == limit:
                break
    if output is Output.JSON:
        listing: dict[str, object] = {"keys": [shown(key) for key in keys]}
        if values:
            listing["values"] = [[shown(value) for value in each] for each in found]
        listing["degraded"] = degraded
        print_json(listing)
        return
    if values:
        rows = [[readable(key), readable(value)] for key, each in zip(keys, found, strict=True) for value in each]
        table(["key", "value"], rows, cut=["key", "value"])
    else:
        for key in keys:
            say(readable(key))
    more = "; there may be more, --limit ended the list" if len(keys) == limit else ""
    complain(f"{len(keys)} key{'s' if len(keys) != 1 else ''}{more}")
    if degraded:
        complain("degraded: too few replicas answered for the list to be surely complete")
