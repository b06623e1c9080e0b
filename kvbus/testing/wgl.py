"""The search for a legal order of one key's operations.

Wing and Gong's search in Lowe's form. A step takes an entry that may be next: one that was called before every entry
that is left has returned. Entries that are left hang in a linked list by their calls, so that taking one and putting it
back costs the same wherever it is. What was tried is remembered as (entries taken, state of the key), and not tried
again. There is no recursion.

Four rules keep the search narrow, and each leaves a legal order where there was one:

- *What changes nothing is taken at once.* If an entry may be next and leaves the state as it is, then a legal order
  that has it later stays legal with it here: everybody sees the same states as before.
- *What nobody saw goes before the next write.* A put or delete on which nothing rests (``idle``), if it may be next,
  can be moved from its later place in a legal order to just before a put or delete: what it left there was overwritten
  unseen, and is so here. Idle writes go together, since nobody can tell which one was last.
- *Unknown writes that do the same are taken by call.* Two of them can change places in a legal order, since neither
  has a return, and the one that was called first may stand wherever the other one does.
- *Fewer unknown writes used are better.* If the same required entries led to the same state with a subset of the
  unknown writes, then whatever can follow here could follow there.

Source: J. M. Wing and C. Gong, "Testing and Verifying Concurrent Objects" (J. Parallel Distrib. Comput. 17, 1993);
G. Lowe, "Testing for linearizability" (Concurrency and Computation 29, 2017).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kvbus.testing.register import INITIAL, NONE_DENIED, OPEN, Entry, State, step
from kvbus.testing.windows import Windows


class Found(NamedTuple):
    """What the search found: a legal order, or None; ``decided`` is False where the budget ended it."""

    order: list[Entry] | None
    decided: bool
    visited: int


class _Choice(NamedTuple):
    """Entries that may be taken one after the other, and the state after them; the least ``urgency`` goes first."""

    urgency: int
    numbers: tuple[int, ...]
    state: State


class _Frame(NamedTuple):
    """A step taken: its entry, what else could have been taken, and what to return to."""

    number: int
    others: list[_Choice]
    state: State
    low: int
    taken: int
    used: int


def search(given: Windows, budget: int) -> Found:
    """Look for a legal order of all required entries and any of the optional ones.

    ``budget`` bounds the states in which there was a choice; a state is visited once.
    """
    return _Search(given).run(budget)


class _Search:
    """One search. Entries are numbers: required ones from 0 in the order of their calls, then the optional ones.

    The required entries that were taken are ``low``, all numbers below it, and the bits of ``taken``, counted from
    ``low``; ``used`` has the optional ones as bits.
    """

    def __init__(self, given: Windows) -> None:
        self.entries = [*given.required, *given.optional]
        self.count = len(given.required)
        self.calls = [entry.call for entry in given.required]
        self.returns = [entry.ret for entry in given.required]
        # One place more than there are entries is the list's end and beginning: nobody is called later than it.
        self.calls.append(OPEN)
        self.after = [*range(1, self.count + 1), 0]
        self.before = [self.count, *range(self.count)]
        self.twins = _twins(given.optional)
        self.state = INITIAL
        self.low = self.taken = self.used = 0
        self.frames: list[_Frame] = []

    def run(self, budget: int) -> Found:
        tried: dict[tuple[int, int, State], list[int]] = {}
        visited = 0
        while self.after[self.count] != self.count:
            free, others = self.candidates()
            if free is not None:
                self.take(free, self.state, [])
                continue
            if others and self.is_new(tried):
                visited += 1
                if visited > budget:
                    return Found(None, False, budget)
            else:
                others = self.back()
                if not others:
                    return Found(None, True, visited)
            choice = others.pop()
            for number in choice.numbers:
                self.take(number, choice.state, others)
                others = []
        return Found([self.entries[frame.number] for frame in self.frames], True, visited)

    def candidates(self) -> tuple[int | None, list[_Choice]]:
        """Return an entry that may be next and changes nothing; else all choices, the most urgent one last."""
        state, calls, returns, after, entries = self.state, self.calls, self.returns, self.after, self.entries
        first_return = OPEN
        idle: tuple[int, ...] = ()
        possible: list[tuple[int, State]] = []
        number = after[self.count]
        while calls[number] < first_return:
            if returns[number] < first_return:
                first_return = returns[number]
            entry = entries[number]
            if entry.idle:
                idle += (number,)
            else:
                then = step(entry, state)
                if then is state:
                    return number, []
                if then is not None:
                    possible.append((number, then))
            number = after[number]
        others = [self.choice(number, then, idle) for number, then in possible]
        others += [self.choice(number, then, idle) for number, then in self.unknown(first_return)]
        if idle:
            left = State(entries[idle[-1]].value, state.floor, False, NONE_DENIED)
            others.append(_Choice(min(returns[number] for number in idle), idle, left))
        others.sort(key=_urgency, reverse=True)
        return None, others

    def choice(self, number: int, then: State, idle: tuple[int, ...]) -> _Choice:
        entry = self.entries[number]
        return _Choice(entry.ret, (*idle, number) if entry.blind else (number,), then)

    def unknown(self, first_return: int) -> Iterator[tuple[int, State]]:
        """Yield the unknown writes that may be next, and the state after each."""
        for place, twin in enumerate(self.twins):
            entry = self.entries[self.count + place]
            if entry.call > first_return:
                return
            if not self.used >> place & 1 and (twin < 0 or self.used >> twin & 1):
                then = step(entry, self.state)
                if then is not None and then != self.state:
                    yield self.count + place, then

    def is_new(self, tried: dict[tuple[int, int, State], list[int]]) -> bool:
        """Remember where the search is; False where it was here with the same or fewer unknown writes used."""
        earlier = tried.setdefault((self.low, self.taken, self.state), [])
        used = self.used
        for mask in earlier:
            if mask & used == mask:
                return False
        earlier.append(used)
        return True

    def take(self, number: int, state: State, others: list[_Choice]) -> None:
        self.frames.append(_Frame(number, others, self.state, self.low, self.taken, self.used))
        self.state = state
        if number >= self.count:
            self.used |= 1 << (number - self.count)
            return
        before, after = self.before[number], self.after[number]
        self.after[before], self.before[after] = after, before
        taken = self.taken | 1 << (number - self.low)
        # The ones at the lower end of ``taken`` move into ``low``.
        full = (~taken & (taken + 1)).bit_length() - 1
        self.low += full
        self.taken = taken >> full

    def back(self) -> list[_Choice]:
        """Undo steps until one had others to take, and return those; nothing where none had."""
        while self.frames:
            number, others, self.state, self.low, self.taken, self.used = self.frames.pop()
            if number < self.count:
                before, after = self.before[number], self.after[number]
                self.after[before] = self.before[after] = number
            if others:
                return others
        return []


def _urgency(choice: _Choice) -> int:
    return choice.urgency


def _twins(optional: list[Entry]) -> list[int]:
    """Return for each unknown write the place of the one before it that does the same, or -1."""
    latest: dict[tuple[object, ...], int] = {}
    twins: list[int] = []
    for place, entry in enumerate(optional):
        deed = (entry.value, entry.reads, entry.wanted, entry.exists, entry.seen)
        twins.append(latest.get(deed, -1))
        latest[deed] = place
    return twins
