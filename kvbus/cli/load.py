"""``kvbus load``: a file of JSON lines into a keyspace."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import IO, Annotated, cast

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
    TtlOption,
    WritePrimariesOption,
    WriteQuorumOption,
)
from kvbus.cli.output import EXIT_ERROR, Output, complain, exit_code, failures_shown, print_json, readable, say
from kvbus.errors import ClientError, ConfigError

_CHUNK_LINES = 4096
_TOLD = 10


@dataclass(slots=True)
class Tally:
    """What became of the lines so far; ``problems`` holds what to tell, in the order of the file."""

    loaded: int = 0
    degraded: int = 0
    bad_lines: list[int] = field(default_factory=list[int])
    failed: list[ClientError] = field(default_factory=list[ClientError])
    problems: list[str] = field(default_factory=list[str])


class BadLine(ValueError):
    """A line is not what ``load`` reads."""


def load(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Lines of JSON, or - for standard input.")],
    folder: FolderOption = None,
    connect: ConnectOption = None,
    ks: KeyspaceOption = DEFAULT_KEYSPACE,
    w: WriteQuorumOption = None,
    pw: WritePrimariesOption = None,
    cl: LevelOption = None,
    ttl_ms: TtlOption = None,
    deadline_ms: DeadlineOption = DEFAULT_DEADLINE_MS,
    output: OutputOption = Output.TABLE,
) -> None:
    """Store the pairs of a file, one {"key": "…", "value": …} a line; values that are no text are kept as JSON.

    A line that cannot be read is named and left out; all others are stored.

    A key that has a value keeps it: the new one is a sibling beside it, also where it is the same.
    """
    tally = Tally()
    with failures_shown(output), _opened(file) as lines, connected(folder, connect, ks, "topology") as link:
        begun = monotonic()
        size = Path(file).stat().st_size if file != "-" else None
        with _progress(size) as advance:
            for first, chunk in _chunks(lines):
                items, numbers = _parsed(first, chunk, tally)
                replies = link.client.put_many(items, w=w, pw=pw, cl=cl, ttl_ms=ttl_ms, deadline_ms=deadline_ms)
                for number, item, reply in zip(numbers, items, replies, strict=True):
                    if isinstance(reply, ClientError):
                        tally.failed.append(reply)
                        tally.problems.append(f"line {number}: {readable(item[0])}: {reply} ({reply.code})")
                    else:
                        tally.loaded += 1
                        tally.degraded += reply.degraded
                advance(sum(map(len, chunk)))
        seconds = monotonic() - begun
    _tell(tally, seconds, ks, output)
    if tally.failed or tally.bad_lines:
        raise typer.Exit(EXIT_ERROR if tally.bad_lines else exit_code(tally.failed[0]))


def parsed_line(line: bytes) -> tuple[bytes, bytes]:
    """Return a line's key and value as bytes; a value that is no text becomes compact JSON.

    Raises:
        BadLine: the line is something else.
    """
    try:
        entry = cast("object", json.loads(line))
    except ValueError as error:
        raise BadLine(f"not JSON ({error})") from error
    if not isinstance(entry, dict) or "key" not in entry or "value" not in entry:
        raise BadLine('write {"key": "…", "value": …}')
    fields = cast("dict[str, object]", entry)
    key, value = fields["key"], fields["value"]
    if not isinstance(key, str) or not key:
        raise BadLine("key must be text of at least one character")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return key.encode(), text.encode()
    except UnicodeEncodeError as error:
        raise BadLine("half of a surrogate pair cannot be stored as UTF-8") from error


def _parsed(first: int, chunk: Sequence[bytes], tally: Tally) -> tuple[list[tuple[bytes, bytes]], list[int]]:
    """Return the pairs of a chunk that starts at line ``first``, and their line numbers; empty lines are left out."""
    items: list[tuple[bytes, bytes]] = []
    numbers: list[int] = []
    for number, line in enumerate(chunk, first):
        if not line.strip():
            continue
        try:
            items.append(parsed_line(line))
            numbers.append(number)
        except BadLine as error:
            tally.bad_lines.append(number)
            tally.problems.append(f"line {number}: {error}")
    return items, numbers


def _chunks(lines: Iterable[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    rest = iter(lines)
    number = 1
    while chunk := list(islice(rest, _CHUNK_LINES)):
        yield number, chunk
        number += len(chunk)


@contextmanager
def _opened(file: str) -> Generator[IO[bytes]]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(file).open("rb") as source:
            yield source
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}; name a file of JSON lines") from error


@contextmanager
def _progress(size: int | None) -> Generator[Callable[[int], None]]:
    """Draw a bar over the file's bytes where somebody watches standard error; yields ``advance(bytes)``."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("loading"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("loading", total=size)
        yield lambda count: bar.advance(task, count)


def _tell(tally: Tally, seconds: float, keyspace: str, output: Output) -> None:
    rate = round(tally.loaded / seconds) if seconds else 0
    if output is Output.JSON:
        print_json(
            {
                "loaded": tally.loaded,
                "failed": len(tally.failed),
                "degraded": tally.degraded,
                "bad_lines": tally.bad_lines,
                "problems": tally.problems,
                "seconds": round(seconds, 3),
                "ops_per_second": rate,
            }
        )
        return
    say(f"{tally.loaded:,} keys loaded into {keyspace} in {seconds:.1f} s: {rate:,} a second")
    if tally.degraded:
        complain(f"degraded: {tally.degraded:,} of them reached fewer replicas than the keyspace aims at")
    for problem in tally.problems[:_TOLD]:
        complain(f"kvbus: {problem}")
    if len(tally.problems) > _TOLD:
        complain(f"kvbus: and {len(tally.problems) - _TOLD:,} more; -o json lists all")
