"""``kvbus demo``: the story in under a minute."""

from __future__ import annotations

from time import perf_counter

from kvbus.cli.output import Output, failures_shown


def demo() -> None:
    """Show a cluster of three: load, concurrent updates, a node's death and return, a cut and what both sides do."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from kvbus.cli.demo import cut, story
    from kvbus.local.temporary import TemporaryCluster

    console = Console()
    begun = perf_counter()
    with failures_shown(Output.TABLE):
        console.print("[bold]kvbus[/]: three nodes on this machine, N=3 R=2 W=2, every write synced to disk")
        with TemporaryCluster() as stage:
            measured = [story.Measured("three nodes ready after", f"{perf_counter() - begun:.1f} s")]
            for act in (story.load_and_verify, story.siblings, story.death, story.return_of_the_node, cut.act):
                measured += act(stage, console)
        measured.append(story.Measured("the whole demo", f"{perf_counter() - begun:.1f} s"))
        table = Table("measured", "figure", title="What was measured", title_justify="left")
        for row in measured:
            table.add_row(row.what, escape(row.figure))
        console.print(table)
