"""What is done to the frames of one direction of a link when somebody breaks it on purpose.

=============  ============================================================================================
rule           a frame
=============  ============================================================================================
partition      is lost
drop           is lost by ``chance``; with chance 1 that is a cut, as a partition is
delay          arrives ``ms`` later, and by chance up to ``jitter_ms`` more; never before an earlier one
duplicate      arrives twice, by ``chance``
clog           is held until the heal
=============  ============================================================================================

What is held is bounded; a frame that finds no room is lost. Time is in monotonic seconds and handed in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from random import Random

from kvbus.errors import ConfigError

PARTITION = "partition"
KINDS = ("drop", "delay", "duplicate", "clog")
"""What a single rule may do; a partition is set by an operation of its own."""
OPERATIONS = ("admin.partition", "admin.fault", "admin.faults", "admin.heal")
MAX_MS = 60_000
HELD_BYTES = 16 << 20
_FRAME_OVERHEAD_BYTES = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One fault. ``sides`` is the cut or direction as it was written, for people to read.

    Raises:
        ConfigError: a number is out of its range, or does not belong to the kind.
    """

    kind: str
    sides: str
    chance: float = 1.0
    ms: int = 0
    jitter_ms: int = 0

    def __post_init__(self) -> None:
        if self.kind not in (PARTITION, *KINDS):
            raise ConfigError(f"no fault is called {self.kind!r}; there are: {', '.join(KINDS)}")
        if not 0.0 < self.chance <= 1.0:
            raise ConfigError("chance must be a number above 0 and at most 1, such as 0.3")
        if self.chance != 1.0 and self.kind not in ("drop", "duplicate"):
            raise ConfigError(f"{self.kind} has no chance; leave it out")
        if not (0 <= self.ms <= MAX_MS and 0 <= self.jitter_ms <= MAX_MS):
            raise ConfigError(f"ms and jitter_ms must be from 0 to {MAX_MS}")
        if self.kind != "delay" and (self.ms or self.jitter_ms):
            raise ConfigError(f"{self.kind} has no ms and no jitter_ms; leave them out")
        if self.kind == "delay" and not (self.ms or self.jitter_ms):
            raise ConfigError("delay needs ms, jitter_ms or both")


class FaultyWay:
    """One direction of a link under rules, at most one of each kind.

    ``lost`` counts frames. Frames that are held stay in order: one that is due waits behind an earlier one that is not.
    """

    __slots__ = ("_held", "_random", "_room_bytes", "held_bytes", "is_cut", "lost", "rules")

    def __init__(self, random: Random, room_bytes: int = HELD_BYTES) -> None:
        self.rules: dict[str, Rule] = {}
        self.is_cut = False
        self.lost = 0
        self.held_bytes = 0
        self._held: deque[tuple[float, bytes]] = deque()
        self._random = random
        self._room_bytes = room_bytes

    def add(self, rule: Rule) -> None:
        """Put ``rule`` in force, in place of an earlier one of its kind; a cut loses what is under way."""
        self.rules[rule.kind] = rule
        drop = self.rules.get("drop")
        self.is_cut = PARTITION in self.rules or (drop is not None and drop.chance >= 1.0)
        if self.is_cut:
            self.forget()

    def heal(self) -> None:
        """End every rule; what is held arrives at once."""
        self.rules = {}
        self.is_cut = False
        self._held = deque((-inf, frame) for _, frame in self._held)

    def forget(self) -> None:
        """Lose what is held, as when the connection that it was under way on is gone."""
        self.lost += len(self._held)
        self.held_bytes = 0
        self._held.clear()

    def take(self, frame: bytes, now: float) -> list[bytes]:
        """Send ``frame`` on its way; return what arrives at once: nothing, the frame, or the frame twice."""
        drop, duplicate = self.rules.get("drop"), self.rules.get("duplicate")
        if self.is_cut or (drop is not None and self._random.random() < drop.chance):
            self.lost += 1
            return []
        copies = 2 if duplicate is not None and self._random.random() < duplicate.chance else 1
        due = self._due(now)
        if due <= now and not self._held:
            return [frame] * copies
        for _ in range(copies):
            self._hold(frame, due)
        return []

    def arrivals(self, now: float) -> list[bytes]:
        """Return the held frames that are due, in order."""
        held, found = self._held, list[bytes]()
        while held and held[0][0] <= now:
            frame = held.popleft()[1]
            self.held_bytes -= len(frame) + _FRAME_OVERHEAD_BYTES
            found.append(frame)
        return found

    @property
    def due_at(self) -> float | None:
        """The time at which the next held frame arrives; None while none is to."""
        return self._held[0][0] if self._held and self._held[0][0] < inf else None

    @property
    def is_idle(self) -> bool:
        """Whether there is neither a rule nor a frame left."""
        return not self.rules and not self._held

    def _due(self, now: float) -> float:
        if "clog" in self.rules:
            return inf
        delay = self.rules.get("delay")
        if delay is None:
            return now
        return now + (delay.ms + self._random.uniform(0.0, delay.jitter_ms)) * 0.001

    def _hold(self, frame: bytes, due: float) -> None:
        size = len(frame) + _FRAME_OVERHEAD_BYTES
        if self.held_bytes + size > self._room_bytes:
            self.lost += 1
            return
        self.held_bytes += size
        self._held.append((due, frame))
