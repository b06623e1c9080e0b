"""What one run does, as plain data: it is drawn from a seed, saved as JSON, shortened by the shrinker and run again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, cast

from kvbus.core.sides import directed_ways, parted_ways
from kvbus.errors import ConfigError

PLAN_FORMAT = 1
_MAY_BE_NEGATIVE = ("seed", "by_ms")
_MOST = 1_000_000_000
_PARTITIONS = tuple(1 << bits for bits in range(13))

FAULT_FIELDS: Mapping[str, Mapping[str, type]] = {
    "partition": {"sides": str},
    "rule": {"ways": str, "loss": float, "duplicate": float, "overtake": float, "delay": float, "jitter": float},
    "clog": {"ways": str},
    "heal": {},
    "kill": {"node": str},
    "lose_power": {"node": str},
    "fall_in_commit": {"node": str, "loses_power": bool},
    "stop": {"node": str},
    "start": {"node": str},
    "pause": {"node": str},
    "resume": {"node": str},
    "run_clock": {"node": str, "rate": float},
    "jump_clock": {"node": str, "by_ms": int},
    "fill_disk": {"node": str},
    "empty_disk": {"node": str},
    "break_disk": {"node": str},
    "slow_disk": {"node": str, "seconds": float},
    "flush": {"node": str},
    "compact": {"node": str},
    "kill_worker": {"node": str},
}
"""The faults there are, and what each is told besides its time. Source: docs/TORTURE.md, "Plans"."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that happens: when (seconds from the workload's begin), what, and to whom."""

    at: float
    kind: str
    told: Mapping[str, object] = field(default_factory=dict[str, object])

    def as_map(self) -> dict[str, object]:
        """Return the fault as it stands in a plan's JSON."""
        return {"at": self.at, "kind": self.kind, **self.told}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One run. ``seconds`` of workload by one client beside each node, about ``rate`` operations a second each.

    ``keys`` are shared by all clients. ``theme`` names what kind of schedule ``faults`` came from.
    """

    seed: int
    mode: str = "ap"
    nodes: int = 5
    replicas: int = 3
    partitions: int = 4
    seconds: float = 20.0
    rate: float = 20.0
    keys: int = 8
    theme: str = "calm"
    faults: tuple[Fault, ...] = ()

    @property
    def doubles(self) -> bool:
        """Say whether messages may arrive twice, as on no real link: one forwarded put is then two versions."""
        return any(fault.told.get("duplicate") for fault in self.faults)

    def to_json(self) -> str:
        """Return the plan as a JSON document."""
        plain = asdict(self) | {"faults": [fault.as_map() for fault in self.faults]}
        return json.dumps({"kvbus_plan": PLAN_FORMAT, **plain}, indent=1)


def read_plan(text: str) -> Plan:
    """Read a plan from its JSON document.

    Raises:
        ConfigError: it is none; the message names what is wrong.
    """
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"a plan is a JSON document: {error}") from error
    if not isinstance(found, dict) or cast("dict[str, object]", found).get("kvbus_plan") != PLAN_FORMAT:
        raise ConfigError(f'a plan is a JSON object with "kvbus_plan": {PLAN_FORMAT}; kvbus torture --save writes one')
    given = cast("dict[str, object]", found)
    known = {each.name: each for each in fields(Plan)}
    values: dict[str, object] = {}
    for name, value in given.items():
        if name == "kvbus_plan":
            continue
        if name not in known:
            raise ConfigError(f"a plan has no {name!r}; it has {', '.join(known)}")
        values[name] = _faults(value) if name == "faults" else _checked(name, value, type(_default(name)))
    if "seed" not in values:
        raise ConfigError('a plan names its "seed"')
    plan = replace(_DEFAULTS, **cast("dict[str, Any]", values))
    _check_together(plan)
    return plan


def _check_together(plan: Plan) -> None:
    """See that nodes, sides and chances are such as there are.

    Raises:
        ConfigError: one is not; the message names the fault.
    """
    if not (1 <= plan.nodes <= 100 and 1 <= plan.replicas <= plan.nodes and plan.keys and plan.rate and plan.seconds):
        raise ConfigError("a plan has 1 to 100 nodes, 1 to nodes replicas, and keys, a rate and seconds above 0")
    if plan.partitions not in _PARTITIONS:
        raise ConfigError(f"partitions is {plan.partitions}; it should be a power of two up to {_PARTITIONS[-1]}")
    names = [f"n{number + 1}" for number in range(plan.nodes)]
    for number, fault in enumerate(plan.faults):
        place, told = f"faults[{number}] ({fault.kind})", fault.told
        if fault.at > plan.seconds:
            raise ConfigError(f"{place}: at {fault.at:g} s the workload of {plan.seconds:g} s is over")
        try:
            if "sides" in told:
                parted_ways(str(told["sides"]), names)
            if "ways" in told:
                directed_ways(str(told["ways"]), names)
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from None
        if told.get("node", names[0]) not in names:
            raise ConfigError(f"{place}: no node {told['node']!r}; there are: {', '.join(names)}")
        for name in ("loss", "duplicate", "overtake"):
            if not 0.0 <= cast("float", told.get(name, 0.0)) <= 1.0:
                raise ConfigError(f"{place}: {name} is a chance from 0 to 1")
        if not 0.01 <= cast("float", told.get("rate", 1.0)) <= 100.0:
            raise ConfigError(f"{place}: a clock's rate is from 0.01 to 100")


def _default(name: str) -> object:
    return getattr(_DEFAULTS, name)


def _faults(found: object) -> tuple[Fault, ...]:
    if not isinstance(found, list):
        raise ConfigError('"faults" is an array of objects with "at" and "kind"')
    return tuple(_fault(number, entry) for number, entry in enumerate(cast("list[object]", found)))


def _fault(number: int, entry: object) -> Fault:
    place = f"faults[{number}]"
    if not isinstance(entry, dict):
        raise ConfigError(f"{place} is no object")
    told = dict(cast("dict[str, object]", entry))
    at = _checked(f"{place}.at", told.pop("at", None), float)
    kind = told.pop("kind", None)
    wanted = FAULT_FIELDS.get(str(kind))
    if wanted is None:
        raise ConfigError(f"{place}: no fault {kind!r}; there are {', '.join(FAULT_FIELDS)}")
    for name in told:
        if name not in wanted:
            raise ConfigError(f"{place}: {kind} is not told {name!r}, only {', '.join(wanted) or 'nothing'}")
    for name, kind_of in wanted.items():
        if name in told:
            told[name] = _checked(f"{place}.{name}", told[name], kind_of)
        elif kind != "rule" or name == "ways":
            raise ConfigError(f"{place}: {kind} must be told {name!r}")
    return Fault(cast("float", at), str(kind), told)


def _checked(name: str, value: object, kind: type) -> object:
    """Return ``value`` if it is of ``kind``; a whole number may stand for a float."""
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise ConfigError(f"{name} is {value!r}; it should be a {kind.__name__}")
    least = -_MOST if name.endswith(_MAY_BE_NEGATIVE) else 0
    if isinstance(value, int | float) and not least <= value <= _MOST:
        raise ConfigError(f"{name} is {value!r}; it should be from {least} to {_MOST}")
    return value


_DEFAULTS = Plan(seed=0)
