"""``kvbus put``, ``get``, ``delete`` and ``cas``: one key at a time."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from kvbus.cli.connection import Connection, connected
from kvbus.cli.options import (
    DEFAULT_DEADLINE_MS,
    DEFAULT_KEYSPACE,
    ConnectOption,
    ContextOption,
    DeadlineOption,
    DebugOption,
    FolderOption,
    KeyArgument,
    KeyspaceOption,
    LevelOption,
    OutputOption,
    ReadPrimariesOption,
    ReadQuorumOption,
    ReceiptOption,
    TtlOption,
    WritePrimariesOption,
    WriteQuorumOption,
)
from kvbus.cli.output import (
    EXIT_NOT_FOUND,
    Output,
    complain,
    failures_shown,
    print_json,
    readable,
    say,
    shell_word,
    shown,
    table,
)
from kvbus.errors import Unsupported

if TYPE_CHECKING:
    from kvbus.client import GetReply, PutReply

ValueArgument = Annotated[str, typer.Argument(metavar="VALUE", help="Text, or - for standard input.")]


def put(
    key: KeyArgument,
    value: ValueArgument,
    folder: FolderOption = None,
    connect: ConnectOption = None,
    ks: KeyspaceOption = DEFAULT_KEYSPACE,
    w: WriteQuorumOption = None,
    pw: WritePrimariesOption = None,
    cl: LevelOption = None,
    ctx: ContextOption = None,
    ttl_ms: TtlOption = None,
    deadline_ms: DeadlineOption = DEFAULT_DEADLINE_MS,
    receipt: ReceiptOption = False,
    debug: DebugOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Store a value. Without --ctx it stands beside what others stored, with it it replaces what you read."""
    context = _context(ctx)
    data = sys.stdin.buffer.read() if value == "-" else value.encode(errors="surrogateescape")
    with failures_shown(output), connected(folder, connect, ks) as link:
        reply = link.client.put(
            _bytes(key), data, ctx=context, w=w, pw=pw, cl=cl, ttl_ms=ttl_ms, receipt=receipt, deadline_ms=deadline_ms
        )
        _print_write(link, "stored", key, reply, debug, output)


def delete(
    key: KeyArgument,
    folder: FolderOption = None,
    connect: ConnectOption = None,
    ks: KeyspaceOption = DEFAULT_KEYSPACE,
    w: WriteQuorumOption = None,
    pw: WritePrimariesOption = None,
    cl: LevelOption = None,
    ctx: ContextOption = None,
    deadline_ms: DeadlineOption = DEFAULT_DEADLINE_MS,
    receipt: ReceiptOption = False,
    debug: DebugOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Delete what --ctx has seen; without it, the deletion removes nothing that you have not read."""
    context = _context(ctx)
    with failures_shown(output), connected(folder, connect, ks) as link:
        reply = link.client.delete(
            _bytes(key), ctx=context, w=w, pw=pw, cl=cl, receipt=receipt, deadline_ms=deadline_ms
        )
        done = "deleted" if context else "removed nothing (pass the --ctx of kvbus get) of"
        _print_write(link, done, key, reply, debug, output)


def get(
    key: KeyArgument,
    folder: FolderOption = None,
    connect: ConnectOption = None,
    ks: KeyspaceOption = DEFAULT_KEYSPACE,
    r: ReadQuorumOption = None,
    pr: ReadPrimariesOption = None,
    cl: LevelOption = None,
    deadline_ms: DeadlineOption = DEFAULT_DEADLINE_MS,
    receipt: ReceiptOption = False,
    explain: Annotated[bool, typer.Option("--explain", help="Draw the request's way.")] = False,
    debug: DebugOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Read a key; several values are siblings, which concurrent writes left."""
    with failures_shown(output), connected(folder, connect, ks) as link:
        reply = link.client.get(
            _bytes(key), r=r, pr=pr, cl=cl, receipt=receipt, explain=explain, deadline_ms=deadline_ms
        )
        if output is Output.JSON:
            print_json(_get_map(link, key, reply, debug))
        else:
            _print_values(link, key, reply, debug, _resolving_put(key, reply, folder, connect, ks))
        if not reply.values:
            raise typer.Exit(EXIT_NOT_FOUND)


def cas(
    key: KeyArgument,
    value: ValueArgument,
    rev: Annotated[int, typer.Option("--rev", min=0, help="The revision you read; 0: it must not exist.")],
    folder: FolderOption = None,
    connect: ConnectOption = None,
    ks: KeyspaceOption = DEFAULT_KEYSPACE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Store a value only if the key is still at revision --rev (mode cp, not in this version)."""
    with failures_shown(output), connected(folder, connect, ks) as link:
        raise Unsupported(
            f"cas is not served by keyspaces of mode {link.mode()}, which {ks} is; "
            f"write with put {key} {value} --ctx and the context that you read"
        )


def _bytes(text: str) -> bytes:
    # An argument that is not UTF-8 arrives with its bytes as surrogates.
    return text.encode(errors="surrogateescape")


def _context(given: str | None) -> bytes | None:
    if given is None:
        return None
    try:
        return bytes.fromhex(given)
    except ValueError:
        raise typer.BadParameter("must be the hex text of an earlier reply's ctx", param_hint="--ctx") from None


def _version(link: Connection, reply: PutReply | GetReply, debug: bool) -> dict[str, object]:
    version: dict[str, object] = {
        "ctx": reply.ctx.hex() if reply.ctx is not None else None,
        "clock": link.clock(reply.ctx),
        "rev": None,
        "degraded": reply.degraded,
    }
    if debug:
        version["dots"] = [
            (server, epoch, counter)
            for server, epoch, first, last in link.dots(reply.ctx)
            for counter in range(first, last + 1)
        ]
    if reply.acks is not None:
        version["acks"] = reply.acks
    if reply.receipt is not None:
        version["receipt"] = dict(reply.receipt)
    return version


def _get_map(link: Connection, key: str, reply: GetReply, debug: bool) -> dict[str, object]:
    found: dict[str, object] = {
        "key": shown(_bytes(key)),
        "values": [shown(value) for value in reply.values],
        **_version(link, reply, debug),
    }
    if reply.explain is not None:
        found["explain"] = dict(reply.explain)
    return found


def _print_write(link: Connection, done: str, key: str, reply: PutReply, debug: bool, output: Output) -> None:
    if output is Output.JSON:
        print_json({"key": shown(_bytes(key)), **_version(link, reply, debug)})
        return
    say(f"{done} {readable(_bytes(key))}   clock {clock_text(link.clock(reply.ctx))}")
    _print_worth(link, reply, debug, "stored it")


def _resolving_put(key: str, reply: GetReply, folder: Path | None, connect: str | None, ks: str) -> str:
    """Return the command, ready for a shell, that replaces all that ``reply`` read."""
    words = ["kvbus", "put"]
    for option, given in (("--dir", folder), ("--connect", connect), ("--ks", ks if ks != DEFAULT_KEYSPACE else None)):
        words += [option, str(given)] if given is not None else []
    words += ["--ctx", reply.ctx.hex() if reply.ctx is not None else ""]
    words += ["--", key] if key.startswith("-") else [key]
    return f"{' '.join(map(shell_word, words))} VALUE"


def _print_values(link: Connection, key: str, reply: GetReply, debug: bool, resolving_put: str) -> None:
    name = readable(_bytes(key))
    if not reply.values:
        complain(f"kvbus: {name} has no value in keyspace {link.keyspace}")
    clock = clock_text(link.clock(reply.ctx))
    if len(reply.values) == 1:
        table(["key", "value", "clock"], [[name, readable(reply.values[0]), clock]], cut=["key", "value"])
    elif reply.values:
        rows = [[name, f"{number}", readable(value)] for number, value in enumerate(reply.values, 1)]
        table(["key", "sibling", "value"], rows, cut=["key", "value"])
    if len(reply.values) > 1 and reply.ctx is not None:
        say(
            f"\n{len(reply.values)} siblings: nobody has said yet which value counts. Write one that replaces them all:"
        )
        say(f"  {resolving_put}")
    _print_worth(link, reply, debug, "answered")
    if reply.explain is not None:
        from kvbus.cli.explain import draw

        draw(reply.explain)


def _print_worth(link: Connection, reply: PutReply | GetReply, debug: bool, did: str) -> None:
    """Print what the reply is worth, and with ``--debug`` the version behind it."""
    if reply.degraded:
        replicas = f"{reply.acks} replica{'s' if reply.acks != 1 else ''}"
        complain(f"degraded: only {replicas} {did}, fewer than the keyspace aims at")
    if reply.receipt is not None:
        receipt = reply.receipt
        names = ", ".join(cast("Sequence[str]", receipt.get("replicas", ())))
        say(
            f"receipt   {receipt.get('guarantee')}: {names} {did}; "
            f"coordinator {receipt.get('node')}, epoch {receipt.get('epoch')}, mode {receipt.get('mode')}"
        )
    if debug:
        say(f"ctx       {reply.ctx.hex() if reply.ctx else '(none)'}")
        dots = ", ".join(
            f"[{server}, epoch {epoch}, {first if first == last else f'{first} to {last}'}]"
            for server, epoch, first, last in link.dots(reply.ctx)
        )
        say(f"dots      {dots or '(none)'}")


def clock_text(clock: Sequence[tuple[str, int]]) -> str:
    """Write a clock as people read it: ``D([n1, 2], [n2, 1])``."""
    return f"D({', '.join(f'[{name}, {count}]' for name, count in clock)})"
