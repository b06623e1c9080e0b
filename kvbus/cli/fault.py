"""``kvbus fault``: lose, delay, double or hold back what one node sends to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, cast

import typer

from kvbus.cli.fault_orders import accept, failures, fault_text, members, tell
from kvbus.cli.options import ConnectOption, FolderOption, OutputOption
from kvbus.cli.output import EXIT_ERROR, Output, complain, failures_shown, print_json, say, table
from kvbus.core.faults import MAX_MS, Rule
from kvbus.core.sides import parted_ways
from kvbus.errors import ConfigError

app = typer.Typer(
    help="Break what passes between running nodes: lose, delay, double or hold it, until kvbus heal.",
    no_args_is_help=True,
)

WaysArgument = Annotated[
    str,
    typer.Argument(
        metavar="WAYS",
        help='One way, as in "n1 -> n2,n3" (* means all nodes); both ways, as in "n1 | n2".',
        show_default=False,
    ),
]
ChanceOption = Annotated[
    float, typer.Option("--chance", metavar="P", help="Above 0, at most 1: the share of frames that it happens to.")
]


@app.command()
def drop(
    ways: WaysArgument,
    chance: ChanceOption = 1.0,
    folder: FolderOption = None,
    connect: ConnectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Lose frames by chance; with chance 1 that is a cut, and the link goes down."""
    _order(_rule("drop", ways, chance=chance), folder, connect, output)


@app.command()
def delay(
    ways: WaysArgument,
    ms: Annotated[
        int, typer.Option("--ms", min=0, max=MAX_MS, help="How much later frames arrive.", show_default=False)
    ],
    jitter_ms: Annotated[
        int, typer.Option("--jitter-ms", min=0, max=MAX_MS, help="At most so much more, by chance.")
    ] = 0,
    folder: FolderOption = None,
    connect: ConnectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let frames arrive later, in order."""
    _order(_rule("delay", ways, ms=ms, jitter_ms=jitter_ms), folder, connect, output)


@app.command()
def duplicate(
    ways: WaysArgument,
    chance: ChanceOption = 1.0,
    folder: FolderOption = None,
    connect: ConnectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let frames arrive twice by chance."""
    _order(_rule("duplicate", ways, chance=chance), folder, connect, output)


@app.command()
def clog(
    ways: WaysArgument,
    folder: FolderOption = None,
    connect: ConnectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Hold all frames until kvbus heal, with the link up; beyond 16 MiB they are lost."""
    _order(_rule("clog", ways), folder, connect, output)


@app.command("list")
def list_faults(
    folder: FolderOption = None, connect: ConnectOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Show what is broken on purpose, and what that has cost so far."""
    with failures_shown(output):
        answers = tell(members(folder, connect), "faults", {})
        accept(answers)
    failed = failures([answer for answer in answers if not answer.is_gone])
    rules = [{"node": answer.node, **rule} for answer in answers for rule in answer.rules]
    if output is Output.JSON:
        print_json({"faults": rules, "failed": failed})
    else:
        _draw(rules)
        if failed:
            complain(f"kvbus: the list is not complete: {'; '.join(each['message'] for each in failed)}")
    if failed:
        raise typer.Exit(EXIT_ERROR)


def _draw(rules: Sequence[Mapping[str, object]]) -> None:
    if not rules:
        say("nothing is broken on purpose")
        return
    grouped: dict[tuple[str, str, str], list[Mapping[str, object]]] = {}
    for rule in rules:
        key = (f"{rule['from']} -> {rule['to']}", fault_text(rule), str(rule["sides"]))
        grouped.setdefault(key, []).append(rule)
    table(
        ["way", "fault", "ordered as", "kept by", "frames lost", "held bytes"],
        [
            [*key, ", ".join(str(rule["node"]) for rule in kept), _sum(kept, "lost"), _sum(kept, "held_bytes")]
            for key, kept in sorted(grouped.items())
        ],
        wrapped=["fault", "ordered as", "kept by"],
    )


def _sum(rules: Sequence[Mapping[str, object]], name: str) -> str:
    return str(sum(cast("int", rule[name]) for rule in rules))


def _rule(kind: str, ways: str, *, chance: float = 1.0, ms: int = 0, jitter_ms: int = 0) -> Rule:
    try:
        return Rule(kind=kind, sides=ways, chance=chance, ms=ms, jitter_ms=jitter_ms)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error


def _order(rule: Rule, folder: Path | None, connect: str | None, output: Output) -> None:
    """Let each direction's sender apply the rule; where it does not answer, the receiver."""
    fields = {"kind": rule.kind, "chance": rule.chance, "ms": rule.ms, "jitter_ms": rule.jitter_ms}
    with failures_shown(output):
        nodes = members(folder, connect)
        ways = parted_ways(rule.sides, [*nodes])
        answers = tell(_named(nodes, [sender for sender, _ in ways]), "fault", {**fields, "sides": rule.sides})
        silent = [answer.node for answer in answers if answer.is_silent]
        rest = [way for way in ways if way[0] in silent]
        receivers = _named(nodes, [receiver for _, receiver in rest])
        late = tell(receivers, "fault", {**fields, "ways": rest, "at": "receiver"})
        accept([*answers, *late])
    took, instead = ([answer.node for answer in each if answer.error is None] for each in (answers, late))
    bare = [(sender, receiver) for sender, receiver in ways if sender not in took and receiver not in instead]
    failed = failures([*answers, *late])
    kept_by = list(dict.fromkeys(took + instead))
    if output is Output.JSON:
        print_json({**fields, "sides": rule.sides, "kept_by": kept_by, "bare": bare, "failed": failed})
    else:
        say(f"{fault_text(fields)}: {rule.sides} (kept by {', '.join(kept_by)})")
        why = "; ".join(each["message"] for each in failed)
        if instead:
            say(f"  {why}: {', '.join(instead)} applied it to what arrives from there")
        if bare:
            left = ", ".join(f"{sender} -> {receiver}" for sender, receiver in bare)
            complain(f"kvbus: without the fault: {left}: {why}; repeat the command when they answer")
    if bare:
        raise typer.Exit(EXIT_ERROR)


def _named(nodes: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    return {name: address for name, address in nodes.items() if name in names}
