"""What the clients of a run do: shopping lists that must not lose an item.

Three kinds of keys, all judged by the ``set`` model of :mod:`kvbus.testing`:

==========  ============================================================================================
keys        what clients do with them
==========  ============================================================================================
``set-…``   add an element: read all siblings, write their union with it; or go on from one's own last
            write with the context of its reply; or write it alone, blindly; or only read. The
            keyspace's defaults, so that a lone side still answers
``firm-…``  the same with demands that make reads see writes (``r`` + ``w`` > N)
``own-…``   one element a key, put by one client and deleted by it later, with what it had read; or two
            elements that know nothing of each other, of which the first is deleted with its put's reply
==========  ============================================================================================

Now and then a client does several things at one instant, which then share frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import NamedTuple, cast

from kvbus.client import requests
from kvbus.client.options import PLAIN, Terms
from kvbus.client.replies import Fields, GetReply, Outcome, PutReply
from kvbus.client.scanning import Scan
from kvbus.client.url import DEFAULT_KEYSPACE
from kvbus.errors import ClientError
from kvbus.sim.timeline import Timeline
from kvbus.testing.history import Kind
from kvbus.testing.history import Outcome as Told
from kvbus.testing.recorder import Recorder
from kvbus.torture.ledger import Ledger
from kvbus.torture.script import Asked, Reading, Script, Writing

DEADLINE_MS = 2000
SET_KEYS, FIRM_KEYS, OWN_KEYS = "set-", "firm-", "own-"
_SEPARATOR = b","
_PAGE_KEYS = 10
_ERRANDS = (1, 1, 1, 4)
"""How many things a client does at one instant: each number equally often."""
_OPERATIONS = 2.4
"""How many operations that comes to on average, with those that follow from an answer."""


class Own(NamedTuple):
    """A client's own key, and what it would delete it with; ``ctx`` None: what it reads."""

    key: str
    element: str
    ctx: bytes | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Habits:
    """What all clients of a run have in common.

    ``keys`` of each kind there are; firm operations demand ``quorum`` replicas. Of a put that may be ``doubled`` on its
    way (see :attr:`kvbus.torture.plan.Plan.doubles`) a second version may be left that its reply does not cover, on
    some of its ``replicas``.
    """

    keys: int
    quorum: int
    replicas: int = 3
    doubled: bool = False


class Shopper:
    """One client: what it does follows from its own random numbers, and from what it is told."""

    def __init__(
        self,
        number: int,
        node: str | None,
        rng: Random,
        timeline: Timeline,
        recorder: Recorder,
        ledger: Ledger,
        habits: Habits,
    ) -> None:
        """``node`` is the only one that is asked; None: the client chooses."""
        self._number = number
        self._node = node
        self._rng = rng
        self._timeline = timeline
        self._recorder = recorder
        self._ledger = ledger
        self._habits = habits
        self._firm = {"r": habits.quorum, "w": habits.quorum}
        self._terms = Terms(DEFAULT_KEYSPACE, DEADLINE_MS, PLAIN)
        self._elements = 0
        self._own: list[Own] = []
        self._last: dict[str, tuple[bytes, bytes | None]] = {}

    def shop(self, seconds: float, rate: float) -> Script:
        """Do about ``rate`` operations a second for ``seconds``."""
        rng, end = self._rng, self._timeline.now + seconds
        while True:
            yield rng.expovariate(rate / _OPERATIONS)
            if self._timeline.now >= end:
                return
            for _ in range(rng.choice(_ERRANDS)):
                yield self._errand()

    def _errand(self) -> Script:
        rng = self._rng
        key = rng.choice((SET_KEYS, FIRM_KEYS)) + str(rng.randrange(self._habits.keys))
        draw = rng.random()
        if draw < 0.4:
            return self.read(key)
        if draw < 0.65:
            return self._add(key)
        if draw < 0.75:
            return self._add_behind(key)
        if draw < 0.8:
            return self._add_blindly(key)
        if draw < 0.9 or not self._own:
            return self._put_own()
        return self._delete_own(self._own.pop(rng.randrange(len(self._own))))

    def read(self, key: str, *, final: bool = False, **demand: int) -> Script:
        """Read all elements of a key; a final read is one that must show everything."""
        yield from self._read(key, demand or self._demand(key, "r"), final=final)

    def scan(self, keys: list[str], **demand: int) -> Script:
        """Read all keys by a scan, as final reads that must show everything; a key that it does not meet is empty."""
        numbers = {key: self._begin("read", key, final=True) for key in keys}
        pages = Scan(self._terms, b"", True, _PAGE_KEYS, demand)
        met: dict[str, list[bytes]] = {}
        while not pages.finished:
            told = yield pages.next_page(Asked)
            if told is None or isinstance(told, ClientError):
                for number in numbers.values():
                    self._fail(number, told)
                return
            met.update((entry.key.decode(), entry.values) for entry in pages.take(cast("Fields", told)))
        for key, number in numbers.items():
            self._recorder.end(number, self._timeline.now, "ok", found=elements_of(met.get(key, [])))

    def _read(self, key: str, demand: dict[str, int], *, final: bool = False) -> Reading:
        number = self._begin("read", key, final=final)
        found = yield requests.get(Asked, self._terms, key.encode(), demand)
        if not isinstance(found, GetReply):
            self._fail(number, found)
            return None
        elements = elements_of(found.values)
        self._recorder.end(number, self._timeline.now, "ok", found=elements, degraded=found.degraded)
        # A final read with the keyspace's own R may miss what another replica has; the one of all replicas may not.
        if not key.startswith(OWN_KEYS) and (demand or not final):
            self._ledger.shown(key, found.values, elements, is_final=final)
        return found

    def _add(self, key: str) -> Script:
        """Add to what is read."""
        found = yield from self._read(key, self._demand(key, "r"))
        if found is not None:
            yield from self._add_to(key, found.values, found.ctx)

    def _add_blindly(self, key: str) -> Script:
        yield from self._add_to(key, [], None)

    def _add_behind(self, key: str) -> Script:
        """Add to one's own last write with the context of its reply, which covers no more than that."""
        value, ctx = self._last.pop(key, (b"", None))
        yield from self._add_to(key, [value] if value else [], ctx)

    def _add_to(self, key: str, seen: list[bytes], ctx: bytes | None) -> Script:
        element = self._new_element()
        value = _SEPARATOR.join(sorted({*_split(seen), element.encode()}))
        told = yield from self._put(key, element, value, ctx)
        if told is not None:
            self._last[key] = (value, told.ctx)
            self._ledger.replaced(key, seen)

    def _put_own(self) -> Script:
        element = self._new_element()
        key = f"{OWN_KEYS}{element}"
        told = yield from self._put(key, element, element.encode(), None)
        is_alone = self._habits.doubled or self._rng.random() < 0.5
        if is_alone or told is None:
            self._own.append(Own(key, element, None))
            return
        self._own.append(Own(key, element, told.ctx))
        yield from self._put(key, stranger := self._new_element(), stranger.encode(), None)

    def _delete_own(self, own: Own) -> Script:
        key, element, ctx = own
        elements: tuple[str, ...] = (element,)
        if ctx is None:
            # Fewer may lack the second version.
            found = yield from self._read(key, {"r": self._habits.replicas} if self._habits.doubled else {})
            if found is None or element not in elements_of(found.values):
                self._own.append(own)
                return
            ctx, elements = found.ctx, elements_of(found.values)
        number = self._begin("remove", key, element=element)
        told = yield requests.delete(Asked, self._terms, key.encode(), ctx, {})
        self._take_written(number, told, found=elements)

    def _put(self, key: str, element: str, value: bytes, ctx: bytes | None) -> Writing:
        number = self._begin("add", key, element=element)
        told = yield requests.put(Asked, self._terms, key.encode(), value, ctx, self._demand(key, "w"))
        self._take_written(number, told)
        return told if isinstance(told, PutReply) else None

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
