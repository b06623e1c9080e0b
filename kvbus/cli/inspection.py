"""``kvbus inspect``: what one file of a data directory holds. Source: docs/OPERATING.md, "Looking at the files"."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

import typer

from kvbus.cli.options import EngineOption, OutputOption
from kvbus.cli.output import EXIT_ERROR, EXIT_USAGE, Output, console, failures_shown, print_json, say, table
from kvbus.errors import ConfigError

if TYPE_CHECKING:
    from kvbus.ports.engine_tools import Damage, Inspection, Listing

DEFAULT_LIMIT = 50
_INDENT = "  "


def inspect(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A log segment, table, manifest or log base.", show_default=False)
    ],
    keys: Annotated[bool, typer.Option("--keys", help="Show every key too, and the bytes that stand at it.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Show at most so many rows of a kind.")] = DEFAULT_LIMIT,
    engine: EngineOption = "lsm",
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what a file of the storage engine holds, be it damaged, of a running node or a copy; nothing is changed.

    Ends with 1 if the file is damaged.
    """
    with failures_shown(output, unusable=EXIT_USAGE):
        found = _inspected(file, engine, limit, keys)
    if output is Output.JSON:
        _print_object(file, found)
    else:
        _print_tables(file, found)
    if found.damage:
        raise typer.Exit(EXIT_ERROR)


def _inspected(path: Path, engine: str, limit: int, keys: bool) -> Inspection:
    from kvbus.plugins import engine_tools
    from kvbus.runtime.os_disk import OsFolder

    if not path.is_file():
        raise ConfigError(f"{path} is no file; name a log segment, table or manifest of a node's data_dir")
    file = OsFolder(path.parent).open(path.name)
    try:
        return engine_tools(engine).inspect(file, path.name, limit=limit, keys=keys)
    finally:
        file.close()


def _print_object(path: Path, found: Inspection) -> None:
    print_json(
        {
            "file": str(path),
            "kind": found.kind,
            "version": found.version,
            "size_bytes": found.size_bytes,
            "fields": {_name(name): value for name, value in found.fields.items()},
            "listings": [
                {
                    "of": listing.of,
                    "total": listing.total,
                    "rows": [dict(zip(map(_name, listing.columns), row, strict=True)) for row in listing.rows],
                }
                for listing in found.listings
            ],
            "damage": [{"offset": each.offset, "what": each.what} for each in found.damage],
        }
    )


def _print_tables(path: Path, found: Inspection) -> None:
    width = console().width
    say(f"{path.name}: {found.kind}, version {found.version}, {found.size_bytes:,} bytes\n")
    _print_fields(found, width)
    for listing in found.listings:
        _print_listing(listing)
    if found.damage:
        say("\ndamage:")
    print_damage(found.damage, width)


def _print_fields(found: Inspection, width: int) -> None:
    indent = _INDENT + " " * (max(map(len, found.fields), default=0) + len(_INDENT))
    for name, value in found.fields.items():
        head = f"{_INDENT}{name}".ljust(len(indent))
        say("\n".join(wrap(str(value), width, initial_indent=head, subsequent_indent=indent) or [head.rstrip()]))


def print_damage(damage: Sequence[Damage], width: int) -> None:
    """Print a line for each damage, wrapped."""
    for each in damage:
        head = _INDENT if each.offset is None else f"{_INDENT}byte {each.offset}: "
        say("\n".join(wrap(each.what, width, initial_indent=head, subsequent_indent=_INDENT * 2)))


def _print_listing(listing: Listing) -> None:
    left = listing.total - len(listing.rows)
    share = (
        f"the first {len(listing.rows):,} of {listing.total:,}, --limit shows more" if left else f"{listing.total:,}"
    )
    say(f"\n{listing.of}: {share}")
    if listing.rows:
        say("")
        rows = [[str(cell) for cell in row] for row in listing.rows]
        table(listing.columns, rows, cut=listing.keys, wrapped=listing.prose)


def _name(words: str) -> str:
    """Return a field's or a column's name for programs."""
    return words.replace(" ", "_")
