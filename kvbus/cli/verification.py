"""``kvbus verify``: is all that a stopped node keeps whole? Source: docs/OPERATING.md, "Looking at the files"."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

import typer

from kvbus.cli.inspection import print_damage
from kvbus.cli.options import EngineOption, OutputOption
from kvbus.cli.output import EXIT_ERROR, EXIT_USAGE, Output, console, failures_shown, print_json, say
from kvbus.errors import ConfigError

if TYPE_CHECKING:
    from kvbus.ports.engine_tools import FileReport

_PAPERS = "node.json"
_MEND = (
    "Restore the directory from a copy. A node that starts all the same repairs damaged copies of keys from the other "
    "replicas, each when it is read or written."
)
_ROCKS = "rocks"


def verify(
    data_dir: Annotated[
        Path,
        typer.Argument(metavar="DATA_DIR", help="A stopped node's data_dir, or a copy of one.", show_default=False),
    ],
    engine: EngineOption = "lsm",
    output: OutputOption = Output.TABLE,
) -> None:
    """Read and check everything that a stopped node keeps; nothing is changed, and it cannot start meanwhile.

    Ends with 1 if a file is damaged or missing.
    """
    reports: list[FileReport] = []
    with failures_shown(output, unusable=EXIT_USAGE), _verification(data_dir, engine) as found:
        for report in found:
            reports.append(report)
            if output is Output.TABLE and report.state != "other":
                _print_report(report)
        if all(report.state == "other" for report in reports) and _PAPERS not in [each.name for each in reports]:
            raise ConfigError(f"{data_dir} holds no log, table or manifest; name a node's data_dir")
    damaged = any(report.state == "damaged" for report in reports)
    if output is Output.JSON:
        _print_object(data_dir, reports, not damaged)
    else:
        _print_sum(reports)
    if damaged:
        raise typer.Exit(EXIT_ERROR)


@contextmanager
def _verification(data_dir: Path, engine: str) -> Generator[Iterator[FileReport]]:
    from kvbus.plugins import engine_tools
    from kvbus.runtime.os_disk import OsFolderAtRest

    if (data_dir / _ROCKS).is_dir():
        raise ConfigError(f"{data_dir} holds a RocksDB database, which checks itself: with each read, and at a start")
    tools = engine_tools(engine)
    folder = OsFolderAtRest(data_dir)
    try:
        yield tools.verify(folder)
    finally:
        folder.close()


def _print_report(report: FileReport) -> None:
    width = console().width
    head = f"{report.state:<8}  {report.name:<17}  {report.size_bytes:>11,}  "
    holds = report.holds or ("see below" if report.damage else "")
    say("\n".join(wrap(holds, width, initial_indent=head, subsequent_indent=" " * len(head)) or [head.rstrip()]))
    print_damage(report.damage, width)
    for note in report.notes:
        say("\n".join(wrap(note, width, initial_indent="  ", subsequent_indent="    ")))


def _print_sum(reports: list[FileReport]) -> None:
    counts = {state: sum(report.state == state for report in reports) for state in ("ok", "damaged", "leftover")}
    size_bytes = sum(report.size_bytes for report in reports if report.state != "other")
    others = [report.name for report in reports if report.state == "other"]
    say(f"\n{', '.join(f'{count} {state}' for state, count in counts.items())}; {size_bytes:,} bytes")
    for line in wrap(f"not the engine's: {', '.join(others)}", console().width) if others else ():
        say(line)
    if counts["damaged"]:
        say("\n" + "\n".join(wrap(_MEND, console().width)))


def _print_object(data_dir: Path, reports: list[FileReport], passes: bool) -> None:
    print_json(
        {
            "data_dir": str(data_dir),
            "passes": passes,
            "files": [
                {
                    "name": report.name,
                    "kind": report.kind,
                    "state": report.state,
                    "size_bytes": report.size_bytes,
                    "holds": report.holds,
                    "damage": [{"offset": each.offset, "what": each.what} for each in report.damage],
                    "notes": list(report.notes),
                }
                for report in reports
            ],
        }
    )
