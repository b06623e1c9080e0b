"""How a client gets to know a cluster: ``hello`` once, ``topology`` then and whenever it may have changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from kvbus.client.operation import Operation
from kvbus.client.options import Terms
from kvbus.client.packing import FRAME_KEYS
from kvbus.client.replies import MalformedReply, Outcome
from kvbus.client.routing import RoutingTable
from kvbus.client.url import DEFAULT_KEYSPACE
from kvbus.errors import Unauthorized, UnknownOp

PROTOCOL_VERSION = 1
_DEADLINE_MS = 2000
_PAUSE_SECONDS = 1.0


class _Question(Operation):
    __slots__ = ("introduction",)

    def __init__(self, introduction: Introduction, kind: str, fields: tuple[tuple[str, object], ...] = ()) -> None:
        super().__init__(kind, Terms(DEFAULT_KEYSPACE, _DEADLINE_MS, fields), None)
        self.introduction = introduction

    def settle(self, outcome: Outcome) -> None:
        """Hand the answer on instead of keeping it."""
        self.introduction.answered(self.kind, outcome)


class Introduction:
    """Asks, and keeps what was learnt: ``table`` (None until known) and the largest batch a node takes.

    ``fresh`` tells that a new table came in. At most one question of each kind is open, and after an answer there is a
    pause of a second before the topology is asked for again.
    """

    def __init__(self, client_name: str) -> None:
        self.table: RoutingTable | None = None
        self.fresh = False
        self.batch_keys = FRAME_KEYS
        self._client_name = client_name
        self._greeted = False
        self._asking = False
        self._wanted = True
        self._not_before = 0.0

    def ask_again(self) -> None:
        """Want the topology anew, after a pause since the last question."""
        self._wanted = True

    def questions(self, now: float) -> list[Operation]:
        """Return what is to be asked now; a node must be there to be asked."""
        if not self._wanted or self._asking or now < self._not_before:
            return []
        self._asking, self._wanted, self._not_before = True, False, now + _PAUSE_SECONDS
        asked: list[Operation] = [_Question(self, "topology")]
        if not self._greeted:
            self._greeted = True
            asked.insert(0, _Question(self, "hello", (("client", self._client_name), ("v", PROTOCOL_VERSION))))
        for question in asked:
            question.deadline = now + _DEADLINE_MS * 0.001
        return asked

    def answered(self, kind: str, outcome: Outcome) -> None:
        """Learn from an answer; without one, ask again later."""
        if kind == "hello":
            self._learn_limits(outcome)
            return
        self._asking = False
        if isinstance(outcome, Mapping):
            try:
                table = RoutingTable.from_reply(outcome)
            except MalformedReply:
                return  # A topology that this client cannot use: any node answers any key.
            if self.table is None or table.epoch >= self.table.epoch:
                self.table, self.fresh = table, True
        elif not isinstance(outcome, UnknownOp | Unauthorized):
            self._wanted = True

    def _learn_limits(self, outcome: Outcome) -> None:
        limits = outcome.get("limits") if isinstance(outcome, Mapping) else None
        if isinstance(limits, Mapping):
            batch_keys = cast("Mapping[str, object]", limits).get("batch_keys")
            if type(batch_keys) is int and batch_keys > 0:
                self.batch_keys = min(FRAME_KEYS, batch_keys)
