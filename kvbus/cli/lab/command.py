"""``kvbus lab``: the proof, one's own command in the lab, and the cuts that this command makes there."""

from __future__ import annotations

from typing import Annotated, NamedTuple, cast

import typer

from kvbus.cli.options import OutputOption
from kvbus.cli.output import Output, failures_shown, print_json, say

# Three replicas must part into a side that meets W = 2 and one that does not; each node is a process of its own.
LEAST_NODES, MOST_NODES = 3, 9

app = typer.Typer(
    invoke_without_command=True,
    # What is no option of the lab's, --run alone, is a command's name.
    context_settings={"ignore_unknown_options": True},
)


class _Wanted(NamedTuple):
    """What stands before a command's name."""

    nodes: int
    output: Output


@app.callback()
def lab(
    context: typer.Context,
    nodes: Annotated[int, typer.Option(min=LEAST_NODES, max=MOST_NODES, help="How many nodes.")] = LEAST_NODES,
    output: OutputOption = Output.TABLE,
) -> None:
    """Cut the network between real nodes, on Linux as root: each has a network namespace of its own.

    Without a command: who answers on which side of a cut, who answers degraded,
    who refuses, how long notice and recovery take. Each claim is checked.
    Nothing is left behind, even after SIGKILL.
    """
    context.obj = _Wanted(nodes, output)
    if context.invoked_subcommand is None:
        _enter(context.obj, [])


# Named like an option, because it stands where options stand and everything behind it is the user's.
@app.command("--run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def run(
    context: typer.Context,
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="A program and its arguments, behind --.")],
) -> None:
    """Run a command of yours beside the nodes; it finds them by KVBUS_CONNECT, and cut and heal work in it."""
    _enter(cast("_Wanted", context.obj), command)


@app.command()
def cut(
    sides: Annotated[str, typer.Argument(metavar="SIDES", help='Such as "n1 | n2,n3", or one way: "n1 -> n2".')],
    output: OutputOption = Output.TABLE,
) -> None:
    """Cut nodes off from nodes, inside a lab; cuts add up until heal."""
    from kvbus.cli.lab.network import surrounding_network
    from kvbus.core.sides import parted_ways

    with failures_shown(output):
        network = surrounding_network()
        ways = parted_ways(sides, network.names)
        network.cut(ways)
        if output is Output.JSON:
            print_json({"cut": ways})
        else:
            say(f"cut: {', '.join(f'{sender} → {receiver}' for sender, receiver in ways)}")


@app.command()
def heal(output: OutputOption = Output.TABLE) -> None:
    """Take back all cuts, inside a lab; the nodes need a few seconds to find each other again."""
    from kvbus.cli.lab.network import surrounding_network

    with failures_shown(output):
        surrounding_network().heal()
        if output is Output.JSON:
            print_json({"cut": []})
        else:
            say("healed")


def _enter(wanted: _Wanted, command: list[str]) -> None:
    from kvbus.cli.lab.enclosure import run_enclosed

    with failures_shown(wanted.output):
        code = run_enclosed(wanted.nodes, wanted.output, command)
    raise typer.Exit(code)
