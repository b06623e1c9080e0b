"""Draw a reply's ``explain`` map: one get's way, along the textbook's headings. Source: PROTOCOL.md, "Explain"."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from kvbus.cli.output import say

_BAR = 32
_MERGES = {
    "one answer": "one answer, nothing to merge",
    "equal": "all answers are the same",
    "merged": "the answers differ; what one has seen replaces the other, the rest are siblings",
}

_BLOOMS = {"no": "surely not here", "maybe": "maybe here"}


def draw(explain: Mapping[str, object]) -> None:
    """Print the steps of the request in their order."""
    for line in explain_lines(explain):
        say(line)


def explain_lines(explain: Mapping[str, object]) -> list[str]:
    """Return the steps as lines, headed by their number and name."""
    replicas = cast("Sequence[Mapping[str, object]]", explain["replicas"])
    answered = [replica for replica in replicas if replica["state"] == "answered"]
    position = cast("float", explain["ring_position"])
    steps: list[tuple[str, list[str]]] = [
        (
            "partition",
            [
                f"hash {explain['hash']} lies in partition {explain['partition']} of {explain['partitions']}",
                f"{_ring_bar(position)}  at {position:.4f} of the ring",
            ],
        ),
        ("coordinator", [str(explain["coordinator"])]),
        ("replicas", [_demand(explain), *(f"{replica['node']}  {replica['state']}" for replica in replicas)]),
        ("memtable", [f"{replica['node']}  {_found(replica)}" for replica in answered] or ["nobody answered"]),
        ("bloom", _lines(answered, _blooms)),
        ("sstables", _lines(answered, _tables)),
        ("merge", [f"{_MERGES.get(str(explain['merge']), explain['merge'])}: {_siblings(explain['siblings'])}"]),
        ("guarantee", [str(explain["guarantee"])]),
    ]
    lines = [""]
    for number, (name, details) in enumerate(steps, 1):
        lines.append(f"{number} {name:<12} {details[0]}")
        lines += [f"{'':<14} {detail}" for detail in details[1:]]
    return lines


def _ring_bar(position: float) -> str:
    place = min(int(position * _BAR), _BAR - 1)
    return f"├{'─' * place}●{'─' * (_BAR - 1 - place)}┤"


def _demand(explain: Mapping[str, object]) -> str:
    word = "demanded by the request" if explain["demanded"] else "the keyspace's target"
    return f"R = {explain['required']}, {word}"


def _found(replica: Mapping[str, object]) -> str:
    return f"hit, {_siblings(replica['siblings'])}" if replica.get("memtable") == "hit" else "miss"


def _lines(
    replicas: Sequence[Mapping[str, object]], draw_one: Callable[[Mapping[str, object]], list[str]]
) -> list[str]:
    """Name each replica in front of its first line."""
    found: list[str] = []
    for replica in replicas:
        name = str(replica["node"])
        for number, line in enumerate(draw_one(replica)):
            found.append(f"{name if not number else ' ' * len(name)}  {line}")
    return found or ["nobody answered"]


def _blooms(replica: Mapping[str, object]) -> list[str]:
    blooms = cast("Sequence[tuple[str, str]]", replica.get("blooms", ()))
    if not blooms:
        return ["not asked: the memtable has it" if replica.get("memtable") == "hit" else "no table's range has it"]
    return [f"{table}  {_BLOOMS[answer]}" for table, answer in blooms]


def _tables(replica: Mapping[str, object]) -> list[str]:
    tables = cast("Sequence[Mapping[str, object]]", replica.get("sstables", ()))
    return [
        f"{table['table']}, level {table['level']}, block {table['block']}, "
        f"{'from the block cache' if table['cached'] else 'from the disk'}: "
        f"{_siblings(replica['siblings']) if table['found'] else 'not there, the filter was wrong'}"
        for table in tables
    ] or ["none read"]


def _siblings(count: object) -> str:
    return "nothing stored" if count == 0 else f"{count} version{'s' if count != 1 else ''}"
