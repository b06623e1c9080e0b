"""A verdict: what a checker says about a history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one checker found.

    ``ok`` is None where the checker could not decide, which counts as a failure: ``passed`` is False. ``reason`` is
    one sentence for people, ``details`` further lines. ``judged`` counts what the verdict rests on; where it is 0
    there was nothing to judge. ``counters`` holds more of the kind.
    """

    checker: str
    ok: bool | None
    reason: str
    judged: int
    details: tuple[str, ...] = ()
    counters: Mapping[str, int | float] = field(default_factory=dict[str, int | float])

    @property
    def passed(self) -> bool:
        """True only where the checker decided, and found nothing wrong."""
        return self.ok is True
