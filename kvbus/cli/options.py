"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvbus.cli.output import Output
from kvbus.core.quorum import LEVELS

_WHERE = "Where the cluster is"
_QUORUM = "How many must answer"


def _level(given: str | None) -> str | None:
    if given is not None and given not in LEVELS:
        raise typer.BadParameter(f"must be one of {', '.join(LEVELS)}, not {given!r}")
    return given


def _key(given: str) -> str:
    if not given:
        raise typer.BadParameter("must have at least one byte")
    return given


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="A table to read, or JSON for programs.")]
FolderOption = Annotated[
    Path | None,
    typer.Option("--dir", help="A local cluster's folder (or the variable KVBUS_DIR).", rich_help_panel=_WHERE),
]
ConnectOption = Annotated[
    str | None,
    typer.Option(
        "--connect",
        metavar="tcp://HOST:PORT[,…]",
        help="Client addresses, tried in this order (or the variable KVBUS_CONNECT).",
        rich_help_panel=_WHERE,
    ),
]
KeyspaceOption = Annotated[str, typer.Option("--ks", help="The keyspace.", metavar="KEYSPACE")]
ReadQuorumOption = Annotated[
    int | None, typer.Option("--r", min=1, max=255, help="Replicas that must answer.", rich_help_panel=_QUORUM)
]
WriteQuorumOption = Annotated[
    int | None, typer.Option("--w", min=1, max=255, help="Replicas that must have stored.", rich_help_panel=_QUORUM)
]
ReadPrimariesOption = Annotated[
    int | None, typer.Option("--pr", min=1, max=255, help="As --r, primaries only.", rich_help_panel=_QUORUM)
]
WritePrimariesOption = Annotated[
    int | None, typer.Option("--pw", min=1, max=255, help="As --w, primaries only.", rich_help_panel=_QUORUM)
]
LevelOption = Annotated[
    str | None,
    typer.Option(
        "--cl",
        help=f"Instead of numbers: {', '.join(LEVELS)}.",
        callback=_level,
        rich_help_panel=_QUORUM,
    ),
]
ContextOption = Annotated[
    str | None, typer.Option("--ctx", metavar="HEX", help="The context of an earlier get: what this write has seen.")
]
TtlOption = Annotated[
    int | None, typer.Option("--ttl-ms", min=1, max=1 << 46, help="Forget the value after this many ms.")
]
DeadlineOption = Annotated[int, typer.Option("--deadline-ms", min=1, max=600_000, help="Wait at most this long.")]
ReceiptOption = Annotated[bool, typer.Option("--receipt", help="Show who answered and what that guarantees.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the single events (dots) behind the clock.")]
EngineOption = Annotated[
    str, typer.Option("--engine", metavar="ENGINE", help="The [storage] engine that wrote the files.")
]
KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="Text; stored as UTF-8.", callback=_key, show_default=False)
]

DEFAULT_KEYSPACE = "default"
DEFAULT_DEADLINE_MS = 5000
