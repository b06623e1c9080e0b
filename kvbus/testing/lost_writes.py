"""No acknowledged write is lost: sets that clients add elements to and remove elements from.

An available store may answer with old values while links are cut, so reads on the way are judged for one thing only:
that nothing is in them that nobody had added. What was promised is judged by the final reads, when everything is healed
and repaired. Each key is a set of its own. In every final read that began after the answer

- an element whose add was acknowledged is there, unless somebody may have removed it: else it is *lost*;
- an element that was removed, by somebody who had seen it, is not there: else it is *resurrected*;
- and in every read, final or not, each element has an add that began before and was not refused: else it is *invented*.

Adds and removes with an unknown outcome may have happened or not, and what hangs on them goes either way. A remove has
seen what its ``found`` names; without that, what its client had added, acknowledged, or read before. An element that
was added more than once is never resurrected: the other add may have been later.

Source: the set workload of Jepsen (jepsen.io), with removes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import NamedTuple

from kvbus.testing.history import SET_KINDS, History, Operation
from kvbus.testing.verdict import Verdict
from kvbus.testing.wording import counted, details_of, listed, quoted

_CHECKER = "lost writes"
_KINDS = ("lost", "resurrected", "invented")
_DETAILED = 20


class _Fault(NamedTuple):
    """An element that a read shows and should not, or should show and does not."""

    kind: str
    key: str
    element: str
    read: Operation


def lost_writes(history: History) -> Verdict:
    """Judge whether the final reads of each set hold what was acknowledged, and no read what was never added.

    Without an answered final read of every set that something was added to, the verdict is undecided.
    """
    sets = {key: _Set(operations) for key, operations in history.by_key(SET_KINDS).items()}
    if not sets:
        return Verdict(checker=_CHECKER, ok=None, reason="there is no operation of a set", judged=0)
    faults = [fault for key, each in sets.items() for fault in each.faults(key)]
    final_reads = sum(len(each.final_reads) for each in sets.values())
    unread = [key for key, each in sets.items() if each.acknowledged and not each.final_reads]
    counters = {
        "acknowledged": sum(len(each.acknowledged) for each in sets.values()),
        "removed": sum(len(each.removed) for each in sets.values()),
        "final_reads": final_reads,
        **{kind: sum(fault.kind == kind for fault in faults) for kind in _KINDS},
    }
    if faults:
        ok, reason = False, "; ".join(_told(faults, counters))
    elif unread or not final_reads:
        names = listed(unread) if unread else "any set"
        ok, reason = None, f"there is no final read of {names}; read when all is repaired and mark the read final"
    else:
        promised = (
            f"{counted(counters['acknowledged'], 'acknowledged element')}, {counted(counters['removed'], 'removal')}"
        )
        ok, reason = True, f"{promised}: {counted(final_reads, 'final read')} as promised"
    return Verdict(
        checker=_CHECKER,
        ok=ok,
        reason=reason,
        judged=sum(each.operations for each in sets.values()),
        details=details_of((_line(fault, sets[fault.key]) for fault in faults), len(faults), _DETAILED),
        counters=counters,
    )


class _Set:
    """The history of one key: who added and removed what, and who read it.

    ``removers`` has, for each element, the removes that may have taken it away: with what they had seen.

    ``acknowledged`` has the elements with an acknowledged add, ``removed`` those whose removal is judged and when the
    first remove of that kind ended, ``final_reads`` the answered ones.
    """

    def __init__(self, operations: list[Operation]) -> None:
        self.operations = len(operations)
        self.adds: dict[str, list[Operation]] = {}
        self.removes: dict[str, list[Operation]] = {}
        self.removers: dict[str, list[Operation]] = {}
        self.reads = [each for each in operations if each.op == "read" and each.outcome == "ok"]
        self.final_reads = [each for each in self.reads if each.final]
        for each in operations:
            if each.element is not None and each.outcome != "failed":
                (self.adds if each.op == "add" else self.removes).setdefault(each.element, []).append(each)
            if each.op == "remove" and each.outcome != "failed":
                for element in (each.element or "",) if each.found is None else each.found:
                    self.removers.setdefault(element, []).append(each)
        self.acknowledged = {
            element: None for element, adds in self.adds.items() if any(add.outcome == "ok" for add in adds)
        }
        self.removed = self._removed()

    def faults(self, key: str) -> list[_Fault]:
        """Return what is wrong, each element once a kind: with the first read that shows it."""
        faults: dict[tuple[str, str], _Fault] = {}
        for read in self.reads:
            for kind, element in self._wrong_in(read):
                faults.setdefault((kind, element), _Fault(kind, key, element, read))
        return list(faults.values())

    def _wrong_in(self, read: Operation) -> Iterator[tuple[str, str]]:
        found = dict.fromkeys(read.found or ())
        for element in found:
            if not any(add.start <= _end(read) for add in self.adds.get(element, ())):
                yield "invented", element
            elif read.final and self.removed.get(element, inf) < read.start:
                yield "resurrected", element
        if read.final:
            for element in self.acknowledged:
                if element not in found and self._must_be_in(element, read):
                    yield "lost", element

    def _must_be_in(self, element: str, read: Operation) -> bool:
        """Say whether an add was acknowledged before the read that no remove can have met."""
        removes = [each for each in self.removers.get(element, ()) if each.start <= _end(read)]
        return any(
            add.outcome == "ok" and _end(add) < read.start and all(_end(each) < add.start for each in removes)
            for add in self.adds[element]
        )

    def _removed(self) -> dict[str, float]:
        """Return the elements that a remove must have taken away for good, and when."""
        known = self._known()
        removed: dict[str, float] = {}
        for element, removes in self.removes.items():
            adds = self.adds.get(element, [])
            if len(adds) != 1 or adds[0].outcome != "ok":
                continue
            for remove in removes:
                if remove.found is None:
                    has_seen = known.get((remove.client, element), inf) <= remove.start
                else:
                    has_seen = element in remove.found
                if remove.outcome == "ok" and has_seen and _end(adds[0]) < remove.start:
                    removed[element] = min(_end(remove), removed.get(element, inf))
        return removed

    def _known(self) -> dict[tuple[int, str], float]:
        """Return when each client first knew of an element: by its own add's answer or by a read."""
        known: dict[tuple[int, str], float] = {}
        own = [(add, (element,)) for element, adds in self.adds.items() for add in adds if add.outcome == "ok"]
        for each, elements in (*own, *((read, read.found or ()) for read in self.reads)):
            for element in elements:
                known[each.client, element] = min(_end(each), known.get((each.client, element), inf))
        return known


def _end(operation: Operation) -> float:
    """Return when the effect is surely there; an operation without a known outcome may have one at any time."""
    return inf if operation.end is None or operation.outcome == "unknown" else operation.end


def _told(faults: list[_Fault], counters: Mapping[str, int]) -> Iterator[str]:
    for kind in _KINDS:
        elements = [fault.element for fault in faults if fault.kind == kind]
        if not elements:
            continue
        count = counted(len(elements), "element")
        if kind == "lost":
            count = f"{len(elements):,} of {counted(counters['acknowledged'], 'acknowledged element')}"
        elif kind == "resurrected":
            count = f"{len(elements):,} of {counted(counters['removed'], 'removed element')}"
        yield f"{kind} {count}: {listed(elements)}"


def _line(fault: _Fault, judged: _Set) -> str:
    """Tell where an element came from and which read shows the fault."""
    origin = [each.describe() for each in judged.adds.get(fault.element, ())[:1]] or ["no add of it"]
    if fault.kind == "resurrected":
        origin += [each.describe() for each in judged.removes[fault.element][:1]]
    missing = "not in it" if fault.kind == "lost" else "in it"
    line = f"{fault.kind} {quoted(fault.element)} of key {quoted(fault.key)}: {'; '.join(origin)}"
    return f"{line}; {missing}: {fault.read.describe()}"
