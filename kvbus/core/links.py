"""The state of this node's links to its peers, from direct evidence only.

========  ==================================  ======================================================
state     entered when                        meaning
========  ==================================  ======================================================
down      at the start, on ``lost``           nothing is sent; replicas behind it are skipped at once
up        on ``established``                  frames are sent and answers expected
silent    nothing heard for ``silent_after``  frames are still sent, but nobody waits for the answer;
          while an answer is due              only a frame from the peer, or a new link, ends it
========  ==================================  ======================================================
"""

from __future__ import annotations

from math import inf

from kvbus.core.quorum import ReplicaSet
from kvbus.core.types import NodeIndex

_SAMPLES = 128
_REFRESH = 32


class PeerLink:
    """One peer: whether it can be reached, whether it owes answers, and how long answers take."""

    __slots__ = (
        "_cursor",
        "_fresh",
        "_samples",
        "hedge_after",
        "is_up",
        "owed",
        "silent_at",
        "unheard_bytes",
    )

    def __init__(self, hedge_first_seconds: float) -> None:
        self.is_up = False
        self.owed = 0
        self.unheard_bytes = 0
        # Silent from then on, unless it is heard before; inf while it owes nothing.
        self.silent_at = inf
        self.hedge_after = hedge_first_seconds
        self._samples: list[float] = []
        self._cursor = 0
        self._fresh = 0

    def observe(self, seconds: float, hedge_floor: float) -> None:
        """Add one answer's time; every so often the 99th percentile of the recent ones becomes ``hedge_after``."""
        if len(self._samples) < _SAMPLES:
            self._samples.append(seconds)
        else:
            self._samples[self._cursor] = seconds
            self._cursor = (self._cursor + 1) % _SAMPLES
        self._fresh += 1
        if self._fresh >= _REFRESH:
            self._fresh = 0
            ordered = sorted(self._samples)
            self.hedge_after = max(hedge_floor, ordered[len(ordered) * 99 // 100])


class Links:
    """All peers of one node.

    ``silent_after`` and the hedge bounds are in seconds. A read joins the next replica when one has not answered for
    ``hedge_after``: the 99th percentile of its recent answers, at least ``hedge_floor``, at first ``hedge_first``. A
    peer that was sent more than ``unheard_bytes`` since it was last heard gets no more writes: they would pile up here.
    """

    def __init__(
        self,
        me: NodeIndex,
        count: int,
        *,
        silent_after: float = 0.5,
        hedge_floor: float = 0.005,
        hedge_first: float = 0.05,
        unheard_bytes: int = 64 << 20,
    ) -> None:
        self.me = me
        self.silent_after = silent_after
        # No peer falls silent before.
        self.next_silence = inf
        self._hedge_floor = hedge_floor
        self._hedge_first = hedge_first
        self._links = [PeerLink(hedge_first) for _ in range(count)]
        # Its own disk is what this node may wait for.
        self._links[me].hedge_after = hedge_floor
        self._unheard_bytes = unheard_bytes
        self._up = 1 << me
        self._full = 0
        self.lost_total = 0

    def set(self, peer: NodeIndex, is_up: bool) -> None:
        """Take the transport's word that the link to ``peer`` was established or lost."""
        link = self._links[peer]
        if link.is_up and not is_up:
            self.lost_total += 1
        link.is_up = is_up
        link.owed = 0
        link.silent_at = inf
        self._emptied(peer)
        self._up = self._up | 1 << peer if is_up else self._up & ~(1 << peer)

    def reachable(self) -> int:
        """Return the nodes that frames can be sent to, as bits; this node is always one of them."""
        return self._up

    def responsive(self, now: float) -> int:
        """Return the reachable nodes that are not silent, as bits."""
        mask = self._up
        for peer, link in enumerate(self._links):
            if now >= link.silent_at:
                mask &= ~(1 << peer)
        return mask

    def look_ahead(self, now: float) -> bool:
        """Say whether a peer may have fallen silent since the last look; ``next_silence`` is when to look again."""
        if now < self.next_silence:
            return False
        self.next_silence = min((link.silent_at for link in self._links if link.silent_at > now), default=inf)
        return True

    def writable(self) -> int:
        """Return the reachable nodes that have room for more bytes before they say something, as bits."""
        return self._up & ~self._full

    def sent(self, peer: NodeIndex, now: float, size: int = 0) -> None:
        """Note that ``peer`` owes one more answer, to ``size`` bytes."""
        link = self._links[peer]
        link.owed += 1
        link.unheard_bytes += size
        if link.unheard_bytes > self._unheard_bytes:
            self._full |= 1 << peer
        if link.silent_at == inf:
            self._expect(link, now)

    def heard(self, peer: NodeIndex, now: float) -> None:
        """Note that something came from ``peer``."""
        link = self._links[peer]
        self._emptied(peer)
        if link.owed:
            self._expect(link, now)
        else:
            link.silent_at = inf

    def settled(self, peer: NodeIndex) -> None:
        """Note that one answer from ``peer`` came."""
        link = self._links[peer]
        self.forgiven(peer)
        if not link.owed:
            link.silent_at = inf

    def forgiven(self, peer: NodeIndex) -> None:
        """Note that one answer from ``peer`` is no longer waited for; a silent peer stays silent."""
        link = self._links[peer]
        if link.owed:
            link.owed -= 1

    def _expect(self, link: PeerLink, now: float) -> None:
        link.silent_at = now + self.silent_after
        if link.silent_at < self.next_silence:
            self.next_silence = link.silent_at

    def _emptied(self, peer: NodeIndex) -> None:
        self._links[peer].unheard_bytes = 0
        self._full &= ~(1 << peer)

    def observe(self, peer: NodeIndex, seconds: float) -> None:
        """Add the time that one read answer from ``peer`` took."""
        self._links[peer].observe(seconds, self._hedge_floor)

    def hedge_after(self, peer: NodeIndex) -> float:
        """Return how long, in seconds, to wait for ``peer`` before another replica is asked as well.

        For this node itself it is ``hedge_floor``.
        """
        return self._links[peer].hedge_after

    def candidates(self, replicas: ReplicaSet, turn: int, now: float) -> list[NodeIndex]:
        """Return the reachable replicas, best last: this node, then responsive peers in turn, silent ones first."""
        reachable, responsive = self._up, self.responsive(now)
        peers = [node for node in replicas.nodes if node != self.me and reachable >> node & 1]
        if len(peers) > 1:
            start = turn % len(peers)
            peers = peers[start:] + peers[:start]
            if reachable != responsive:
                peers.sort(key=lambda node: responsive >> node & 1)
        if replicas.mask >> self.me & 1:
            peers.append(self.me)
        return peers

    def states(self, now: float) -> dict[NodeIndex, str]:
        """Return each node's state by this node's own evidence: ``up``, ``silent`` or ``down``."""
        responsive = self.responsive(now)
        names: dict[NodeIndex, str] = {}
        for peer in range(len(self._links)):
            bit = 1 << peer
            names[NodeIndex(peer)] = "up" if responsive & bit else "silent" if self._up & bit else "down"
        return names
