"""What the faults of a plan have broken in a world: it applies them, knows who can reach whom, and mends all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from kvbus.core.sides import Way, directed_ways, parted_ways
from kvbus.errors import ConfigError, CorruptionError
from kvbus.sim.network import Rule
from kvbus.sim.process import Process
from kvbus.sim.world import World
from kvbus.torture.plan import Fault

_STOPPING_SECONDS = 0.05
_STEADY_SECONDS = 2.5
"""How long after a change links may still be found silent, lost or made again."""


class Trouble:
    """Applies a plan's faults. A fault that makes no sense now (a start of what is up) changes nothing.

    ``refused_starts`` names the nodes that did not start from what was left on their disks, and why.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._cut: dict[Way, None] = {}
        self._changed: dict[str, float] = {}
        self._ways_changed: dict[Way, float] = {}
        self._lines_changed_at = 0.0
        self._is_rough = False
        self.refused_starts: list[str] = []

    def plan(self, faults: tuple[Fault, ...]) -> None:
        """Let each fault happen at its time, from now on."""
        timeline = self._world.timeline
        for fault in faults:
            timeline.at(timeline.now + fault.at, partial(self.apply, fault))

    def apply(self, fault: Fault) -> None:
        """Let one fault happen.

        Raises:
            ConfigError: it names a node or a side that is not there.
        """
        now, told = self._world.timeline.now, fault.told
        if fault.kind == "partition":
            self._part(str(told["sides"]))
        elif fault.kind == "rule":
            self._is_rough, self._lines_changed_at = True, now
            shares = {name: value for name, value in told.items() if name != "ways"}
            rule = replace(Rule(), **cast("dict[str, Any]", shares))
            self._world.rule(directed_ways(str(told["ways"]), self._world.names), rule)
        elif fault.kind == "clog":
            self._is_rough, self._lines_changed_at = True, now
            self._world.rule(directed_ways(str(told["ways"]), self._world.names), Rule(clog=True))
        elif fault.kind == "heal":
            self._heal()
        else:
            if not fault.kind.endswith("_clock"):
                self._changed[str(told["node"])] = now
            self._to_node(fault.kind, str(told["node"]), fault)

    def changed_at(self, nodes: Sequence[str]) -> float:
        """Return when the last fault happened that concerns ``nodes`` or the ways between them."""
        return max(
            self._lines_changed_at,
            *(max(self._changed.get(name, 0.0), self._world.processes[name].ended_at) for name in nodes),
            *(self._ways_changed.get((a, b), 0.0) for a in nodes for b in nodes if a != b),
        )

    def mend(self) -> None:
        """End all trouble: heal the network, let everybody run, and start whoever is down."""
        self.apply(Fault(0.0, "heal"))
        for name, process in self._world.processes.items():
            process.run_clock_at(1.0)
            process.outlive_commits()
            process.sync_seconds = process.usual_sync_seconds
            self._world.resume(name)
            if process.is_up and process.node.stopping:
                self._world.kill(name)
            if process.disk.capacity_bytes is not None:
                self._world.kill(name)
            _empty(process)
            self._start(name)

    def steady_reach(self, name: str, owners: list[str]) -> int:
        """Return how many of ``owners`` the node ``name`` surely works with, itself included.

        0 while things change, and while a disk of those that it can talk to is bad: that one may be asked.
        """
        now, nodes = self._world.timeline.now, [name, *(owner for owner in owners if owner != name)]
        if self._is_rough or now - self.changed_at(nodes) < _STEADY_SECONDS or not self._runs(name):
            return 0
        reached = [owner for owner in owners if owner == name or self._talk(name, owner)]
        if not all(self._has_good_disk(each) for each in (name, *reached)):
            return 0
        return sum(1 for owner in reached if self._runs(owner))

    def steady_circle(self, name: str, owners: list[str]) -> bool:
        """Say whether ``name`` and all ``owners`` surely work with one another."""
        return all(self.steady_reach(each, owners) == len(owners) for each in (name, *owners))

    def _talk(self, name: str, other: str) -> bool:
        return self._world.processes[other].is_up and (name, other) not in self._cut and (other, name) not in self._cut

    def _runs(self, name: str) -> bool:
        process = self._world.processes[name]
        return process.is_up and not process.is_paused and not process.node.stopping

    def _has_good_disk(self, name: str) -> bool:
        process = self._world.processes[name]
        is_slow = process.sync_seconds != process.usual_sync_seconds
        return (
            not is_slow
            and process.disk.capacity_bytes is None
            and not process.disk.fail_sync
            and not process.is_read_only
        )

    def _part(self, sides: str) -> None:
        ways = parted_ways(sides, self._world.names)
        self._cut.update(dict.fromkeys(ways))
        self._ways_changed.update(dict.fromkeys(ways, self._world.timeline.now))
        self._world.cut(ways)

    def _heal(self) -> None:
        now = self._world.timeline.now
        self._ways_changed.update(dict.fromkeys(self._cut, now))
        if self._is_rough:
            self._is_rough, self._lines_changed_at = False, now
        self._cut.clear()
        self._world.heal()

    def _to_node(self, kind: str, name: str, fault: Fault) -> None:
        world = self._world
        process = world.processes.get(name)
        if process is None:
            raise ConfigError(f"the plan's {kind} names {name!r}; there are {', '.join(world.names)}")
        if kind == "start":
            self._start(name)
        elif kind == "fall_in_commit":
            process.fall_in_commit(loses_power=bool(fault.told["loses_power"]))
        elif kind == "run_clock":
            process.run_clock_at(cast("float", fault.told["rate"]))
        elif kind == "jump_clock":
            process.clock.jump_ms(cast("int", fault.told["by_ms"]))
        elif kind == "fill_disk":
            process.disk.capacity_bytes = sum(len(file.data) for file in process.disk.files.values())
        elif kind == "empty_disk":
            _empty(process)
        elif kind == "break_disk":
            process.disk.fail_sync = True
        elif kind == "slow_disk":
            seconds = cast("float", fault.told["seconds"])
            process.sync_seconds = (seconds, seconds * 2) if seconds else process.usual_sync_seconds
        elif kind in ("flush", "compact", "kill_worker"):
            process.tidy(kind)
        else:
            {
                "kill": world.kill, "lose_power": world.lose_power, "stop": world.stop,
                "pause": world.pause, "resume": world.resume,
            }[kind](name)  # fmt: skip

    def note_damage(self, name: str) -> None:
        """Note tables that a node that runs cannot read: no fault of a plan damages what was synced."""
        process = self._world.processes[name]
        if process.is_up and (damaged := process.engine.stats().get("damaged_tables", 0)):
            self.refused_starts.append(f"{name}: {damaged} damaged tables")

    def _start(self, name: str) -> None:
        process, timeline = self._world.processes[name], self._world.timeline
        if process.is_up:
            if process.node.stopping:
                timeline.at(timeline.now + _STOPPING_SECONDS, partial(self._start, name))
            return
        self._changed[name] = timeline.now
        try:
            self._world.start(name)
            self.note_damage(name)
        except (ConfigError, CorruptionError) as error:
            self.refused_starts.append(f"{name}: {error}")
        except OSError as error:
            if not process.disk.fail_sync and process.disk.capacity_bytes is None:
                self.refused_starts.append(f"{name}: {error}")


def _empty(process: Process) -> None:
    process.disk.capacity_bytes = None
    process.disk.fail_sync = False
