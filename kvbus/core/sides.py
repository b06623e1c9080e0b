"""Which nodes a fault parts from which, as a person writes it down.

=====================  ==========================================================================================
text                   means
=====================  ==========================================================================================
``"n1 | n2,n3"``       two sides; nothing passes between nodes that share none
``"n1"``               one node against all others
``"n1,n2 | n2,n3"``    a bridge: n2 stands on both sides and talks to everybody
``"n1 -> n2,n3"``      one way: what n1 sends to n2 and n3 is lost, their answers pass
=====================  ==========================================================================================

A node that no side names stands on every side.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvbus.errors import ConfigError

Way = tuple[str, str]
"""A direction: (sender, receiver), by name."""

_HOW = 'write sides as "n1 | n2,n3", or one way as "n1 -> n2,n3"'


def parted_ways(text: str, names: Sequence[str]) -> list[Way]:
    """Return the directions that ``text`` cuts among the nodes ``names``, in the order of ``names``.

    Raises:
        ConfigError: the text has another form, names an unknown node, or parts nobody.
    """
    if "->" in text:
        return directed_ways(text, names)
    sides = [_members(part, names) for part in text.split("|")]
    if len(sides) == 1:
        sides.append([name for name in names if name not in sides[0]])
    named = dict.fromkeys(name for side in sides for name in side)
    ways = [
        (sender, receiver)
        for sender in names
        for receiver in names
        if sender in named
        and receiver in named
        and sender != receiver
        and not any(sender in side and receiver in side for side in sides)
    ]
    if not ways:
        raise ConfigError(f"{text!r} parts nobody from anybody; {_HOW}")
    return ways


def directed_ways(text: str, names: Sequence[str]) -> list[Way]:
    """Return the directions that ``"n1 -> n2,n3"`` names; ``*`` on either side means all nodes.

    Raises:
        ConfigError: the text has another form, names an unknown node, or no direction at all.
    """
    parts = text.split("->")
    if len(parts) != 2:
        raise ConfigError(f"{text!r} is no direction; {_HOW}")
    senders, receivers = ([*names] if part.strip() == "*" else _members(part, names) for part in parts)
    ways = [(sender, receiver) for sender in senders for receiver in receivers if sender != receiver]
    if not ways:
        raise ConfigError(f"{text!r} leads from a node to itself; {_HOW}")
    return ways


def _members(part: str, names: Sequence[str]) -> list[str]:
    members = list(dict.fromkeys(name.strip() for name in part.split(",")))
    for name in members:
        if not name:
            raise ConfigError(f"a side names no node; {_HOW}")
        if name not in names:
            raise ConfigError(f"no node {name!r}; there are: {', '.join(names)}; {_HOW}")
    return members
