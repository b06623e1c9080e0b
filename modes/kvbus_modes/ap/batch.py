"""Operations that share replicas and options, from their start to the last answer.

==========  ==========================================================================================
verdict     when
==========  ==========================================================================================
``MET``     the nodes that answered satisfy the requirement
``WAIT``    they do not yet, and those still awaited may
``SHORT``   a demand can no longer be met; or targets are missed and nobody responsive is awaited
==========  ==========================================================================================

Nodes are bits. ``answered``, ``lost`` and ``awaited`` are disjoint; an answer from a node that is not awaited any
more changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from kvbus.core.links import Links
from kvbus.core.quorum import ReplicaSet, Requirement
from kvbus.core.request import DEADLINE_SHARE, DEFAULT_OPTIONS, RequestColumns
from kvbus.core.types import BatchId, NodeIndex
from kvbus.errors import Corrupt
from kvbus_modes.ap.alarm import LOOK_SECONDS, on_grid

LINGER_SECONDS, _LINGER_STEP_SECONDS = 1.0, 0.05
"""How long a batch that was answered still waits for its other nodes: what they owe, and how slow they are."""
_STEP_SHARE = 0.05
"""A deadline is kept to this part of itself, and to ``LOOK_SECONDS``."""
DAMAGED_THERE = "another node's copy is damaged"
_NO_COLUMNS = RequestColumns("", "", DEFAULT_OPTIONS)


class Verdict(Enum):
    """What a batch's tally says."""

    MET = "met"
    WAIT = "wait"
    SHORT = "short"


class Batch:
    """The tally that reads and writes share."""

    __slots__ = (
        "answered",
        "awaited",
        "columns",
        "damage",
        "deadline",
        "id",
        "lost",
        "replicas",
        "replied",
        "requirement",
        "started",
    )

    def __init__(
        self, id: BatchId, columns: RequestColumns, replicas: ReplicaSet, requirement: Requirement, now: float
    ) -> None:
        self.id = id
        self.columns = columns
        self.replicas = replicas
        self.requirement = requirement
        self.started = now
        seconds = columns.options.deadline_ms * (DEADLINE_SHARE / 1000)
        self.deadline = on_grid(now + seconds, min(seconds * _STEP_SHARE, LOOK_SECONDS))
        self.answered = 0
        self.awaited = 0
        self.lost = 0
        self.replied = False
        # What is wrong with a replica's copy that cannot be read; empty where none was met.
        self.damage = ""

    def corrupt(self) -> Corrupt:
        """Say that damaged copies leave too few intact ones."""
        intact = (self.answered | self.awaited).bit_count()
        return Corrupt(
            f"{self.damage}; intact copies: {intact} of the {self.requirement.needed} asked for. Ask with fewer, write "
            "the key anew, or restore the node's data"
        )

    def verdict(self, responsive: int) -> Verdict:
        """Judge the tally; ``responsive`` are the nodes from which answers can be expected soon."""
        if self.requirement.met_by(self.answered):
            return Verdict.MET
        if self.requirement.demanded:
            return Verdict.WAIT if self.requirement.met_by(self.answered | self.awaited) else Verdict.SHORT
        return Verdict.WAIT if self.awaited & responsive else Verdict.SHORT

    def take_answer(self, node: NodeIndex) -> bool:
        """Move ``node`` from awaited to answered; False when it was not awaited."""
        bit = 1 << node
        if not self.awaited & bit:
            return False
        self.awaited &= ~bit
        self.answered |= bit
        return True

    def take_loss(self, node: NodeIndex) -> bool:
        """Move ``node`` from awaited to lost; False when it was not awaited."""
        bit = 1 << node
        if not self.awaited & bit:
            return False
        self.awaited &= ~bit
        self.lost |= bit
        return True

    def take_losses(self, nodes: Iterable[NodeIndex]) -> int:
        """Move those of ``nodes`` that are awaited to lost; return how many these were."""
        return sum(map(self.take_loss, dict.fromkeys(nodes)))

    def retire(self, now: float) -> None:
        """Let go of the operations, which were replied to; late answers are still counted, for a while."""
        self.columns = _NO_COLUMNS
        self.deadline = min(self.deadline, on_grid(now + LINGER_SECONDS - _LINGER_STEP_SECONDS, _LINGER_STEP_SECONDS))

    def release(self, links: Links) -> None:
        """Stop waiting: the links to nodes still awaited owe one answer less."""
        awaited = self.awaited
        while awaited:
            node = (awaited & -awaited).bit_length() - 1
            awaited &= awaited - 1
            if node != links.me:
                links.forgiven(NodeIndex(node))
        self.awaited = 0
