"""What runs inside the namespaces: the nodes, and the proof or the user's command beside them."""

from __future__ import annotations

import subprocess
from typing import Annotated

import typer

from kvbus.cli.lab.enclosure import check_enclosed, leave_interrupts
from kvbus.cli.lab.stage import Stage
from kvbus.cli.output import Output, failures_shown, say, waiting

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def inside(
    lifeline: int, nodes: int, output: Output, command: Annotated[list[str] | None, typer.Argument()] = None
) -> None:
    """Start ``nodes`` nodes; run the proof, or ``command`` where there is one, whose exit code this one is."""
    check_enclosed(lifeline)
    leave_interrupts()
    with failures_shown(output):
        stage = Stage(nodes)
        with waiting("starting") as progress:
            stage.start(progress)
        if command:
            raise typer.Exit(_run(command, stage))
        _prove(stage, output)


def _prove(stage: Stage, output: Output) -> None:
    from kvbus.cli.lab.proof import prove
    from kvbus.cli.lab.report import LabFailed, Report

    names = stage.network.names
    tell = say if output is Output.TABLE else _keep_quiet
    tell(f"{len(names)} nodes, each in a network namespace of its own; N=3 R=2 W=2\n")
    report = Report()
    try:
        prove(stage, report, tell)
    except LabFailed:
        if output is Output.TABLE:
            report.show(names, output)
        raise
    report.show(names, output)


def _run(command: list[str], stage: Stage) -> int:
    code = subprocess.run(command, env=stage.environment(), check=False).returncode
    return code if code >= 0 else 128 - code


def _keep_quiet(text: str) -> None:
    """Take a line that no person reads."""


if __name__ == "__main__":
    app()
