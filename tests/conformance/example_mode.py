"""A whole mode, the template for a third: a key lives on its first owner alone; a token counts the key's writes."""

from functools import partial

from kvbus.core.durably import Durably
from kvbus.core.keyspace import partition_of_key
from kvbus.core.locator import Locator
from kvbus.core.request import RequestColumns
from kvbus.core.tick import Effects, Tick
from kvbus.errors import ClientError, Conflict, ReadOnly, StaleEpoch
from kvbus.ports.mode import Mode, ModeContext

Answer = tuple[bytes, list[bytes] | None] | ClientError
OPERATIONS = {"get": frozenset[str](), "put": frozenset({"ctx"}), "delete": frozenset({"ctx"})}


class PrimaryMode(Mode):
    token_name = "ctx"

    def __init__(self, node: ModeContext) -> None:
        self._node, self._durably, self._pending = node, Durably(node.engine), 0
        self._locators = {name: Locator(node.topology, keyspace) for name, keyspace in node.keyspaces.items()}

    def step(self, tick: Tick, out: Effects) -> None:
        self._node.metrics.peer_protocol_errors_total += len(tick.frames)  # No frame is this mode's.
        self._durably.take(tick, out)
        for located in (part for columns in tick.requests for part in self._locators[columns.keyspace].locate(columns)):
            self._pending += len(located.engine_keys)
            answers = [self._serve(located.columns, i, key, out) for i, key in enumerate(located.engine_keys)]
            self._durably.when_synced(partial(self._answer, located.columns, answers), tick.now, out)

    def _serve(self, columns: RequestColumns, i: int, key: bytes, out: Effects) -> Answer:
        if self._node.topology.owners[partition_of_key(key)][0] != self._node.me:
            return StaleEpoch("another node is the key's first owner", details={"epoch": self._node.topology.epoch})
        record = self._node.engine.get(key) or bytes(9)  # The token, whether there is a value, the value.
        if columns.kind == "get":
            return record[:8], [record[9:]] if record[8] else []
        if columns.contexts[i] not in (None, record[:8]):
            return Conflict("the key was written since; read it again and write with its token")
        token, value = (int.from_bytes(record[:8], "big") + 1).to_bytes(8, "big"), columns.values[i]
        try:
            self._node.engine.apply([key], [token + (b"\0" if value is None else b"\1" + value)])
        except ReadOnly as error:
            return error
        out.commit = True
        return token, None

    def _answer(self, columns: RequestColumns, answers: list[Answer], durable: bool, now: float, out: Effects) -> None:
        self._pending -= len(answers)
        for call, slot, answer in zip(columns.calls, columns.slots, answers, strict=True):
            answer = answer if durable else ReadOnly("the disk is full; free some of it")
            if call.refuse(slot, answer) if isinstance(answer, ClientError) else call.settle(slot, *answer):
                out.reply(call)

    def pending(self) -> int:
        return self._pending


class PrimaryPlugin:
    name, frame_kinds, operations, create = "primary", range(0), OPERATIONS, PrimaryMode
