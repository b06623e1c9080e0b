"""The links between the nodes of a world: in order, at most once, and as bad as a test wants them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from kvbus.core.tick import Tick
from kvbus.core.types import NodeIndex
from kvbus.sim.timeline import Timeline

Deliver = Callable[[int, Callable[[Tick], object]], None]
Way = tuple[int, int]


class Network:
    """Carries peer messages with 0.2 to 3 ms of delay.

    ``loss`` is the chance that a message vanishes. On the ways (sender, receiver) in ``cut`` all of them vanish while
    the link stays up, and ``slow`` adds seconds to a way. ``tap`` sees every message that leaves.
    """

    def __init__(self, timeline: Timeline, rng: Random, deliver: Deliver) -> None:
        self.loss = 0.0
        self.cut: dict[Way, None] = {}
        self.slow: dict[Way, float] = {}
        self.tap: Callable[[Way, list[bytes]], object] = lambda way, frames: None
        self._timeline = timeline
        self._rng = rng
        self._deliver = deliver
        self._links: dict[Way, object] = {}
        self._latest: dict[Way, float] = {}

    def set_link(self, i: int, j: int, is_up: bool) -> None:
        """Establish or lose the link between two nodes; what was under way on it is gone."""
        for near, far in ((i, j), (j, i)):
            self._links[near, far] = object() if is_up else None
        self._deliver(i, lambda tick: tick.links.append((NodeIndex(j), is_up)))
        self._deliver(j, lambda tick: tick.links.append((NodeIndex(i), is_up)))

    def post(self, way: Way, frames: list[bytes]) -> None:
        """Send one multipart message; nothing tells whether it arrives."""
        self.tap(way, frames)
        link = self._links.get(way)
        if link is None or way in self.cut or self._rng.random() < self.loss:
            return
        delay = self._rng.uniform(0.0002, 0.003) + self.slow.get(way, 0.0)
        self._latest[way] = max(self._timeline.now + delay, self._latest.get(way, 0.0))
        arrived = [(NodeIndex(way[0]), frame) for frame in frames]
        take = partial(self._deliver, way[1], lambda tick: tick.frames.extend(arrived))
        self._timeline.at(self._latest[way], lambda: take() if self._links[way] is link else None)

    def silence(self, i: int, *others: int) -> None:
        """Cut both ways between ``i`` and ``others``, links up."""
        for j in others:
            self.cut |= {(i, j): None, (j, i): None}
