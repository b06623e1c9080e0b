"""What the clients of a run do: shopping lists that must not lose an item.

Three kinds of keys, all judged by the ``set`` model of :mod:`kvbus.testing`:

==========  ============================================================================================
keys        what clients do with them
==========  ============================================================================================
``set-…``   add an element: read all siblings, write their union with it; or go on from one's own last
            write with the context of its reply; or write it alone, blindly; or only read. The
            keyspace's defaults, so that a lone side still answers
``firm-…``  the same with demands that make reads see writes (``r`` + ``w`` > N)
``own-…``   one element a key, put by one client and deleted by it later, with what it had read
==========  ============================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from random import Random
from typing import cast

from kvbus.client import requests
from kvbus.client.operation import Operation
from kvbus.client.options import PLAIN, Terms
from kvbus.client.replies import GetReply, Outcome, PutReply
from kvbus.client.url import DEFAULT_KEYSPACE
from kvbus.errors import ClientError
from kvbus.sim.client import ClientShell
from kvbus.sim.timeline import Timeline
from kvbus.testing.history import Kind
from kvbus.testing.history import Outcome as Told
from kvbus.testing.recorder import Recorder

DEADLINE_MS = 2000
SET_KEYS, FIRM_KEYS, OWN_KEYS = "set-", "firm-", "own-"
_SEPARATOR = b","

Script = Generator["float | Operation", "Outcome | None", None]
Reading = Generator["float | Operation", "Outcome | None", GetReply | None]


class _Asked(Operation):
    """An operation whose outcome resumes a script."""

    __slots__ = ("resume",)

    resume: Callable[[Outcome], None]

    def settle(self, outcome: Outcome) -> None:
        """Go on with the script that waits."""
        self.resume(outcome)


class Runner:
    """Runs a script in virtual time: it yields seconds to sleep, or an operation whose outcome it wants."""

    def __init__(self, timeline: Timeline, shell: ClientShell, script: Script) -> None:
        self._timeline = timeline
        self._shell = shell
        self._script = script
        self._go_on(None)

    def _go_on(self, outcome: Outcome | None) -> None:
        try:
            wanted = self._script.send(outcome)
        except StopIteration:
            return
        if isinstance(wanted, Operation):
            cast("_Asked", wanted).resume = self._go_on
            self._shell.submit(wanted)
        else:
            self._timeline.at(self._timeline.now + wanted, lambda: self._go_on(None))


class Shopper:
    """One client: what it does follows from its own random numbers, and from what it is told."""

    def __init__(
        self, number: int, node: str, rng: Random, timeline: Timeline, recorder: Recorder, *, keys: int, quorum: int
    ) -> None:
        """``keys`` of each kind there are; firm operations demand ``quorum`` replicas."""
        self._number = number
        self._node = node
        self._rng = rng
        self._timeline = timeline
        self._recorder = recorder
        self._keys = keys
        self._firm = {"r": quorum, "w": quorum}
        self._terms = Terms(DEFAULT_KEYSPACE, DEADLINE_MS, PLAIN)
        self._elements = 0
        self._own: list[tuple[str, str]] = []
        self._last: dict[str, tuple[bytes, bytes | None]] = {}

    def shop(self, seconds: float, rate: float) -> Script:
        """Do about ``rate`` operations a second for ``seconds``."""
        rng, end = self._rng, self._timeline.now + seconds
        while True:
            yield rng.expovariate(rate)
            if self._timeline.now >= end:
                return
            key = rng.choice((SET_KEYS, FIRM_KEYS)) + str(rng.randrange(self._keys))
            draw = rng.random()
            if draw < 0.4:
                yield from self.read(key)
            elif draw < 0.65:
                yield from self._add(key)
            elif draw < 0.75:
                yield from self._add_behind(key)
            elif draw < 0.8:
                yield from self._add_blindly(key)
            elif draw < 0.9 or not self._own:
                yield from self._put_own()
            else:
                yield from self._delete_own()

    def read(self, key: str, *, final: bool = False, **demand: int) -> Script:
        """Read all elements of a key; a final read is one that must show everything."""
        yield from self._read(key, demand or self._demand(key, "r"), final=final)

    def _read(self, key: str, demand: dict[str, int], *, final: bool = False) -> Reading:
        number = self._begin("read", key, final=final)
        found = yield requests.get(_Asked, self._terms, key.encode(), demand)
        if not isinstance(found, GetReply):
            self._fail(number, found)
            return None
        elements = elements_of(found.values)
        self._recorder.end(number, self._timeline.now, "ok", found=elements, degraded=found.degraded)
        return found

    def _add(self, key: str) -> Script:
        """Add to what is read."""
        found = yield from self._read(key, self._demand(key, "r"))
        if found is not None:
            yield from self._add_to(key, _split(found.values), found.ctx)

    def _add_blindly(self, key: str) -> Script:
        yield from self._add_to(key, set(), None)

    def _add_behind(self, key: str) -> Script:
        """Add to one's own last write with the context of its reply, which covers no more than that."""
        value, ctx = self._last.pop(key, (b"", None))
        yield from self._add_to(key, _split([value]) if value else set(), ctx)

    def _add_to(self, key: str, elements: set[bytes], ctx: bytes | None) -> Script:
        element = self._new_element()
        value = _SEPARATOR.join(sorted({*elements, element.encode()}))
        yield from self._written(self._begin("add", key, element=element), key, value, ctx)

    def _put_own(self) -> Script:
        element = self._new_element()
        key = f"{OWN_KEYS}{element}"
        self._own.append((key, element))
        yield from self._written(self._begin("add", key, element=element), key, element.encode(), None)

    def _delete_own(self) -> Script:
        place = self._rng.randrange(len(self._own))
        key, element = self._own[place]
        found = yield from self._read(key, {})
        if found is None or element not in elements_of(found.values):
            return
        del self._own[place]
        number = self._begin("remove", key, element=element)
        told = yield requests.delete(_Asked, self._terms, key.encode(), found.ctx, {})
        self._take_written(number, told, found=elements_of(found.values))

    def _written(self, number: int, key: str, value: bytes, ctx: bytes | None) -> Script:
        told = yield requests.put(_Asked, self._terms, key.encode(), value, ctx, self._demand(key, "w"))
        if isinstance(told, PutReply):
            self._last[key] = (value, told.ctx)
        self._take_written(number, told)

    def _take_written(self, number: int, told: Outcome | None, found: tuple[str, ...] | None = None) -> None:
        if isinstance(told, PutReply):
            self._recorder.end(number, self._timeline.now, "ok", degraded=told.degraded, found=found)
        else:
            self._fail(number, told, found=found)

    def _demand(self, key: str, which: str) -> dict[str, int]:
        return {which: self._firm[which]} if key.startswith(FIRM_KEYS) else {}

    def _new_element(self) -> str:
        self._elements += 1
        return f"{self._number}.{self._elements}"

    def _begin(self, op: Kind, key: str, *, element: str | None = None, final: bool = False) -> int:
        now = self._timeline.now
        return self._recorder.begin(now, self._number, op, key, element=element, node=self._node, final=final)

    def _fail(self, number: int, told: Outcome | None, found: tuple[str, ...] | None = None) -> None:
        definite = isinstance(told, ClientError) and told.definite
        outcome: Told = "failed" if definite else "unknown"
        self._recorder.end(number, self._timeline.now, outcome, error=_code(told), found=found)


def elements_of(values: list[bytes]) -> tuple[str, ...]:
    """Return the elements that siblings hold together, sorted."""
    return tuple(element.decode() for element in sorted(_split(values)))


def _split(values: list[bytes]) -> set[bytes]:
    return {element for value in values for element in value.split(_SEPARATOR)}


def _code(told: Outcome | None) -> str | None:
    return told.code if isinstance(told, ClientError) else None
