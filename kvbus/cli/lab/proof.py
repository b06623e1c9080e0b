"""The proof: what a cut, its heal, and a cut in one direction do to a cluster. Each claim is checked."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from time import monotonic

from kvbus.cli.lab.report import Report
from kvbus.cli.lab.stage import Stage
from kvbus.cli.lab.witness import Witness
from kvbus.core.sides import parted_ways

# A node that hears nothing drops the link after 1.5 s, and sends a heartbeat each half second. A new connection may
# first wait for pauses of TCP and of ZeroMQ that have doubled meanwhile.
_NOTICED_SECONDS = 6.0
_RECOVERED_SECONDS = 20.0
# Short enough for the answer to come before the cut is noticed.
_BEFORE_NOTICED_MS = 600
_ALL_COPIES = 3


def prove(stage: Stage, report: Report, tell: Callable[[str], None]) -> None:
    """Play all acts on a started stage; what is seen and measured goes to ``report``, a headline for each to ``tell``.

    Raises:
        LabFailed: a claim does not hold.
    """
    lone = stage.network.names[0]
    with Witness(stage, report, _key_on(stage, lone, "cart"), _key_on(stage, lone, "demand")) as witness:
        _Proof(stage, witness, tell).play()


class _Proof:
    """The acts. ``lone`` is cut off, ``far`` and ``third`` hold the other copies of the key."""

    def __init__(self, stage: Stage, witness: Witness, tell: Callable[[str], None]) -> None:
        self._network = stage.network
        self._witness = witness
        self._tell = tell
        names = stage.network.names
        self._lone = names[0]
        self._far, self._third = sorted(name for name in stage.replicas(witness.key) if name != self._lone)
        self._links = [(one, other) for one in names for other in names if one != other]

    def play(self) -> None:
        self._whole()
        self._parted()
        self._healed()
        self._parted_one_way()

    def _whole(self) -> None:
        self._begin("whole", "a value for both sides to start from")
        self._witness.put(self._lone, b"old", "ok", ctx=None)
        self._witness.connects(self._lone, self._far, True)

    def _parted(self) -> None:
        """Cut one node off; write on both sides, before and after the cut is noticed."""
        witness, names = self._witness, self._network.names
        sides = f"{self._lone} | {','.join(names[1:])}"
        seen = witness.get(self._far, [b"old"], "ok")
        self._begin(sides, "the first writes come before anybody has noticed")
        ways = parted_ways(sides, names)
        self._network.cut(ways)
        begun = monotonic()
        witness.put(self._lone, b"A", "degraded", ctx=seen.ctx)
        # Where this machine stalls, the cut is noticed first.
        witness.refused(self._lone, 2, "timeout", "no_quorum", deadline_ms=_BEFORE_NOTICED_MS)
        spent = monotonic() - begun
        noticed = witness.becomes("down", ways, _NOTICED_SECONDS)
        witness.report.measure("cut_noticed", "the cut is noticed at both ends", spent + max(noticed.values()))

        self._begin(f"{sides}, noticed", "each side answers what it can")
        witness.get(self._lone, [b"A"], "degraded")
        witness.refused(self._lone, 2, "no_quorum")
        witness.put(self._far, b"B", "ok", ctx=seen.ctx)
        witness.get(self._far, [b"B"], "ok")
        witness.refused(self._far, _ALL_COPIES, "no_quorum")
        witness.connects(self._lone, self._far, False)
        witness.connects(self._far, self._third, True)

    def _healed(self) -> None:
        self._begin("healed", "both writes are there, as siblings, until somebody replaces them")
        self._recover("recovered", "all links are up again after the heal")
        found = self._witness.get(self._lone, [b"A", b"B"], "ok", r=_ALL_COPIES)
        self._witness.put(self._third, b"A+B", "ok", ctx=found.ctx, w=_ALL_COPIES)
        self._witness.get(self._far, [b"A+B"], "ok", r=_ALL_COPIES)

    def _parted_one_way(self) -> None:
        """Lose what one node sends to another; a third node hears both.

        What comes back passes, as the datagram shows, but TCP stalls without acknowledgements and opens no connection.
        """
        witness, lone, far = self._witness, self._lone, self._far
        way = f"{lone} -> {far}"
        self._begin(way, "a datagram needs one direction, TCP both")
        self._network.cut(parted_ways(way, self._network.names))
        noticed = witness.becomes("down", [(lone, far), (far, lone)], _NOTICED_SECONDS)
        witness.report.measure("one_way_noticed_by_receiver", f"{way}: noticed by {far}", noticed[far, lone])
        witness.report.measure("one_way_noticed_by_sender", f"{way}: noticed by {lone}", noticed[lone, far])
        witness.arrives(lone, far, False)
        witness.arrives(far, lone, True)
        witness.connects(far, lone, False)
        witness.put(lone, b"C", "ok", ctx=None)
        witness.get(far, [b"A+B", b"C"], "ok")
        witness.refused(far, _ALL_COPIES, "no_quorum")
        for name in (lone, far):
            witness.hears(self._third, name)
        self._begin("healed again", "all copies are one")
        self._recover("one_way_recovered", "all links are up again after the second heal")
        found = witness.get(far, [b"A+B", b"C"], "ok", r=_ALL_COPIES)
        witness.put(lone, b"D", "ok", ctx=found.ctx, w=_ALL_COPIES)
        witness.get(self._third, [b"D"], "ok", r=_ALL_COPIES)

    def _recover(self, name: str, what: str) -> None:
        self._network.heal()
        back = self._witness.becomes("up", self._links, _RECOVERED_SECONDS)
        self._witness.report.measure(name, what, max(back.values()))

    def _begin(self, network: str, headline: str) -> None:
        self._witness.network = network
        self._tell(f"{network}: {headline}")


def _key_on(stage: Stage, name: str, word: str) -> bytes:
    """Return the first of ``word``, ``word-1``, … that the node ``name`` holds a copy of."""
    keys = (f"{word}-{number}".encode() if number else word.encode() for number in count())
    return next(key for key in keys if name in stage.replicas(key))
