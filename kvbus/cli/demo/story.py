"""The demo's four acts, each of which checks what it shows and returns what it measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import cast

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from kvbus.cli.demo.characters import records
from kvbus.cli.keys import clock_text
from kvbus.client import Client, GetReply
from kvbus.errors import ClientError, KvbusError
from kvbus.local.temporary import TemporaryCluster
from kvbus.plugins import token_clock

_CHUNK = 3000
_WHILE_DEAD = 2000


class DemoFailed(KvbusError):
    """The cluster did not do what the demo promises."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of the closing table."""

    what: str
    figure: str


def check(condition: bool, claim: str) -> None:
    """See that a claim of the story holds.

    Raises:
        DemoFailed: it does not.
    """
    if not condition:
        raise DemoFailed(f"not so: {claim}")


def load_and_verify(stage: TemporaryCluster, console: Console) -> list[Measured]:
    """Act one: write the character database through n1, read all of it back through n2, byte for byte."""
    data = list(records())
    console.print(f"\n[bold]1  Load[/]  {len(data):,} named characters of Unicode, one JSON record each; e.g.")
    key, value = data[33]
    console.print(f"   {key.decode()}  {value.decode()}", style="dim", highlight=False)
    with _progress(console) as progress, stage.client("n1") as writer, stage.client("n2") as reader:
        task = progress.add_task("   write through n1", total=len(data))
        begun = perf_counter()
        for chunk in _chunks(data):
            for outcome in writer.put_many(chunk):
                if isinstance(outcome, ClientError):
                    raise outcome
            progress.advance(task, len(chunk))
        writing = perf_counter() - begun
        task = progress.add_task("   read through n2 ", total=len(data))
        begun = perf_counter()
        for chunk in _chunks(data):
            for (key, value), found in zip(chunk, reader.get_many([key for key, _ in chunk]), strict=True):
                check(isinstance(found, GetReply) and found.values == [value], f"{key!r} came back as it was written")
            progress.advance(task, len(chunk))
        reading = perf_counter() - begun
    console.print("   every byte is the same\n")
    return [
        Measured("records loaded through n1, W=2, synced", f"{len(data):,} at {len(data) / writing:,.0f}/s"),
        Measured("records read through n2, R=2, all verified", f"{len(data):,} at {len(data) / reading:,.0f}/s"),
    ]


def siblings(stage: TemporaryCluster, console: Console) -> list[Measured]:
    """Act two: concurrent updates through two nodes become siblings, and one write reconciles them (D1 … D5)."""
    console.print("[bold]2  Concurrent updates[/]  the clock counts the events each node coordinated\n")
    table = Table("", "through", "has seen", "clock", "finds", box=None, padding=(0, 2))
    key = b"cart"
    with stage.client("n1") as x, stage.client("n2") as y, stage.client("n3") as z:
        d1 = x.put(key, b"D1")
        table.add_row("D1", "n1", "nothing", escape(_clock(stage, d1.ctx)))
        d2 = x.put(key, b"D2", ctx=d1.ctx)
        table.add_row("D2", "n1", "D1", escape(_clock(stage, d2.ctx)))
        d3 = y.put(key, b"D3", ctx=d2.ctx)
        table.add_row("D3", "n2", "D2", escape(_clock(stage, d3.ctx)))
        d4 = z.put(key, b"D4", ctx=d2.ctx)
        table.add_row("D4", "n3", "D2", escape(_clock(stage, d4.ctx)))
        found = x.get(key, r=3)
        check(sorted(found.values) == [b"D3", b"D4"], "D3 and D4 are siblings")
        table.add_row("[cyan]get[/]", "n1", "", escape(_clock(stage, found.ctx)), "[cyan]D3, D4[/]")
        d5 = x.put(key, b"D5", ctx=found.ctx)
        table.add_row("D5", "n1", "D3, D4", escape(_clock(stage, d5.ctx)))
        final = y.get(key, r=3)
        check(final.values == [b"D5"], "D5 replaces both")
        check(
            _clock(stage, final.ctx) == "D([n1, 3], [n2, 1], [n3, 1])",
            "the clock of D5 is D([n1, 3], [n2, 1], [n3, 1])",
        )
        table.add_row("[cyan]get[/]", "n2", "", escape(_clock(stage, final.ctx)), "[cyan]D5[/]")
    console.print(table)
    console.print()
    return [Measured("clock after D1 … D5", _clock(stage, final.ctx))]


def death(stage: TemporaryCluster, console: Console) -> list[Measured]:
    """Act three: n3 is killed; reads and writes go on; a demand for all three replicas is refused."""
    console.print("[bold]3  Kill n3[/]  SIGKILL, no goodbye")
    stage.nodes["n3"].kill()
    begun = perf_counter()
    with stage.cluster_client() as client:
        times: list[float] = []
        for number in range(_WHILE_DEAD // 2):
            key = f"while-dead-{number}".encode()
            times.append(_timed(partial(client.put, key, b"written with two nodes")))
            times.append(_timed(partial(client.get, key)))
        refusal = _refusal(client)
    times.sort()
    p99_ms = times[len(times) * 99 // 100] * 1000
    console.print(f"   {len(times):,} writes and reads with two nodes, none failed; p99 {p99_ms:.1f} ms")
    console.print(f"   a put that demands w=3: [yellow]{refusal}[/]\n")
    return [
        Measured("operations with n3 dead, none failed", f"{len(times):,} in {perf_counter() - begun:.1f} s"),
        Measured("their p99, one at a time", f"{p99_ms:.1f} ms"),
    ]


def return_of_the_node(stage: TemporaryCluster, console: Console) -> list[Measured]:
    """Act four: n3 starts again from its log and serves what it had, and all that the others have."""
    console.print("[bold]4  Restart n3[/]  from its own log")
    begun = perf_counter()
    stage.start("n3")
    back = perf_counter() - begun
    sample = list(records())[::34]
    with stage.client("n3") as client:
        keys = cast("int", client.stats()["engine_keys"])
        check(keys >= sum(1 for _ in records()), "n3 has all that it had, from its log")
        for (key, value), found in zip(sample, client.get_many([key for key, _ in sample]), strict=True):
            check(isinstance(found, GetReply) and found.values == [value], f"{key!r} is there through n3")
        missed = client.get_many([f"while-dead-{number}".encode() for number in range(_WHILE_DEAD // 2)])
        check(
            all(isinstance(each, GetReply) and each.values for each in missed), "n3 finds what it missed, at the others"
        )
    console.print(f"   {keys:,} keys came back from the log; n3 was linked {back:.1f} s after its start")
    console.print(f"   {len(sample):,} samples, and what it missed, are read through n3 and one other (R=2)\n")
    return [
        Measured("n3 back from its log and linked", f"{back:.1f} s"),
        Measured("data of three nodes on the disk", f"{stage.data_bytes() / 1e6:.0f} MB"),
    ]


def _refusal(client: Client) -> str:
    try:
        client.put(b"all-three", b"?", w=3)
    except ClientError as error:
        check(error.code == "no_quorum" and error.definite, "w=3 is refused, definitely")
        return f"{error.code}, {error.details['alive']} of {error.details['required']} alive, nothing was applied"
    raise DemoFailed("not so: a put with w=3 is refused while a replica is dead")


def _timed(act: Callable[[], object]) -> float:
    begun = perf_counter()
    act()
    return perf_counter() - begun


def _clock(stage: TemporaryCluster, context: bytes | None) -> str:
    events, names = token_clock("ap", context or b""), list(stage.nodes)
    return clock_text([(names[server], count) for server, count in sorted(events.items())])


def _chunks(data: Sequence[tuple[bytes, bytes]]) -> list[Sequence[tuple[bytes, bytes]]]:
    return [data[first : first + _CHUNK] for first in range(0, len(data), _CHUNK)]


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
