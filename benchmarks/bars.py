"""The scenarios that are run, and the bars that their ratios must pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.measurement import Op, Scenario, SystemName

_OUTSTANDING = (1, 64, 512)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """What a ratio of two figures of one kind must reach: of speeds (higher is better) or of times in µs (lower is)."""

    name: str
    floor: float
    goal: float
    figure: str

    @property
    def lower_is_better(self) -> bool:
        """Tell whether the bar is an upper bound."""
        return self.figure.endswith("_us")

    def passes(self, ratio: float, bound: float) -> bool:
        """Tell whether ``ratio`` is on the right side of ``bound``."""
        return ratio <= bound if self.lower_is_better else ratio >= bound


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar(Bounds):
    """The bounds of ``figure of ours / figure of theirs``, two closed loops."""

    ours: Scenario
    theirs: Scenario
    figure: Literal["ops_per_second", "p50_us"] = "ops_per_second"


def _kvbus(op: Op, outstanding: int, *, packing: bool = True) -> Scenario:
    return Scenario("kvbus", op, outstanding, packing)


def _etcd(op: Op, outstanding: int) -> Scenario:
    return Scenario("etcd", op, outstanding)


_ECHO = Scenario("echo", "echo", 64)

BARS = (
    Bar(name="put / etcd put, 64", ours=_kvbus("put", 64), theirs=_etcd("put", 64), floor=2.5, goal=4),
    Bar(
        name="put / etcd put, 64, unpacked",
        ours=_kvbus("put", 64, packing=False),
        theirs=_etcd("put", 64),
        floor=2,
        goal=3,
    ),
    Bar(name="put / etcd put, 512", ours=_kvbus("put", 512), theirs=_etcd("put", 512), floor=6, goal=12),
    Bar(
        name="get / etcd get, 64",
        ours=_kvbus("get", 64),
        theirs=_etcd("get", 64),
        floor=3,
        goal=6,
    ),
    Bar(
        name="put p50 / etcd put p50, 1 (less is better)",
        ours=_kvbus("put", 1),
        theirs=_etcd("put", 1),
        floor=1.2,
        goal=0.8,
        figure="p50_us",
    ),
    Bar(name="put / ROUTER echo, 64", ours=_kvbus("put", 64), theirs=_ECHO, floor=0.15, goal=0.3),
    Bar(name="get / ROUTER echo, 64", ours=_kvbus("get", 64), theirs=_ECHO, floor=0.4, goal=0.8),
    Bar(
        name="put / Redis put, 64",
        ours=_kvbus("put", 64),
        theirs=Scenario("redis", "put", 64),
        floor=0.4,
        goal=0.8,
    ),
)


def scenarios() -> list[Scenario]:
    """Return every closed loop, those that are compared with each other next to each other."""
    found: list[Scenario] = []
    kinds: tuple[Op, ...] = ("put", "get")
    systems: tuple[SystemName, ...] = ("etcd", "kvbus")
    for outstanding in _OUTSTANDING:
        for op in kinds:
            found += [Scenario(system, op, outstanding) for system in systems]
            if outstanding > 1:
                found.append(Scenario("kvbus", op, outstanding, packing=False))
            if outstanding == 64:
                found.append(Scenario("redis", op, outstanding))
            if op == "put":
                found.append(Scenario("echo", "echo", outstanding))
    return found
