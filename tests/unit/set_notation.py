"""Set histories as short lines: ``1 add x 0 1`` is an add from second 0 to 1, ``0 ?`` had no answer, ``0 1?`` gave up.

``9 read* x,y 20 21 n1`` is a final read at n1 that found x and y; ``-`` found nothing. ``2 remove x x,y 4 5`` has seen
x and y, ``2 remove x 4 5`` does not say. ``1 !add x 0 1`` was refused. A line may begin with a key: ``s: 1 add x 0 1``.
"""

from __future__ import annotations

import re
from typing import Any

from kvbus.testing import History, Operation

_LINE = re.compile(
    r"(?:(?P<key>\w+): )?(?P<client>\d+) (?P<refused>!?)(?P<op>add|remove|read)(?P<final>\*?)"
    r"(?P<words>(?: [a-z,-]+){0,2}) (?P<start>\d+) (?P<end>\d*)(?P<unknown>\??)(?: (?P<node>n\d))?$"
)


def set_history(text: str) -> History:
    """Return the history of these lines."""
    return History(tuple(_operation(line.strip()) for line in text.splitlines() if line.strip()))


def _operation(line: str) -> Operation:
    read = _LINE.fullmatch(line)
    assert read, f"not an operation: {line}"
    words = read["words"].split()
    is_answered = not read["unknown"] and not read["refused"]
    fields: dict[str, Any] = {"op": read["op"], "final": bool(read["final"]), "node": read["node"]}
    if read["op"] != "read":
        fields["element"] = words.pop(0)
    if words and is_answered:
        fields["found"] = () if words[0] == "-" else tuple(words[0].split(","))
    return Operation(
        client=int(read["client"]),
        key=read["key"] or "s",
        start=int(read["start"]),
        end=int(read["end"]) if read["end"] else None,
        outcome="ok" if is_answered else "failed" if read["refused"] else "unknown",
        error="no_quorum" if read["refused"] else None,
        **fields,
    )
