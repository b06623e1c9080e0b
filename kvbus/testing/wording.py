"""How verdicts word values, times and counts."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

_LISTED = 6


def quoted(text: str | None) -> str:
    """Return a value as people read it, in quotes, with what cannot be seen written out; ``nothing`` for None."""
    if text is None:
        return "nothing"
    return '"' + "".join(c if c.isprintable() else repr(c)[1:-1] for c in text) + '"'


def listed(texts: Iterable[str]) -> str:
    """Return the first few of some values in quotes, and how many more there are; ``nothing`` for none."""
    return shortened([quoted(text) for text in texts]) or "nothing"


def shortened(words: list[str]) -> str:
    """Return the first few of some words, and how many more there are."""
    more = f" and {len(words) - _LISTED:,} more" if len(words) > _LISTED else ""
    return ", ".join(words[:_LISTED]) + more


def details_of(lines: Iterable[str], count: int, shown: int) -> tuple[str, ...]:
    """Return the first ``shown`` of ``count`` lines, and how many more there are; no other line is asked for."""
    first = tuple(islice(lines, shown))
    return (*first, f"and {count - shown:,} more") if count > shown else first


def seconds(moment: float) -> str:
    """Return a time for people: seconds to the microsecond, without trailing zeros."""
    text = f"{moment:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def counted(count: int, noun: str) -> str:
    """Return a count and its noun, in the plural where it is not one."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
