"""What commands print: tables for people, one JSON object for programs, one clear line for each failure."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from shlex import quote
from time import monotonic
from typing import TYPE_CHECKING

import typer

from kvbus.errors import ClientError, ConfigError, KvbusError

if TYPE_CHECKING:
    from rich.console import Console

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_REFUSED = 4
EXIT_UNKNOWN = 5
_PIPED_WIDTH = 120
_GAP = 3
_LEAST_WIDTH = 8
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


def shell_word(word: str) -> str:
    """Quote an argument for a shell; what cannot be seen is written out, as in $'\\x1b', and so survives a terminal."""
    if word.isprintable():
        return quote(word)
    data = word.encode(errors="surrogateescape")
    escaped = (chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}" for byte in data)
    return f"$'{''.join(escaped)}'"


def exit_code(error: KvbusError) -> int:
    """Return the process's exit code for a failure. Source: docs/OPERATING.md, "Exit codes"."""
    if not isinstance(error, ClientError):
        return EXIT_ERROR
    if _code(error) == "no_quorum":
        return EXIT_REFUSED
    return EXIT_ERROR if error.definite else EXIT_UNKNOWN


@contextmanager
def failures_shown(output: Output, unusable: int = EXIT_ERROR) -> Generator[None]:
    """Turn a failure inside into one line (table) or one JSON object, and the exit code that belongs to it.

    ``unusable`` is the exit code where what was asked for cannot be done.
    """
    try:
        yield
    except KvbusError as error:
        _tell(error, output)
        raise typer.Exit(unusable if isinstance(error, ConfigError) else exit_code(error)) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        # A folder that may not be written, a full disk: the path and the system's own words say it best.
        _tell(ConfigError(f"{error.filename or 'this machine'}: {error.strerror or error}; mend that first"), output)
        raise typer.Exit(EXIT_ERROR) from error


def _tell(error: KvbusError, output: Output) -> None:
    if output is Output.JSON:
        print_json({"error": _error_map(error)})
    else:
        complain(_line(error))


def _error_map(error: KvbusError) -> dict[str, object]:
    if isinstance(error, ClientError):
        known = {"code": _code(error), "message": error.message, "definite": error.definite}
        return known | {name: value for name, value in error.details.items() if name not in known}
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


def table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, cut: Sequence[str] = (), wrapped: Sequence[str] = ()
) -> None:
    """Print rows under headings; what does not fit is cut with … in the columns ``cut``, or goes on below."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    screen = console()
    folds = [heading in wrapped for heading in headings]
    cells = [
        [Text(cell, no_wrap=not folds[n], overflow="fold" if folds[n] else "ellipsis") for n, cell in enumerate(row)]
        for row in rows
    ]
    natural = [max([len(heading), *(row[n].cell_len for row in cells)]) for n, heading in enumerate(headings)]
    is_elastic = [heading in cut or heading in wrapped for heading in headings]
    widths = _fitted(natural, is_elastic, screen.width - _GAP * (len(headings) - 1))
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        given = [row[number] for row in rows if row[number]]
        is_number = not is_elastic[number] and bool(given) and all(cell.replace(".", "").isdecimal() for cell in given)
        drawn.add_column(
            heading, justify="right" if is_number else "left", width=widths[number], no_wrap=not folds[number]
        )
    for row in cells:
        for cell, width, does_fold in zip(row, widths, folds, strict=True):
            if not does_fold:
                cell.truncate(width, overflow="ellipsis")
        drawn.add_row(*row)
    screen.print(drawn)


def _fitted(natural: Sequence[int], is_elastic: Sequence[bool], room: int) -> list[int]:
    """Return column widths that fill ``room``; elastic columns share what the others leave, small ones first."""
    widths = list(natural)
    left = room - sum(width for width, elastic in zip(natural, is_elastic, strict=True) if not elastic)
    order = sorted((number for number, is_one in enumerate(is_elastic) if is_one), key=lambda number: natural[number])
    for place, number in enumerate(order):
        widths[number] = max(_LEAST_WIDTH, min(natural[number], left // (len(order) - place)))
        left -= widths[number]
    return widths


@contextmanager
def waiting(doing: str) -> Generator[Callable[[int, int], None]]:
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
