"""When the open batches next want a look although nothing arrives: at a deadline, or to hedge a read."""

from __future__ import annotations

from math import inf


class Alarm:
    """The earliest instant that any batch asked for; monotonic seconds, inf while none did.

    It is never late, and may be early: a batch that ends does not take its wish back.
    """

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = inf

    def by(self, instant: float) -> None:
        """Ask for a look at ``instant`` at the latest."""
        if instant < self.at:
            self.at = instant
