"""The demo's last act: the network is cut, both sides go on, and after the heal nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic, perf_counter, sleep
from typing import cast

from rich.console import Console
from rich.table import Table

from kvbus.cli.demo.story import DemoFailed, Measured, check
from kvbus.client import Client, GetReply, PutReply
from kvbus.core.sides import parted_ways
from kvbus.errors import ClientError
from kvbus.local.launch import readiness
from kvbus.local.temporary import TemporaryCluster

_SIDES = "n1 | n2,n3"
_KEY = b"cart-in-a-cut"
_PATIENCE_SECONDS = 15.0
_LOOK_SECONDS = 0.02


def act(stage: TemporaryCluster, console: Console) -> list[Measured]:
    """Act five: cut n1 off, write on both sides, heal, find both writes, reconcile them."""
    console.print(f"[bold]5  Cut the network[/]  {_SIDES}\n")
    begun = perf_counter()
    stage.cut(parted_ways(_SIDES, list(stage.nodes)))
    with stage.client("n1") as lone, stage.client("n2") as majority:
        first = _timed(lambda: lone.put(_KEY, b"beer"))
        _wait_for_links(stage, "down")
        noticed = perf_counter() - begun
        table = Table("side", "asks", "is told", "in", box=None, padding=(0, 2))
        found = _both_sides(table, lone, majority)
        console.print(table)
        console.print("\n   Every side that holds a copy answers; a demand that it cannot meet is refused")
        begun = perf_counter()
        stage.heal()
        _wait_for_links(stage, "up")
        healed = perf_counter() - begun
        siblings = lone.get(_KEY, r=3)
        check(sorted(siblings.values) == [b"beer", b"crisps", b"wine"], "after the heal every write is there")
        merged = lone.put(_KEY, b", ".join(sorted(siblings.values)), ctx=siblings.ctx, cl="all")
        check(not merged.degraded, "the merged value is on all three")
        check(majority.get(_KEY).values == [b"beer, crisps, wine"], "one value again, on the other side too")
    console.print(f"   Healed: links are back after {healed:.1f} s")
    console.print("   a get of all three finds the siblings [cyan]beer[/], [cyan]crisps[/], [cyan]wine[/];")
    console.print("   one put with their context, and it is [cyan]beer, crisps, wine[/] on every node\n")
    _show_summary(console, found)
    return [
        Measured("first put on the cut-off side, link still up", f"{first:.2f} s"),
        Measured("cut noticed by both sides after", f"{noticed:.1f} s"),
        Measured("links back after the heal", f"{healed:.1f} s"),
    ]


def _both_sides(table: Table, lone: Client, majority: Client) -> dict[str, str]:
    """Ask on both sides; return what the closing table says of each."""
    asked: list[tuple[str, str, Callable[[], PutReply | GetReply]]] = [
        ("n1, alone", "put", lambda: lone.put(_KEY, b"wine")),
        ("n1, alone", "get", lambda: lone.get(_KEY)),
        ("n1, alone", "put, demanding w=2", lambda: lone.put(_KEY, b"?", w=2)),
        ("n2 and n3", "put", lambda: majority.put(_KEY, b"crisps")),
        ("n2 and n3", "get", lambda: majority.get(_KEY)),
        ("n2 and n3", "put, demanding w=3", lambda: majority.put(_KEY, b"?", w=3)),
    ]
    told: list[str] = []
    for side, what, ask in asked:
        begun = perf_counter()
        told.append(_told(ask))
        colour = "yellow" if "degraded" in told[-1] or "refused" in told[-1] else "green"
        table.add_row(side, what, f"[{colour}]{told[-1]}[/]", f"{(perf_counter() - begun) * 1000:.1f} ms")
    alone = told[0].startswith("ok, degraded") and told[1].startswith("2 siblings, degraded")
    check(alone, "the lone side answers, degraded")
    check(told[3] == "ok" and told[4] == "crisps", "the majority answers as ever")
    check(all(each.startswith("refused") for each in (told[2], told[5])), "a demand that a side cannot meet is refused")
    return {"minority": "answers, degraded", "majority": "answers"}


def _told(ask: Callable[[], PutReply | GetReply]) -> str:
    try:
        reply = ask()
    except ClientError as error:
        check(error.code == "no_quorum" and error.definite, f"a demand is refused, definitely, not {error}")
        return f"refused: {error.details['alive']} of {error.details['required']} alive"
    degraded = f", degraded: {reply.acks} copy" if reply.degraded else ""
    if isinstance(reply, PutReply):
        return f"ok{degraded}"
    values = f"{len(reply.values)} siblings" if len(reply.values) > 1 else reply.values[0].decode()
    return values + degraded


def _show_summary(console: Console, found: dict[str, str]) -> None:
    table = Table("mode", "a server down", "cut-off minority", "majority", title="Who answered", title_justify="left")
    table.add_row("AP", "answers", found["minority"], found["majority"])
    console.print(table)
    console.print()


def _wait_for_links(stage: TemporaryCluster, state: str) -> None:
    """Wait until n1 and the others see their links ``up``, or ``down``."""
    end = monotonic() + _PATIENCE_SECONDS
    while not all(_sees(stage, *pair) == state for pair in (("n1", "n2"), ("n1", "n3"), ("n2", "n1"), ("n3", "n1"))):
        if monotonic() > end:
            raise DemoFailed(f"not so: the links between {_SIDES} are {state} within {_PATIENCE_SECONDS:.0f} s")
        sleep(_LOOK_SECONDS)


def _sees(stage: TemporaryCluster, node: str, other: str) -> object:
    members = readiness(stage.nodes[node].http).get("members")
    return cast("Mapping[str, object]", members).get(other) if isinstance(members, dict) else None


def _timed(ask: Callable[[], object]) -> float:
    begun = perf_counter()
    ask()
    return perf_counter() - begun
