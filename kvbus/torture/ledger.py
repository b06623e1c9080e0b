"""What clients were shown and what they replaced: promises about values, which a history of elements does not tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from kvbus.testing.verdict import Verdict

_LINES = 5

Entries: TypeAlias = dict[str, dict[str, None]]
"""Texts by key, each once, in the order in which they came."""


class Ledger:
    """Keeps what the clients of a run know of their shared sets, and judges it against the final reads.

    Elements are only ever added, and no value is written twice, as each holds an element of its own.
    """

    def __init__(self) -> None:
        self._shown: Entries = {}
        self._replaced: Entries = {}
        self._final_elements: Entries = {}
        self._final_values: Entries = {}

    def shown(self, key: str, values: Sequence[bytes], elements: Iterable[str], *, is_final: bool = False) -> None:
        """Note what a read answered. A final one asked all replicas when everything was mended."""
        _add(self._final_elements if is_final else self._shown, key, elements)
        if is_final:
            _add(self._final_values, key, map(bytes.decode, values))

    def replaced(self, key: str, values: Iterable[bytes]) -> None:
        """Note the values that the author of an acknowledged put had seen."""
        _add(self._replaced, key, map(bytes.decode, values))

    def verdicts(self, *, doubled: bool) -> tuple[Verdict, Verdict]:
        """Judge that what was shown stayed, for it was on a disk, and that what was replaced is gone.

        Where messages are ``doubled`` a value may have a second version that its replacer never saw: see
        :attr:`kvbus.torture.plan.Plan.doubles`.
        """
        vanished = [
            f"{key}: a read showed {element}, and it is gone"
            for key, final in self._final_elements.items()
            for element in self._shown.get(key, {})
            if element not in final
        ]
        back = [
            f"{key}: {value} is there, and a put whose author had seen it was acknowledged"
            for key, final in self._final_values.items()
            for value in self._replaced.get(key, {})
            if value in final and not doubled
        ]
        return (
            _verdict("shown", vanished, self._shown, "every element that a read showed stayed"),
            _verdict("replaced", back, self._replaced, "every value that a put replaced is gone"),
        )


def _add(entries: Entries, key: str, texts: Iterable[str]) -> None:
    entries.setdefault(key, {}).update(dict.fromkeys(texts))


def _verdict(checker: str, flaws: list[str], judged: Entries, held: str) -> Verdict:
    reason = f"{len(flaws)} times: {flaws[0]}" if flaws else held
    count = sum(map(len, judged.values()))
    return Verdict(checker=checker, ok=not flaws, reason=reason, judged=count, details=tuple(flaws[:_LINES]))
