"""What commands print: tables for people, one JSON object for programs, one clear line for each failure."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from time import monotonic
from typing import TYPE_CHECKING

import typer

from kvbus.errors import ClientError, ConfigError, KvbusError

if TYPE_CHECKING:
    from rich.console import Console

EXIT_ERROR = 1
EXIT_NOT_FOUND = 3
EXIT_REFUSED = 4
EXIT_UNKNOWN = 5
_PIPED_WIDTH = 120
_PROGRESS_AFTER_SECONDS = 1.0


class Output(StrEnum):
    """The forms of ``-o``."""

    TABLE = "table"
    JSON = "json"


def say(text: str) -> None:
    """Print a line for people."""
    typer.echo(text)


def complain(text: str) -> None:
    """Print a line for people on standard error."""
    typer.echo(text, err=True)


def print_json(value: object) -> None:
    """Print one JSON object on one line."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def shown(data: bytes) -> str | dict[str, str]:
    """Return bytes for JSON: text where they are UTF-8, else ``{"b64": …}``."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        from base64 import b64encode

        return {"b64": b64encode(data).decode()}


def readable(data: bytes) -> str:
    """Return bytes for a table: text where they are UTF-8 and can be printed, else their beginning in hex."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"0x{data.hex()}"
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def exit_code(error: KvbusError) -> int:
    """Return the process's exit code for a failure. Source: PROTOCOL.md, "Command line and local clusters"."""
    if not isinstance(error, ClientError):
        return EXIT_ERROR
    if _code(error) == "no_quorum":
        return EXIT_REFUSED
    return EXIT_ERROR if error.definite else EXIT_UNKNOWN


@contextmanager
def failures_shown(output: Output) -> Iterator[None]:
    """Turn a failure inside into one line (table) or one JSON object, and the exit code that belongs to it."""
    try:
        yield
    except KvbusError as error:
        if output is Output.JSON:
            print_json({"error": _error_map(error)})
        else:
            complain(_line(error))
        raise typer.Exit(exit_code(error)) from error


def _error_map(error: KvbusError) -> dict[str, object]:
    if isinstance(error, ClientError):
        return {**error.details, "code": _code(error), "message": error.message, "definite": error.definite}
    return {"code": "config" if isinstance(error, ConfigError) else "failed", "message": str(error), "definite": True}


def _line(error: KvbusError) -> str:
    message = " ".join(str(error).split())
    if not isinstance(error, ClientError):
        return f"kvbus: {message}"
    fate = "" if error.definite else "; the outcome is unknown"
    return f"kvbus: {message} ({_code(error)}{fate})"


def _code(error: ClientError) -> str:
    """Return the protocol's code, also of a newer node's error that has no class here."""
    return str(error.details.get("code", error.code))


def console() -> Console:
    """Return the console that tables are drawn on; where no terminal says its width, it is wide."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPED_WIDTH
    return Console(width=width, highlight=False)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, wide: Sequence[str] = ()) -> None:
    """Print rows under headings; what does not fit is cut with … in the columns ``wide``, before all others."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        cells = [row[number] for row in rows]
        drawn.add_column(
            heading,
            no_wrap=True,
            overflow="ellipsis",
            justify="right" if cells and all(cell.replace(".", "").isdecimal() for cell in cells) else "left",
            min_width=None if heading in wide else max(map(len, [heading, *cells])),
        )
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    console().print(drawn)


@contextmanager
def waiting(doing: str) -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal's standard error what takes longer than a second; yields ``progress(done, of)``."""
    begun = monotonic()
    is_drawn = False

    def progress(done: int, total: int) -> None:
        nonlocal is_drawn
        if sys.stderr.isatty() and monotonic() - begun > _PROGRESS_AFTER_SECONDS:
            is_drawn = True
            sys.stderr.write(f"\r\x1b[K{doing}: {done} of {total} nodes …")
            sys.stderr.flush()

    try:
        yield progress
    finally:
        if is_drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
