"""Fault schedules, drawn from a seed. A schedule is plain data: see :class:`kvbus.torture.plan.Plan`.

Every schedule leaves the last second free of new faults; the run itself mends what is still broken at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from kvbus.torture.plan import Fault, Plan

_QUIET_END_SECONDS = 1.0


class Nemesis:
    """Draws the faults of one run: who is hit, when and how long."""

    def __init__(self, rng: Random, names: list[str], seconds: float) -> None:
        self._rng = rng
        self._names = names
        self._end = seconds - _QUIET_END_SECONDS

    def partitions(self) -> Iterator[Fault]:
        """Cut the network in changing ways: lone nodes, halves, bridges, rings, one-way cuts; sometimes flapping."""
        rng = self._rng
        for begin, end in self._spells(0.5, 6.0):
            yield Fault(begin, "partition", {"sides": rng.choice(_CUTS)(rng, self._names)})
            if rng.random() < 0.2:
                for at in self._instants(begin, end, rng.randint(2, 6)):
                    yield Fault(at, "heal")
                    yield Fault(at + 0.05, "partition", {"sides": rng.choice(_CUTS)(rng, self._names)})
            yield Fault(end, "heal")

    def bad_lines(self) -> Iterator[Fault]:
        """Lose, delay, double and reorder messages, up to 30 per cent of them, or hold all of a way."""
        rng = self._rng
        for begin, end in self._spells(1.0, 6.0):
            ways = rng.choice(["* -> *", f"{rng.choice(self._names)} -> *", f"* -> {rng.choice(self._names)}"])
            if rng.random() < 0.2:
                yield Fault(begin, "clog", {"ways": ways.replace("* -> *", f"{rng.choice(self._names)} -> *")})
                yield Fault(end, "heal")
                continue
            yield Fault(begin, "rule", {
                "ways": ways, "loss": _rounded(rng.uniform(0, 0.3)), "duplicate": _rounded(rng.uniform(0, 0.3)),
                "overtake": _rounded(rng.uniform(0, 0.3)), "delay": _rounded(rng.choice([0.0, 0.02, 0.2])),
                "jitter": _rounded(rng.choice([0.0, 0.01, 0.3])),
            })  # fmt: skip
            yield Fault(end, "heal")

    def crashes(self) -> Iterator[Fault]:
        """Kill, cut the power of or stop nodes, one or two at a time, and start them again."""
        for begin, end in self._spells(0.2, 4.0):
            for name in self._rng.sample(self._names, self._rng.choice([1, 1, 2])):
                yield self._crash(begin, name)
                yield Fault(end, "start", {"node": name})
                if self._rng.random() < 0.3:
                    yield Fault(_rounded(end + 0.1), "lose_power", {"node": name})
                    yield Fault(_rounded(end + 0.2), "start", {"node": name})

    def _crash(self, at: float, name: str) -> Fault:
        kind = self._rng.choice(["kill", "lose_power", "stop", "fall_in_commit", "fall_in_commit"])
        if kind == "fall_in_commit":
            return Fault(at, kind, {"node": name, "loses_power": self._rng.random() < 0.5})
        return Fault(at, kind, {"node": name})

    def pauses(self) -> Iterator[Fault]:
        """Stop nodes where they stand for up to three seconds, longer than any silence that is waited for."""
        for begin, end in self._spells(0.1, 3.0):
            name = self._rng.choice(self._names)
            yield Fault(begin, "pause", {"node": name})
            yield Fault(end, "resume", {"node": name})

    def clocks(self) -> Iterator[Fault]:
        """Let clocks run fast or slow and jump by up to ten minutes."""
        rng = self._rng
        for begin, end in self._spells(0.5, 4.0):
            name = rng.choice(self._names)
            yield Fault(begin, "run_clock", {"node": name, "rate": _rounded(rng.choice([0.5, 0.9, 1.1, 2.0]))})
            yield Fault(begin, "jump_clock", {"node": name, "by_ms": rng.randint(-600_000, 600_000)})
            yield Fault(end, "run_clock", {"node": name, "rate": 1.0})

    def disks(self) -> Iterator[Fault]:
        """Fill disks, slow them down, and break them so that the node must end.

        A full disk is mended by space alone, by a clean stop or by a kill. A slow sync is the time to die in, and what
        was written and not synced then must have become safe by the next power cut.
        """
        rng = self._rng
        for begin, end in self._spells(0.5, 4.0):
            name = rng.choice(self._names)
            kind = rng.choice(["fill_disk", "break_disk", "slow_disk"])
            if kind == "slow_disk":
                yield Fault(begin, kind, {"node": name, "seconds": _rounded(rng.choice([0.005, 0.05, 0.4]))})
                yield Fault(end, kind, {"node": name, "seconds": 0.0})
                if rng.random() < 0.5:
                    middle = _rounded((begin + end) / 2)
                    yield Fault(_rounded(rng.uniform(begin, middle)), "kill", {"node": name})
                    yield Fault(middle, "start", {"node": name})
                    yield Fault(end, "lose_power", {"node": name})
                    yield Fault(_rounded(end + 0.1), "start", {"node": name})
                continue
            yield Fault(begin, kind, {"node": name})
            yield Fault(end, "empty_disk", {"node": name})
            if kind == "fill_disk" and (ending := rng.choice(["kill", "stop", None])) is not None:
                yield Fault(end, ending, {"node": name})
            yield Fault(_rounded(end + 0.1), "start", {"node": name})

    def workers(self) -> Iterator[Fault]:
        """Flush and compact out of turn, let workers die at it, and cut the power while they write."""
        rng = self._rng
        for begin, end in self._spells(0.3, 2.0):
            for name in rng.sample(self._names, rng.choice([1, 2])):
                for at in self._instants(begin, end, rng.randint(1, 3)):
                    yield Fault(at, rng.choice(["flush", "compact"]), {"node": name})
                    if rng.random() < 0.3:
                        yield Fault(_rounded(at + rng.uniform(0, 0.4)), "kill_worker", {"node": name})
                if rng.random() < 0.4:
                    yield Fault(end, rng.choice(["kill", "lose_power"]), {"node": name})
                    yield Fault(_rounded(end + rng.uniform(0.05, 0.5)), "start", {"node": name})

    def blackouts(self) -> Iterator[Fault]:
        """Slow some disks down and cut everybody's power at once: no promise may rest on a survivor's memory."""
        rng = self._rng
        for begin, end in self._spells(0.3, 2.0):
            for name in self._names:
                yield Fault(begin, "slow_disk", {"node": name, "seconds": rng.choice([0.0, 0.05])})
                yield Fault(end, "lose_power", {"node": name})
                yield Fault(_rounded(end + rng.uniform(0.05, 0.5)), "start", {"node": name})

    def swizzle(self) -> Iterator[Fault]:
        """Stop the nodes of a random group one by one, and start them in another order."""
        rng = self._rng
        group = rng.sample(self._names, rng.randint(2, max(2, len(self._names) - 1)))
        middle = self._end / 2
        for at, name in zip(self._instants(0.5, middle, len(group)), group, strict=True):
            yield Fault(at, rng.choice(["kill", "lose_power"]), {"node": name})
        for at, name in zip(self._instants(middle, self._end, len(group)), rng.sample(group, len(group)), strict=True):
            yield Fault(at, "start", {"node": name})

    def _spells(self, shortest: float, longest: float) -> Iterator[tuple[float, float]]:
        """Yield begins and ends of trouble, with quiet between them."""
        at = self._rng.uniform(0.2, 2.0)
        while True:
            end = at + self._rng.uniform(shortest, longest)
            if end > self._end:
                return
            yield _rounded(at), _rounded(end)
            at = end + self._rng.uniform(0.2, 3.0)

    def _instants(self, begin: float, end: float, count: int) -> list[float]:
        return sorted(_rounded(self._rng.uniform(begin, end)) for _ in range(count))


def _lone(rng: Random, names: list[str]) -> str:
    return rng.choice(names)


def _halves(rng: Random, names: list[str]) -> str:
    shuffled = rng.sample(names, len(names))
    cut = rng.randint(1, len(names) - 1)
    return f"{','.join(shuffled[:cut])} | {','.join(shuffled[cut:])}"


def _bridge(rng: Random, names: list[str]) -> str:
    """Two sides that only one node can talk to both of."""
    shuffled = rng.sample(names, len(names))
    cut = rng.randint(1, len(names) - 2) if len(names) > 2 else 1
    bridge = [shuffled[-1]] if len(names) > 2 else []
    rest = shuffled[: len(shuffled) - len(bridge)]
    return f"{','.join(rest[:cut] + bridge)} | {','.join(rest[cut:] + bridge)}"


def _ring(rng: Random, names: list[str]) -> str:
    """Each node talks to its two neighbours only."""
    ring = rng.sample(names, len(names))
    if len(ring) < 4:
        return rng.choice(names)
    pairs = [f"{name},{ring[(place + 1) % len(ring)]}" for place, name in enumerate(ring)]
    return " | ".join(pairs)


def _one_way(rng: Random, names: list[str]) -> str:
    shuffled = rng.sample(names, len(names))
    cut = rng.randint(1, len(names) - 1)
    return f"{','.join(shuffled[:cut])} -> {','.join(shuffled[cut:])}"


_CUTS: list[Callable[[Random, list[str]], str]] = [_lone, _halves, _halves, _bridge, _ring, _one_way]

THEMES: dict[str, tuple[str, ...]] = {
    "calm": (),
    "partitions": ("partitions",),
    "lines": ("bad_lines",),
    "crashes": ("crashes",),
    "pauses": ("pauses",),
    "clocks": ("clocks", "partitions"),
    "disks": ("disks", "workers"),
    "disks and cuts": ("disks", "partitions"),
    "blackouts": ("blackouts",),
    "workers": ("workers",),
    "swizzle": ("swizzle",),
    "storm": ("partitions", "crashes", "pauses", "clocks"),
}
"""What goes wrong in each kind of run. Seeds take them in turn."""


def draw_plan(seed: int, *, mode: str = "ap", nodes: int = 5, seconds: float = 20.0, theme: str | None = None) -> Plan:
    """Draw the plan that belongs to ``seed``; ``theme`` None takes the seed's own."""
    chosen = theme or list(THEMES)[seed % len(THEMES)]
    rng = Random(f"plan {seed} {mode} {nodes} {chosen}")
    nemesis = Nemesis(rng, [f"n{number + 1}" for number in range(nodes)], seconds)
    faults = [fault for trouble in THEMES[chosen] for fault in getattr(nemesis, trouble)()] if nodes > 1 else []
    faults.sort(key=lambda fault: fault.at)
    return Plan(
        seed=seed, mode=mode, nodes=nodes, replicas=min(3, nodes), seconds=seconds, theme=chosen, faults=tuple(faults)
    )


def _rounded(number: float) -> float:
    return round(number, 3)
