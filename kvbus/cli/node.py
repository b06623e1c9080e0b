"""``kvbus node`` and ``kvbus check-config``: one node from its configuration file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, cast

import typer

from kvbus.cli.options import OutputOption
from kvbus.cli.output import Output, failures_shown, print_json, say

ConfigOption = Annotated[Path, typer.Option("--config", help="The node's TOML file.", show_default=False)]


def node(config: ConfigOption) -> None:
    """Run one node in the foreground; SIGTERM lets it finish what it has begun and end."""
    from kvbus.config import load_config

    with failures_shown(Output.TABLE):
        settings = load_config(config, os.environ)
        from kvbus.runtime.server import run_node

        code = run_node(settings)
    raise typer.Exit(code)


def check_config(config: ConfigOption, output: OutputOption = Output.TABLE) -> None:
    """Check a configuration and print it with the defaults filled in."""
    from kvbus.config import load_config
    from kvbus.local.toml_text import toml_text

    with failures_shown(output):
        effective = load_config(config, os.environ).effective()
        if output is Output.JSON:
            print_json(cast("Mapping[str, object]", effective))
        else:
            say(f"# {config} is right; with the defaults filled in it says:\n")
            say(toml_text(effective).rstrip())
