"""``kvbus ring``: who holds which partition, and how even that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import cast

from kvbus.cli.connection import Connection, NodeView, connected
from kvbus.cli.options import DEFAULT_KEYSPACE, ConnectOption, FolderOption, OutputOption
from kvbus.cli.output import Output, console, failures_shown, print_json, say, table

_BAR = 16
_GAP = "   "


def ring(folder: FolderOption = None, connect: ConnectOption = None, output: OutputOption = Output.TABLE) -> None:
    """Show each partition's replicas in order of preference, and each node's load against its bound."""
    with failures_shown(output), connected(folder, connect, DEFAULT_KEYSPACE) as link:
        nodes, owners = link.nodes, cast("Sequence[Sequence[int]]", link.topology["owners"])
        loads = _loads(link, nodes, owners)
        epoch = link.topology["epoch"]
    names = [[nodes[index].name for index in row] for row in owners]
    if output is Output.JSON:
        print_json({"epoch": epoch, "partitions": len(owners), "nodes": loads, "owners": names})
        return
    say(f"{len(owners)} partitions, topology epoch {epoch}\n")
    fullest = max(cast("int", load["bound"]) for load in loads)
    table(
        ["node", "dc/rack", "weight", "replicas", "share", "bound", "first", "load"],
        [_row(load, fullest) for load in loads],
    )
    say("\npartition: replicas in order of preference\n")
    for line in ring_lines(names, console().width):
        say(line)


def _loads(link: Connection, nodes: Sequence[NodeView], owners: Sequence[Sequence[int]]) -> list[dict[str, object]]:
    from kvbus.core.placement import LoadBound, Member, load_bounds

    held = Counter(index for row in owners for index in row)
    first = Counter(row[0] for row in owners if row)
    members = [Member(name=node.name, dc=node.dc, rack=node.rack, weight=node.weight) for node in nodes]
    bounds = load_bounds(members, partitions=len(owners), replicas=replicas_of(nodes, owners))
    idle = LoadBound(0.0, 0.0, 0)
    return [
        {
            "name": node.name,
            "dc": node.dc,
            "rack": node.rack,
            "weight": node.weight,
            "replicas": held[index],
            "first": first[index],
            "share": round(bounds.get(node.name, idle).ruled_share, 2),
            "bound": bounds.get(node.name, idle).bound,
        }
        for index, node in enumerate(nodes)
    ]


def replicas_of(nodes: Sequence[NodeView], owners: Sequence[Sequence[int]]) -> int | dict[str, int]:
    """Return N as the table shows it: the number in each data centre where that is the same for all partitions."""
    counts = [Counter(nodes[index].dc for index in row) for row in owners]
    if len(counts[0]) > 1 and all(count == counts[0] for count in counts):
        return dict(counts[0])
    return len(owners[0])


def ring_lines(owners: Sequence[Sequence[str]], width: int) -> list[str]:
    """Lay the partitions out in as many columns as ``width`` characters hold, each column read downwards."""
    digits = len(str(len(owners) - 1))
    name_width = max(len(name) for row in owners for name in row)
    cells = [
        f"{number:>{digits}}: " + " ".join(f"{name:<{name_width}}" for name in row) for number, row in enumerate(owners)
    ]
    cell_width = max(map(len, cells))
    columns = max(1, min((width + len(_GAP)) // (cell_width + len(_GAP)), len(cells)))
    height = -(-len(cells) // columns)
    return [_GAP.join(f"{cell:<{cell_width}}" for cell in cells[line::height]).rstrip() for line in range(height)]


def _row(load: Mapping[str, object], fullest: int) -> list[str]:
    replicas, bound = cast("int", load["replicas"]), cast("int", load["bound"])
    filled = round(_BAR * replicas / fullest)
    room = max(0, round(_BAR * bound / fullest) - filled)
    return [
        str(load["name"]),
        f"{load['dc']}/{load['rack']}",
        str(load["weight"]),
        str(replicas),
        str(load["share"]),
        str(bound),
        str(load["first"]),
        "█" * filled + "░" * room,
    ]
