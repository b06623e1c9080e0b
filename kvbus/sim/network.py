"""The network of a world: connections between ends, and everything that may go wrong with them.

A connection behaves as ZeroMQ over TCP does. While it is up, messages arrive in order, each at most once. While a way
between its ends is cut, or one end is paused, nothing arrives; heartbeats are missed, and after ``SILENCE_SECONDS`` the
connection is lost with all that was under way. If the cut ends before, what was held arrives late, as TCP repeats it.
A process that is killed says goodbye through its kernel; a machine that loses power does not. The near end of a lost
connection tries again as long as both ends are there.

On top of that a way may be given *rules* that are worse than any TCP: loss, duplicates, messages that overtake.

Ends are numbers; a client's end may be *seated* beside a node and is then cut off from others as that node is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TypeVar

from kvbus.sim.timeline import Timeline

Way = tuple[int, int]
Payload = TypeVar("Payload")

SILENCE_SECONDS = 1.5
"""How long nothing is heard before a connection counts as lost, as the heartbeats of the real sockets have it."""
_SILENCE_JITTER_SECONDS = 0.5
_GOODBYE_SECONDS = 0.001
_RECONNECT_SECONDS = (0.02, 0.3)
_REPEAT_SECONDS = (0.2, 0.7)
_DELAY_SECONDS = 0.0002
_DELAY_SPREAD_SECONDS = 0.0018


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to the messages of one way. Chances are 0 to 1; ``delay`` and ``jitter`` are seconds.

    ``clog`` holds all of them until the network is healed, while heartbeats go on.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    overtake: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    clog: bool = False


class Connection:
    """One connection, opened by ``near`` to ``far``; made by :meth:`Network.connect`."""

    __slots__ = (
        "far",
        "greet",
        "held",
        "is_up",
        "latest",
        "life",
        "lives",
        "near",
        "on_change",
        "silent_since",
        "trying",
    )

    def __init__(self, near: int, far: int, greet: Callable[[], bool], on_change: Callable[[bool], object]) -> None:
        self.near = near
        self.far = far
        self.greet = greet
        self.on_change = on_change
        # is_up: the near end may send. life: what was sent in it still arrives, also after the sender's end.
        self.is_up = False
        self.life: object | None = None
        self.lives = 0
        self.trying = False
        self.silent_since: object | None = None
        self.latest = [0.0, 0.0]
        self.held: list[tuple[bool, Callable[[], object]]] = []


class Network:
    """All connections of a world. ``lost_messages`` counts what never arrived."""

    def __init__(self, timeline: Timeline, rng: Random) -> None:
        self._timeline = timeline
        self._rng = rng
        self._connections: dict[Way, Connection] = {}
        self._present: dict[int, None] = {}
        self._paused: dict[int, None] = {}
        self._seats: dict[int, int | None] = {}
        self._cut: dict[Way, None] = {}
        self._rules: dict[Way, Rule] = {}
        self.lost_messages = 0

    def connect(
        self, near: int, far: int, *, greet: Callable[[], bool], on_change: Callable[[bool], object]
    ) -> Connection:
        """Keep a connection from ``near`` to ``far``.

        ``greet`` is called when it is made and says whether the far end accepts it; ``on_change`` tells the near end
        that it came (True) or was lost.
        """
        connection = self._connections[near, far] = Connection(near, far, greet, on_change)
        self._consider(connection)
        return connection

    def disconnect(self, connection: Connection) -> None:
        """Give a connection up; nothing arrives on it any more."""
        connection.is_up, connection.life = False, None
        self._connections.pop((connection.near, connection.far), None)

    def seat(self, end: int, beside: int | None) -> None:
        """Let ``end`` share the cuts of the node ``beside``; an end of its own is never cut off."""
        self._seats[end] = beside

    def send(self, connection: Connection, forth: bool, arrive: Callable[[], object]) -> bool:
        """Send one message, from the near end (``forth``) or to it; False when the connection is not up.

        Nothing tells whether it arrives.
        """
        if not connection.is_up:
            return False
        life = connection.life
        delay = _DELAY_SECONDS + self._rng.random() * _DELAY_SPREAD_SECONDS
        if self._rules:
            rule = self._rules.get(self._way(connection, forth))
            if rule is not None:
                return self._send_badly(connection, forth, arrive, delay, rule)
        at = max(self._timeline.now + delay, connection.latest[forth])
        connection.latest[forth] = at
        self._timeline.at(at, partial(self._arrive, connection, life, forth, arrive))
        return True

    def appear(self, end: int) -> None:
        """Let the process at ``end`` be there: connections to it are made anew, and nothing old reaches it."""
        self._present[end] = None
        for connection in self._of(end):
            if connection.far == end:
                connection.life, connection.silent_since = None, None
                if connection.is_up:
                    self._lose_soon(connection, _GOODBYE_SECONDS)
            self._consider(connection)

    def vanish(self, end: int, *, says_goodbye: bool) -> None:
        """Take the process at ``end`` away; without a goodbye only silence tells."""
        self._present.pop(end, None)
        self._paused.pop(end, None)
        for connection in self._of(end):
            if connection.near == end:
                connection.is_up = connection.trying = False
            elif connection.is_up:
                if says_goodbye and not self._is_blocked(connection):
                    self._lose_soon(connection, _GOODBYE_SECONDS)
                else:
                    self._fall_silent(connection)

    def pause(self, end: int) -> None:
        """Stop the process at ``end`` without ending it."""
        self._paused[end] = None
        for connection in self._of(end):
            self._fall_silent(connection)

    def resume(self, end: int) -> None:
        """Let a paused process go on."""
        self._paused.pop(end, None)
        self._mend(self._of(end))

    def cut(self, ways: Iterable[Way]) -> None:
        """Cut ways: what is sent along them does not arrive."""
        self._cut.update(dict.fromkeys(ways))
        for connection in list(self._connections.values()):
            if self._is_blocked(connection):
                self._fall_silent(connection)

    def heal(self) -> None:
        """End all cuts and rules."""
        self._cut.clear()
        self._rules.clear()
        self._mend(list(self._connections.values()))

    def rule(self, ways: Iterable[Way], rule: Rule) -> None:
        """Treat the messages along ``ways`` as ``rule`` says."""
        self._rules.update(dict.fromkeys(ways, rule))

    def _of(self, end: int) -> list[Connection]:
        return [each for each in self._connections.values() if end in (each.near, each.far)]

    def _way(self, connection: Connection, forth: bool) -> Way:
        near = self._seats.get(connection.near, connection.near)
        if near is None:
            return (-1, -1)
        return (near, connection.far) if forth else (connection.far, near)

    def _is_cut(self, connection: Connection, forth: bool) -> bool:
        return bool(self._cut) and self._way(connection, forth) in self._cut

    def _is_blocked(self, connection: Connection) -> bool:
        return bool(self._cut) and (self._is_cut(connection, True) or self._is_cut(connection, False))

    def _is_broken(self, connection: Connection) -> bool:
        ends = (connection.near, connection.far)
        return any(end not in self._present or end in self._paused for end in ends) or self._is_blocked(connection)

    def _send_badly(
        self, connection: Connection, forth: bool, arrive: Callable[[], object], delay: float, rule: Rule
    ) -> bool:
        if rule.clog:
            connection.held.append((forth, arrive))
            return True
        rng, life = self._rng, connection.life
        delay += rule.delay + rng.random() * rule.jitter
        if rng.random() < rule.loss:
            self.lost_messages += 1
            return True
        at = max(self._timeline.now + delay, connection.latest[forth])
        if rng.random() < rule.overtake:
            at += rng.random() * 0.02
        else:
            connection.latest[forth] = at
        for _ in range(2 if rng.random() < rule.duplicate else 1):
            self._timeline.at(at, partial(self._arrive, connection, life, forth, arrive))
            at += rng.random() * 0.01
        return True

    def _arrive(self, connection: Connection, life: object, forth: bool, arrive: Callable[[], object]) -> None:
        if connection.life is not life or life is None:
            self.lost_messages += 1
        elif self._cut and self._is_cut(connection, forth):
            connection.held.append((forth, arrive))
        else:
            arrive()

    def _consider(self, connection: Connection) -> None:
        """Plan to establish a connection that is not up, where that is possible now."""
        if not connection.is_up and not connection.trying and not self._is_broken(connection):
            connection.trying = True
            self._timeline.at(
                self._timeline.now + self._rng.uniform(*_RECONNECT_SECONDS), partial(self._establish, connection)
            )

    def _establish(self, connection: Connection) -> None:
        connection.trying = False
        is_kept = self._connections.get((connection.near, connection.far)) is connection
        if not is_kept or connection.is_up or self._is_broken(connection):
            return
        if not connection.greet() or connection.far not in self._present:
            self._consider(connection)
            return
        connection.is_up, connection.life, connection.silent_since = True, object(), None
        connection.lives += 1
        connection.held.clear()
        connection.on_change(True)

    def _fall_silent(self, connection: Connection) -> None:
        if not connection.is_up or connection.silent_since is not None:
            return
        mark = connection.silent_since = object()
        wait = SILENCE_SECONDS + self._rng.random() * _SILENCE_JITTER_SECONDS
        life = connection.life
        self._timeline.at(self._timeline.now + wait, partial(self._miss_heartbeats, connection, life, mark))

    def _miss_heartbeats(self, connection: Connection, life: object, mark: object) -> None:
        if connection.silent_since is mark:
            self._lose(connection, life)

    def _lose_soon(self, connection: Connection, seconds: float) -> None:
        self._timeline.at(self._timeline.now + seconds, partial(self._lose, connection, connection.life))

    def _lose(self, connection: Connection, life: object) -> None:
        if connection.life is not life or not connection.is_up:
            return
        connection.is_up, connection.life, connection.silent_since = False, None, None
        self.lost_messages += len(connection.held)
        connection.held.clear()
        connection.on_change(False)
        self._consider(connection)

    def _mend(self, connections: list[Connection]) -> None:
        for connection in connections:
            if self._is_broken(connection):
                continue
            connection.silent_since = None
            if connection.held:
                held, connection.held = connection.held, []
                at = self._timeline.now + self._rng.uniform(*_REPEAT_SECONDS)
                for forth, arrive in held:
                    connection.latest[forth] = max(connection.latest[forth], at)
                    self._timeline.at(at, partial(self._arrive, connection, connection.life, forth, arrive))
            self._consider(connection)
