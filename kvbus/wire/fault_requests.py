"""The fields of a client's fault requests, checked; an error names the mend. Source: PROTOCOL.md, "Faults"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, cast

from kvbus.core.faults import KINDS, PARTITION, Rule
from kvbus.core.sides import Way, parted_ways
from kvbus.errors import BadRequest, ConfigError
from kvbus.wire import request_fields

_MAX_TEXT = 4096

End = Literal["sender", "receiver"]
ENDS: tuple[End, ...] = ("sender", "receiver")

FIELDS: Mapping[str, frozenset[str]] = {
    "admin.partition": frozenset({"sides", "ways"}),
    "admin.fault": frozenset({"sides", "ways", "kind", "at", "chance", "ms", "jitter_ms"}),
    "admin.faults": frozenset(),
    "admin.heal": frozenset(),
}
"""What each fault operation may carry beside the fields that all requests have."""


class FaultOrder(NamedTuple):
    """Rules to put in force, one for each of some directions, and at which of their ends."""

    rules: Sequence[tuple[Way, Rule]]
    ends: tuple[End, ...]


def fault_order(op: str, fields: Mapping[str, object], names: Sequence[str]) -> FaultOrder:
    """Read ``admin.partition`` or ``admin.fault``; ``names`` are the cluster's nodes.

    Raises:
        BadRequest: a field is missing or wrong.
    """
    is_partition = op == "admin.partition"
    kind = PARTITION if is_partition else _kind(fields)
    ends = ENDS if is_partition else (_end(fields),)
    chance = fields.get("chance")
    if chance is not None and type(chance) not in (int, float):
        raise BadRequest("chance must be a number above 0 and at most 1, such as 0.3")
    numbers = {
        "chance": 1.0 if chance is None else float(cast("float", chance)),
        "ms": _whole(fields, "ms"),
        "jitter_ms": _whole(fields, "jitter_ms"),
    }
    try:
        written = _written(fields, names)
        return FaultOrder([(way, _rule(kind, text, numbers)) for way, text in written], ends)
    except ConfigError as error:
        raise BadRequest(str(error)) from error


def rule_map(way: Way, rule: Rule, *, at: End, lost: int, held_bytes: int) -> dict[str, object]:
    """Return a rule that is in force as replies show it."""
    return {
        "from": way[0],
        "to": way[1],
        "kind": rule.kind,
        "chance": rule.chance,
        "ms": rule.ms,
        "jitter_ms": rule.jitter_ms,
        "sides": rule.sides,
        "at": at,
        "lost": lost,
        "held_bytes": held_bytes,
    }


def _rule(kind: str, sides: str, numbers: Mapping[str, float]) -> Rule:
    return Rule(
        kind=kind,
        sides=sides,
        chance=numbers["chance"],
        ms=int(numbers["ms"]),
        jitter_ms=int(numbers["jitter_ms"]),
    )


def _written(fields: Mapping[str, object], names: Sequence[str]) -> list[tuple[Way, str]]:
    """Return the directions that are meant, each with the text that shows it."""
    sides, ways = fields.get("sides"), fields.get("ways")
    if (sides is None) == (ways is None):
        raise BadRequest('send either sides, such as "n1 | n2,n3", or ways, such as [["n1", "n2"]]')
    if sides is not None:
        if type(sides) is not str or len(sides) > _MAX_TEXT:
            raise BadRequest(f'sides must be text of at most {_MAX_TEXT} characters, such as "n1 | n2,n3"')
        text = " ".join(sides.split())
        return [(way, text) for way in parted_ways(text, names)]
    if type(ways) is not list or not ways:
        raise BadRequest('ways must be an array of pairs, such as [["n1", "n2"]]')
    return [(way, f"{way[0]} -> {way[1]}") for way in (_way(each, names) for each in cast("list[object]", ways))]


def _way(found: object, names: Sequence[str]) -> Way:
    pair = cast("list[object]", found) if type(found) is list else []
    if len(pair) != 2 or pair[0] == pair[1]:
        raise BadRequest('each of ways must be a pair of two nodes, sender and receiver, such as ["n1", "n2"]')
    for name in pair:
        if name not in names:
            raise BadRequest(f"no node {request_fields.clipped(name)}; there are: {', '.join(names)}")
    return str(pair[0]), str(pair[1])


def _end(fields: Mapping[str, object]) -> End:
    found = fields.get("at")
    for end in ENDS:
        if (found or "sender") == end:
            return end
    raise BadRequest('at must be "sender" or "receiver"')


def _kind(fields: Mapping[str, object]) -> str:
    found = fields.get("kind")
    for kind in KINDS:
        if found == kind:
            return kind
    raise BadRequest(f"kind must be one of {', '.join(KINDS)}")


def _whole(fields: Mapping[str, object], name: str) -> int:
    found = fields.get(name)
    if found is None:
        return 0
    if type(found) is not int:
        raise BadRequest(f"{name} must be an unsigned integer")
    return found
