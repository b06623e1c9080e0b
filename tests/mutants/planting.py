"""How a bug is planted: a function or method is replaced for the length of one process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_ROOMS = ("kvbus", "kvbus_modes", "kvbus_storage")
BROKEN_PROMISES = ("recovery", "honest", "durable", "visible", "shown", "replaced", "settled")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug. ``what`` says in a few words what is wrong; ``plant`` breaks this process.

    ``by`` names the checkers that may claim to have caught it: a bug that only slows the cluster down, or makes a
    machine fall over its own feet, has not shown what it was planted for.
    """

    name: str
    what: str
    plant: Callable[[], None]
    by: tuple[str, ...] = BROKEN_PROMISES


def replace_function(original: Callable[..., Any], planted: Callable[..., Any]) -> None:
    """Put ``planted`` in the place of a module's function, also where other modules have imported it."""
    places = [
        (module, name)
        for module_name, module in list(sys.modules.items())
        if module_name.split(".")[0] in _ROOMS
        for name, value in list(vars(module).items())
        if value is original
    ]
    if not places:
        raise LookupError(f"{original} is nowhere to be found; has it been renamed?")
    for module, name in places:
        setattr(module, name, planted)


def replace_method(owner: type, name: str, planted: Callable[..., Any]) -> None:
    """Put ``planted`` in the place of a class's own method.

    Raises:
        LookupError: the class has no such method; the mutant must follow the code.
    """
    if name not in vars(owner):
        raise LookupError(f"{owner.__name__} has no {name}; has it been renamed?")
    setattr(owner, name, planted)
