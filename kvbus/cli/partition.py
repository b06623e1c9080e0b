"""``kvbus partition`` and ``kvbus heal``: cut the links between running nodes, and mend all that was broken."""

from __future__ import annotations

from typing import Annotated

import typer

from kvbus.cli.fault_orders import accept, failures, members, tell
from kvbus.cli.options import ConnectOption, FolderOption, OutputOption
from kvbus.cli.output import EXIT_ERROR, Output, complain, failures_shown, print_json, say
from kvbus.core.sides import parted_ways

SidesArgument = Annotated[
    str,
    typer.Argument(
        metavar="SIDES",
        help='Sides, as in "n1 | n2,n3"; one way, as in "n1 -> n2"; or one node against all others.',
        show_default=False,
    ),
]


def partition(
    sides: SidesArgument,
    folder: FolderOption = None,
    connect: ConnectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Cut the links between nodes until kvbus heal; several cuts add up.

    Both ends of each link keep the cut, so it holds as long as one of them lives.
    """
    with failures_shown(output):
        nodes = members(folder, connect)
        ways = parted_ways(sides, [*nodes])
        ends = {name: nodes[name] for name in nodes if any(name in way for way in ways)}
        answers = tell(ends, "partition", {"sides": sides})
        took, failed = accept(answers), failures(answers)
    if output is Output.JSON:
        print_json({"sides": sides, "ways": ways, "kept_by": took, "failed": failed})
    else:
        say(f"partition: {sides} (kept by {', '.join(took)})")
        say("  links go down within 2 s; kvbus heal ends it")
        if failed:
            why = "; ".join(each["message"] for each in failed)
            complain(f"kvbus: not all nodes keep this cut: {why}; repeat the command when they answer")
    if failed:
        raise typer.Exit(EXIT_ERROR)


def heal(folder: FolderOption = None, connect: ConnectOption = None, output: OutputOption = Output.TABLE) -> None:
    """End every partition and fault on all nodes; links come back within a few seconds."""
    with failures_shown(output):
        answers = tell(members(folder, connect), "heal", {})
        healed = accept(answers)
    gone = [answer.node for answer in answers if answer.is_gone]
    # A node that was started without [faults] enabled has nothing to heal, nor has one that is not running.
    failed = [each for each in failures(answers) if each["code"] != "unsupported" and each["node"] not in gone]
    if output is Output.JSON:
        print_json({"healed": healed, "not_running": gone, "failed": failed})
    else:
        say(f"healed: {', '.join(healed)}" + (f"; not running: {', '.join(gone)}" if gone else ""))
        if failed:
            why = "; ".join(each["message"] for each in failed)
            complain(f"kvbus: not all nodes are healed: {why}; repeat the command when they answer")
    if failed:
        raise typer.Exit(EXIT_ERROR)
