"""Reads register_histories.txt: histories drawn as timelines, with their verdicts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kvbus.testing import History, Kind, Operation, Outcome

_FILE = Path(__file__).with_name("register_histories.txt")
_LINE = re.compile(
    r"  (?P<client>\d+) (?:(?P<key>\w+): )?(?P<op>\w+)(?: (?P<expected>\d+))?(?: (?P<value>[\w,-]*)(?:@(?P<rev>\d+))?)?"
    r" *(?P<span>\[-*(?P<end>[\]!?]?))\s*(?P<culprit><?)$"
)
_KINDS: dict[str, Kind] = {"put": "put", "get": "get", "delete": "delete", "cas": "cas"}
_OUTCOMES: dict[str, Outcome] = {"]": "ok", "!": "failed", "?": "unknown", "": "unknown"}


@dataclass(frozen=True)
class Drawn:
    """A history from the file, its verdict, and in an illegal one the operation that is marked."""

    name: str
    legal: bool
    history: History
    culprit: Operation | None


def drawn_history(text: str) -> History:
    """Return the history of these lines."""
    return History(tuple(_operation(line)[0] for line in text.splitlines() if line))


def drawn_histories() -> list[Drawn]:
    """Return all histories of the file."""
    return list(_parsed(_FILE.read_text(encoding="utf-8")))


def _parsed(text: str) -> Iterator[Drawn]:
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith(("#", "=="))]
        if lines:
            verdict, _, name = lines[0].partition(": ")
            drawn = [_operation(line) for line in lines[1:]]
            marked = [operation for operation, is_culprit in drawn if is_culprit]
            history = History(tuple(operation for operation, _ in drawn))
            yield Drawn(name, verdict == "legal", history, marked[0] if marked else None)


def _operation(line: str) -> tuple[Operation, bool]:
    read = _LINE.fullmatch(line)
    assert read, f"not an operation: {line}"
    op, end, given = read["op"], read["end"], read["value"]
    values = () if given in (None, "", "-") else tuple(given.split(","))
    outcome = _OUTCOMES[end]
    operation = Operation(
        client=int(read["client"]),
        op=_KINDS[op],
        key=read["key"] or "k",
        start=read.start("span"),
        end=read.end("span") - 1 if end else None,
        outcome=outcome,
        value=values[0] if values and op != "get" else None,
        found=values if op == "get" and outcome == "ok" else None,
        rev=int(read["rev"]) if read["rev"] else None,
        expected=int(read["expected"]) if op == "cas" else None,
        error=("conflict" if op == "cas" else "no_quorum") if end == "!" else None,
    )
    return operation, bool(read["culprit"])
