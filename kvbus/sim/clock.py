"""One node's clocks in virtual time: they start anywhere, run fast or slow, and the wall clock jumps."""

from __future__ import annotations

from kvbus.sim.timeline import Timeline

WALL_EPOCH_MS = 1_770_000_000_000
"""What a right wall clock shows when the world begins: ms since 1970."""


class NodeClock:
    """What a node reads. ``begins_at`` is its monotonic clock at the world's beginning, in seconds.

    ``rate`` is how many of its seconds pass in one of the world's.
    """

    def __init__(self, timeline: Timeline, begins_at: float = 0.0) -> None:
        self._timeline = timeline
        self._since = 0.0
        self._shown = begins_at
        self._rate = 1.0
        self._wall_ahead_ms = WALL_EPOCH_MS - begins_at * 1000

    def monotonic(self) -> float:
        """Return the monotonic clock, in seconds."""
        return self._shown + (self._timeline.now - self._since) * self._rate

    def wall_ms(self) -> int:
        """Return the wall clock, in ms since 1970."""
        return self.read()[1]

    def read(self) -> tuple[float, int]:
        """Return the monotonic clock in seconds and the wall clock in ms."""
        shown = self._shown + (self._timeline.now - self._since) * self._rate
        return shown, int(shown * 1000 + self._wall_ahead_ms)

    def instant_of(self, shown: float) -> float:
        """Return the world's time at which the monotonic clock shows ``shown``."""
        return self._since + (shown - self._shown) / self._rate

    def reboot(self, begins_at: float) -> None:
        """Let the monotonic clock begin anew at ``begins_at``, as a machine's does; the wall clock goes on."""
        self._wall_ahead_ms += (self.monotonic() - begins_at) * 1000
        self._shown, self._since = begins_at, self._timeline.now

    def run_at(self, rate: float) -> None:
        """Run at another rate from now on; the monotonic clock never jumps."""
        self._shown, self._since = self.monotonic(), self._timeline.now
        self._rate = rate

    def jump_ms(self, by_ms: int) -> None:
        """Set the wall clock forward, or back where ``by_ms`` is negative."""
        self._wall_ahead_ms += by_ms
