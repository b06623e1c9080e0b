"""The ``kvbus`` command."""

from __future__ import annotations

from typing import Annotated

import typer

from kvbus import __version__
from kvbus.cli import (
    check_history,
    cluster,
    fault,
    inspection,
    keys,
    load,
    maintenance,
    node,
    partition,
    pause,
    ring,
    scan,
    status,
    torture,
    verification,
)
from kvbus.cli.demo.command import demo
from kvbus.cli.lab import command as lab

app = typer.Typer(
    help="A distributed key-value store that stays available and says what a reply is worth.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
_DATA = "Data"
_NODES = "Nodes"
_STORAGE = "Storage"
_FAULTS = "Faults on purpose, and proofs"
app.command(rich_help_panel=_DATA)(keys.put)
app.command(rich_help_panel=_DATA)(keys.get)
app.command(rich_help_panel=_DATA)(keys.delete)
app.command(rich_help_panel=_DATA)(keys.cas)
app.command(rich_help_panel=_DATA)(scan.scan)
app.command(rich_help_panel=_DATA)(load.load)
app.command(rich_help_panel=_NODES)(status.status)
app.command(rich_help_panel=_NODES)(ring.ring)
app.command(rich_help_panel=_NODES)(node.node)
app.command("check-config", rich_help_panel=_NODES)(node.check_config)
app.command(rich_help_panel=_NODES)(demo)
app.add_typer(cluster.app, name="cluster", rich_help_panel=_NODES)
app.command(rich_help_panel=_STORAGE)(maintenance.flush)
app.command(rich_help_panel=_STORAGE)(maintenance.compact)
app.command(rich_help_panel=_STORAGE)(inspection.inspect)
app.command(rich_help_panel=_STORAGE)(verification.verify)
app.command(rich_help_panel=_FAULTS)(partition.partition)
app.add_typer(fault.app, name="fault", rich_help_panel=_FAULTS)
app.command(rich_help_panel=_FAULTS)(partition.heal)
app.command(rich_help_panel=_FAULTS)(pause.pause)
app.command(rich_help_panel=_FAULTS)(pause.resume)
app.add_typer(lab.app, name="lab", rich_help_panel=_FAULTS)
app.command(rich_help_panel=_FAULTS)(torture.torture)
app.command("check-history", rich_help_panel=_FAULTS)(check_history.check_history)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kvbus {__version__}")
        raise typer.Exit


@app.callback()
def version(
    show: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Give every command the common options."""


def main() -> None:
    """Run the command line."""
    app()
