"""All faults in force at one node, and the operations that set and end them. No socket is touched here.

A cut of either direction ends the link: at first frames vanish while it is up, and after the silence that the
transport allows it is down until no end cuts it any more. That is what TCP makes of a one-way cut too: of a connection
whose segments or acknowledgements are lost neither end hears in time, both drop it, and a new one needs both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from kvbus.core.faults import FaultyWay
from kvbus.core.types import NodeIndex
from kvbus.wire.fault_requests import End, FaultOrder, fault_order, rule_map

Deliver = Callable[[NodeIndex, list[bytes]], object]


def _nobody(peer: NodeIndex, frames: list[bytes]) -> None:
    """Take frames that nobody wants: the port that would is not there yet."""


class Stream:
    """The ways of one sort of traffic, by peer, and who takes the frames that arrive late."""

    def __init__(self) -> None:
        self.ways: dict[NodeIndex, FaultyWay] = {}
        self.deliver: Deliver = _nobody


class LinkFaults:
    """The rules of one node, named ``me``, towards the others in ``names`` (all nodes by short id).

    ``peers`` maps those others to their short ids, in order. ``outgoing`` and ``incoming`` hold peer frames,
    ``published`` gossip. ``is_active`` is all that a node looks at while it has no rules. ``cut_since`` holds the peers
    to or from which everything is lost, with the time of the first such cut. ``alarm`` is called with the time at which
    ``release`` is wanted next.
    """

    def __init__(self, me: str, names: Sequence[str], random: Random) -> None:
        self.peers = {name: NodeIndex(i) for i, name in enumerate(names) if name != me}
        self.outgoing, self.incoming, self.published = Stream(), Stream(), Stream()
        self.is_active = False
        self.cut_since: dict[NodeIndex, float] = {}
        self.alarm: Callable[[float], None] = lambda at: None
        self._me = me
        self._names = names
        self._random = random
        self._lost_before = 0

    def obey(self, op: str, fields: Mapping[str, object], now: float) -> dict[str, object]:
        """Perform one ``admin.*`` operation; return the reply's fields, the rules in force after it.

        Raises:
            BadRequest: a field is missing or wrong.
        """
        if op == "admin.heal":
            self._heal(now)
        elif op != "admin.faults":
            self._add(fault_order(op, fields, self._names), now)
        return {"rules": self.rules()}

    def rules(self) -> list[dict[str, object]]:
        """Return every rule in force with what it has lost and holds on its way."""
        sides: tuple[tuple[End, Stream], ...] = (("sender", self.outgoing), ("receiver", self.incoming))
        found: list[dict[str, object]] = []
        for end, stream in sides:
            for peer, way in stream.ways.items():
                other = self._names[peer]
                ends = (self._me, other) if end == "sender" else (other, self._me)
                found += [
                    rule_map(ends, rule, at=end, lost=way.lost, held_bytes=way.held_bytes)
                    for rule in way.rules.values()
                ]
        return found

    def counters(self) -> dict[str, int]:
        """Return how many rules are in force and how many peer frames were lost to rules."""
        ways = [*self.outgoing.ways.values(), *self.incoming.ways.values()]
        return {
            "fault_rules": sum(len(way.rules) for way in ways),
            "fault_lost_frames_total": self._lost_before + sum(way.lost for way in ways),
        }

    def taken(self, stream: Stream, peer: NodeIndex, frames: Sequence[bytes], now: float) -> list[bytes]:
        """Send ``frames`` through the rules of their way, if it has any; return what arrives at once."""
        way = stream.ways.get(peer)
        if way is None:
            return [*frames]
        passing = [each for frame in frames for each in way.take(frame, now)]
        if way.due_at is not None:
            self.alarm(way.due_at)
        return passing

    def release(self, now: float) -> None:
        """Deliver what is due and let go of healed ways that are empty."""
        for stream in (self.outgoing, self.incoming, self.published):
            for peer, way in list(stream.ways.items()):
                late = way.arrivals(now)
                if late:
                    stream.deliver(peer, late)
                if way.due_at is not None:
                    self.alarm(way.due_at)
                if way.is_idle:
                    del stream.ways[peer]
                    self._lost_before += way.lost if stream is not self.published else 0
        self.is_active = any(stream.ways for stream in (self.outgoing, self.incoming, self.published))

    def _add(self, order: FaultOrder, now: float) -> None:
        for (sender, receiver), rule in order.rules:
            if sender == self._me and "sender" in order.ends:
                peer, streams = self.peers[receiver], [self.outgoing, self.published]
            elif receiver == self._me and "receiver" in order.ends:
                peer, streams = self.peers[sender], [self.incoming]
            else:
                continue
            for stream in streams:
                way = stream.ways.setdefault(peer, FaultyWay(self._random))
                way.add(rule)
            if any(peer in stream.ways and stream.ways[peer].is_cut for stream in (self.outgoing, self.incoming)):
                self.cut_since.setdefault(peer, now)
            else:
                self.cut_since.pop(peer, None)
            self.is_active = True

    def _heal(self, now: float) -> None:
        self.cut_since = {}
        for stream in (self.outgoing, self.incoming, self.published):
            for way in stream.ways.values():
                way.heal()
        if self.is_active:
            self.alarm(now)
