"""Large histories of one key: many clients at once, slow answers, unknown outcomes; and violations planted in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from kvbus.testing import History, Kind, Operation


@dataclass(frozen=True, kw_only=True)
class Load:
    """What clients do: how many there are, what they ask, and how much the history tells."""

    clients: int = 10
    operations: int = 1_000
    kinds: Sequence[Kind] = ("put", "put", "get", "get", "cas")
    values: int | None = None
    revisions: bool = True
    unknown: int = 10


@dataclass(frozen=True, kw_only=True)
class _Call:
    """An operation before it is done; the register does it at ``moment``."""

    moment: float
    number: int
    client: int
    start: float
    end: float


def legal_history(load: Load, seed: int) -> History:
    """Return what the clients of a register are told; every value is written once unless ``values`` are few."""
    random = Random(seed)
    calls = sorted(_calls(load, random), key=lambda call: call.moment)
    unknown = frozenset(random.sample(range(len(calls)), load.unknown))
    value: str | None = None
    rev = last = 0
    operations: list[Operation] = []
    for call in calls:
        op = random.choice(load.kinds)
        expected = random.choice((rev, rev, last)) if op == "cas" else None
        written = f"v{call.number if load.values is None else random.randrange(load.values)}"
        asked = Operation(
            client=call.client,
            op=op,
            key="k",
            start=call.start,
            end=call.end,
            value=written if op in ("put", "cas") else None,
            expected=expected,
        )
        conflicts = expected is not None and expected != rev
        is_unknown = call.number in unknown
        if op != "get" and not conflicts and not (is_unknown and random.random() < 0.5):
            value, last = asked.value, last + 1
            rev = last if value is not None else 0
        if not is_unknown:
            told = last if op == "delete" else rev
            asked = _answered(asked, value, told if load.revisions else None, conflicts)
        operations.append(asked)
    operations.sort(key=lambda operation: operation.start)
    return History(tuple(operations))


def _calls(load: Load, random: Random) -> list[_Call]:
    calls: list[_Call] = []
    for client in range(load.clients):
        now = random.random() / 100
        for _ in range(load.operations):
            end = now + 0.0001 + random.expovariate(100) * random.choice((1, 1, 1, 4))
            calls.append(_Call(moment=random.uniform(now, end), number=len(calls), client=client, start=now, end=end))
            now = end + 0.000001 + random.expovariate(1_000)
    return calls


def _answered(asked: Operation, value: str | None, rev: int | None, conflicts: bool) -> Operation:
    if conflicts:
        return replace(asked, outcome="failed", error="conflict", rev=rev)
    if asked.op == "get":
        return replace(asked, outcome="ok", found=() if value is None else (value,), rev=rev)
    return replace(asked, outcome="ok", rev=rev)


def with_stale_read(history: History, at_share: float) -> tuple[History, Operation]:
    """Return the history with one read, after this share of it, that tells what a read half a second before told."""
    operations = list(history.operations)
    first = int(len(operations) * at_share)
    for place, late in enumerate(operations[first:], first):
        if late.op != "get" or not late.found:
            continue
        for early in reversed(operations[:place]):
            is_old = early.end is not None and late.start - 1 < early.end < late.start - 0.5
            if is_old and early.op == "get" and early.found and early.found != late.found:
                operations[place] = replace(late, found=early.found, rev=early.rev)
                return History(tuple(operations)), operations[place]
    raise ValueError("no read of the history can be made stale")
