"""``kvbus flush`` and ``kvbus compact``: have running nodes tidy their storage now instead of when it is due."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Annotated, Literal, cast

import typer

from kvbus.cli.fault_orders import Answer, accept, failures, members, tell
from kvbus.cli.options import ConnectOption, FolderOption, OutputOption
from kvbus.cli.output import EXIT_ERROR, Output, complain, failures_shown, print_json, table
from kvbus.errors import ClientError, ConfigError

Stats = Mapping[str, int]

_POLL_SECONDS = 0.1
_AT_ONCE = 16

NodeArgument = Annotated[
    str | None, typer.Argument(metavar="NODE", help="One node's name; all of them if not given.", show_default=False)
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait until it is done.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.0, help="Wait at most so many seconds.")]


@dataclass(slots=True)
class Progress:
    """How far one node has come; ``after`` is what it said last, None where nobody has asked."""

    node: str
    before: Stats
    after: Stats | None = None
    state: Literal["begun", "done", "goes on", "lost"] = "begun"
    seconds: float = 0.0
    error: ClientError | None = None

    @property
    def damaged_tables(self) -> int:
        """Tables that were found damaged by the time the order was done."""
        return 0 if self.after is None else _of(self.after, "damaged_tables")

    @property
    def failures(self) -> int:
        """How often flushes and compactions have failed since the order."""
        now = self.before if self.after is None else self.after
        return _of(now, "maintenance_failures") - _of(self.before, "maintenance_failures")


def flush(
    name: NodeArgument = None,
    wait: WaitOption = False,
    timeout: TimeoutOption = 600.0,
    folder: FolderOption = None,
    connect: ConnectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Move what nodes hold in memory to tables on the disk, so that a start has no log to replay."""
    _order("flush", is_flushed, name, timeout if wait else None, folder, connect, output)


def compact(
    name: NodeArgument = None,
    wait: WaitOption = False,
    timeout: TimeoutOption = 600.0,
    folder: FolderOption = None,
    connect: ConnectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Merge all tables of nodes into one level, a piece at a time; what is in memory stays there (kvbus flush)."""
    _order("compact", is_compacted, name, timeout if wait else None, folder, connect, output)


def is_flushed(before: Stats, now: Stats) -> bool:
    """Say whether all that was in memory ``before`` is in tables; what came later may wait in memory again."""
    flushes = _of(now, "flushes") - _of(before, "flushes")
    return _of(now, "frozen_memtables") == 0 or flushes > _of(before, "frozen_memtables")


def is_compacted(before: Stats, now: Stats) -> bool:
    """Say whether nothing of the ordered compaction is left to do."""
    del before
    return _of(now, "compacting_all") == 0


def _of(stats: Stats, name: str) -> int:
    """Return one of the engine's stats; 0 for an engine that has no such thing."""
    return stats.get(f"engine_{name}", 0)


def _order(
    operation: str,
    is_done: Callable[[Stats, Stats], bool],
    name: str | None,
    timeout: float | None,
    folder: Path | None,
    connect: str | None,
    output: Output,
) -> None:
    with failures_shown(output):
        nodes = _named(members(folder, connect), name)
        answers = tell(nodes, operation, {})
        accept(answers)
    begun = [Progress(each.node, cast("Stats", each.reply["stats"])) for each in answers if each.error is None]
    if timeout is not None:
        _wait(begun, nodes, is_done, timeout)
    failed = failures([*answers, *(Answer(each.node, error=each.error) for each in begun)])
    if output is Output.JSON:
        print_json({"order": operation, "nodes": [_as_map(each) for each in begun], "failed": failed})
    else:
        _draw(begun)
        if failed:
            complain(f"\nkvbus: {'; '.join(each['message'] for each in failed)}")
    if failed or any(each.state == "goes on" or each.damaged_tables for each in begun):
        raise typer.Exit(EXIT_ERROR)


def _named(nodes: Mapping[str, str], name: str | None) -> Mapping[str, str]:
    if name is None:
        return nodes
    if name not in nodes:
        raise ConfigError(f"there is no node {name!r}; there are: {', '.join(nodes)}")
    return {name: nodes[name]}


def _wait(
    begun: Sequence[Progress], nodes: Mapping[str, str], is_done: Callable[[Stats, Stats], bool], timeout: float
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(_AT_ONCE, max(len(begun), 1))) as pool:
        list(pool.map(partial(_follow, nodes, is_done, monotonic(), timeout), begun))


def _follow(
    nodes: Mapping[str, str],
    is_done: Callable[[Stats, Stats], bool],
    since: float,
    timeout: float,
    progress: Progress,
) -> None:
    """Ask one node until it is done, the time is over or it does not answer."""
    from kvbus.client import Client

    try:
        with Client(nodes[progress.node], routing="direct") as client:
            while True:
                progress.after = cast("Stats", client.stats())
                progress.seconds = monotonic() - since
                if is_done(progress.before, progress.after):
                    progress.state = "done"
                    return
                if progress.seconds >= timeout:
                    progress.state = "goes on"
                    return
                sleep(_POLL_SECONDS)
    except ClientError as error:
        progress.state = "lost"
        progress.error = type(error)(f"{progress.node} does not answer any more: {error.message}")


def _draw(begun: Sequence[Progress]) -> None:
    names = ["memtable_bytes", "tables", "table_bytes", "level0_depth"]
    table(
        ["node", "in memory", "tables", "table bytes", "level 0", "state"],
        [[each.node, *(_change(each, name) for name in names), _state_text(each)] for each in begun],
        wrapped=["state"],
    )


def _change(progress: Progress, name: str) -> str:
    if f"engine_{name}" not in progress.before:
        return "–"
    old, new = _of(progress.before, name), _of(progress.after or progress.before, name)
    return f"{old:,}" if old == new else f"{old:,} → {new:,}"


def _state_text(progress: Progress) -> str:
    after = f" after {progress.seconds:.1f} s" if progress.after is not None else ""
    trouble = f"; jobs that failed: {progress.failures}, see its log" if progress.failures else ""
    if progress.damaged_tables:
        trouble += f"; damaged tables left as they are: {progress.damaged_tables}, see kvbus verify"
    return f"{progress.state}{after}{trouble}"


def _as_map(progress: Progress) -> dict[str, object]:
    return {
        "node": progress.node,
        "state": progress.state,
        "seconds": round(progress.seconds, 3),
        "failures": progress.failures,
        "before": _engine_only(progress.before),
        "after": None if progress.after is None else _engine_only(progress.after),
    }


def _engine_only(stats: Stats) -> dict[str, int]:
    return {name: value for name, value in stats.items() if name.startswith("engine_")}
