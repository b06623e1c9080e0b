"""When the open batches next want a look although nothing arrives: at a deadline, or to hedge a read.

A look goes over all that is open. So what many batches want, each at an instant of its own, is put on a grid.
"""

from __future__ import annotations

from math import ceil, inf

LOOK_SECONDS = 0.005
"""The grid of most instants."""


def on_grid(instant: float, step: float) -> float:
    """Return the first multiple of ``step`` that is not before ``instant``; seconds."""
    return ceil(instant / step) * step


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
