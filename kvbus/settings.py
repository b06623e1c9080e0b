"""The configuration's file format: its sections and keys, and how a wrong one is named.

A key comes from the TOML file or from ``KVBUS_SECTION__KEY``, which wins; the value there is written as in the file,
text without quotes. What is wrong is named after the place that it came from. pydantic-settings is not used: it
ignores an unknown section in the environment, cannot tell which source a wrong value came from, and would add 0.3 s
to every start. Source: docs/OPERATING.md, "Configuration".
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, cast, get_args

from pydantic import BaseModel, ByteSize, ConfigDict, Discriminator, Field, Tag, ValidationError

from kvbus.errors import ConfigError

ENVIRONMENT_PREFIX = "KVBUS_"
_SEPARATOR = "__"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
_Replicas = Annotated[int, Field(ge=1, le=255)]
Replicas = Annotated[
    Annotated[_Replicas, Tag("number")] | Annotated[dict[Name, _Replicas], Tag("table")],
    Discriminator(lambda given: "table" if isinstance(given, dict) else "number"),
]
Quorum = Annotated[int, Field(ge=1, le=255)]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Size = Annotated[ByteSize, Field(ge=1 << 20, le=1 << 50)]
"""Bytes, as a number or as text with a unit: ``"256MiB"``, ``"1GB"``."""


class Section(BaseModel):
    """A table of the file: no key but its own, no silent conversions, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NodeSection(Section):
    """``[node]``: who this node is and where its data lie."""

    name: Name
    data_dir: str = Field(min_length=1)
    dc: Name | None = None
    rack: Name | None = None
    weight: Weight | None = None


class ListenSection(Section):
    """``[listen]``: the addresses that this node binds."""

    client: str = "tcp://127.0.0.1:7400"
    peer: str = "tcp://127.0.0.1:7401"
    gossip: str = "tcp://127.0.0.1:7402"
    http: str = "127.0.0.1:7403"


class MemberEntry(Section):
    """One entry of ``[cluster] initial_members``: the addresses at which the others reach a node."""

    name: Name
    client: str
    peer: str
    gossip: str
    dc: Name = "dc1"
    rack: Name = "r1"
    weight: Weight = 1.0


class ClusterSection(Section):
    """``[cluster]``: what all members must agree on."""

    name: Name = "kvbus"
    partitions: int = Field(default=64, ge=1, le=65_536)
    replicas: Replicas = 3
    initial_members: list[MemberEntry] | None = None
    join: list[str] | None = None


class KeyspaceSection(Section):
    """``[keyspaces.NAME]``: one keyspace's mode and its quorum sizes; 2 and 2 where none are given."""

    mode: Name = "ap"
    r: Quorum | None = None
    w: Quorum | None = None
    availability: Literal["always", "quorum"] = "always"


class DurabilitySection(Section):
    """``[durability]``: when an acknowledged write is on the disk."""

    sync: Literal["batch", "interval", "none"] = "batch"
    interval_ms: int = Field(default=1000, ge=1)


class StorageSection(Section):
    """``[storage]``: which engine keeps the data, in how much memory, and when it tidies up; see EngineSettings."""

    engine: Name = "lsm"
    memory_budget: Size = ByteSize(256 << 20)
    compression: Literal["lz4", "zstd", "none"] = "lz4"
    flush_age_s: float = Field(default=3600, gt=0)
    compaction_rate: Size = ByteSize(64 << 20)


class LimitsSection(Section):
    """``[limits]``: bounds that may be set; see :class:`kvbus.ports.mode.Limits` for all of them."""

    value_bytes: int = Field(default=10_240, ge=1, le=1 << 20)
    pending_ops: int = Field(default=65_536, ge=1)
    siblings: int = Field(default=100, ge=2, le=1000)


class SecuritySection(Section):
    """``[security]``: ``insecure`` allows plain text beyond this machine."""

    insecure: bool = False


class FaultsSection(Section):
    """``[faults]``: whether commands may break this node on purpose."""

    enabled: bool = False


class Settings(Section):
    """The whole file."""

    node: NodeSection
    listen: ListenSection = ListenSection()
    cluster: ClusterSection = ClusterSection()
    keyspaces: dict[Name, KeyspaceSection] = Field(default_factory=dict[str, KeyspaceSection])
    durability: DurabilitySection = DurabilitySection()
    storage: StorageSection = StorageSection()
    limits: LimitsSection = LimitsSection()
    security: SecuritySection = SecuritySection()
    faults: FaultsSection = FaultsSection()


Location = tuple[str | int, ...]
"""A key's path in the file, such as ``("cluster", "initial_members", 0, "name")``."""


class Origin(NamedTuple):
    """Where settings came from, for messages: the file and, by key path, the variables that replaced or added keys."""

    path: Path
    variables: Mapping[Location, str]

    def error(self, location: Location, problem: str) -> ConfigError:
        """Return the error that names the file or variable, the key at ``location`` and the ``problem``."""
        for length in range(len(location), 0, -1):
            variable = self.variables.get(location[:length])
            if variable is not None:
                return ConfigError(f"{variable} in the environment: {problem}")
        return self.absent(location, problem)

    def absent(self, location: Location, problem: str) -> ConfigError:
        """Return the error about a key that the file lacks."""
        return ConfigError(f"{self.path}: {_shown(location)}: {problem}")


def read_settings(path: Path, environ: Mapping[str, str]) -> tuple[Settings, Origin]:
    """Read the file at ``path``, lay ``KVBUS_SECTION__KEY`` over it and check every key by itself.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown, missing or wrong; the message names it.
    """
    tables = read_toml(path)
    origin = Origin(path, _overlay(tables, environ))
    try:
        return Settings.model_validate(tables), origin
    except ValidationError as error:
        raise _first_problem(error, origin) from None


def read_toml(path: Path) -> dict[str, object]:
    """Parse a TOML file.

    Raises:
        ConfigError: there is no such file, it cannot be read, or it is no TOML; the message says where.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; name a configuration file with --config") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; name a TOML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 at byte {error.start}; save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}; mend it there") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deeply for a configuration; mend it there") from error


def _overlay(tables: dict[str, object], environ: Mapping[str, str]) -> dict[Location, str]:
    """Put each ``KVBUS_SECTION__KEY`` into ``tables``; return the variable of each key path that was set."""
    variables: dict[Location, str] = {}
    for variable in sorted(environ):
        if not variable.startswith(ENVIRONMENT_PREFIX) or _SEPARATOR not in variable:
            continue
        path = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split(_SEPARATOR)
        table = tables
        for depth, part in enumerate(path[:-1]):
            path[depth] = part = _as_written(part, table)
            if part not in table:
                variables[tuple(path[: depth + 1])] = variable
            table = _inner(table, part, variable)
        table[path[-1]] = _value(path, environ[variable])
        variables[tuple(path)] = variable
    return variables


def _as_written(part: str, table: Mapping[str, object]) -> str:
    """Return the key of ``table`` that is ``part`` but for its case, as names in the environment have none."""
    return next((key for key in table if key.lower() == part), part)


def _inner(table: dict[str, object], part: str, variable: str) -> dict[str, object]:
    inner = table.setdefault(part, {})
    if not isinstance(inner, dict):
        raise ConfigError(f"{variable} in the environment: {part} is not a table")
    return cast("dict[str, object]", inner)


def _value(path: list[str], text: str) -> object:
    """Read a variable's value as TOML unless its key holds text or it is no TOML value."""
    annotation = _annotation(path)
    if annotation is str:
        return text
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _annotation(path: list[str]) -> object:
    model: type[BaseModel] = Settings
    if path[0] == "keyspaces" and len(path) == 3:
        model, path = KeyspaceSection, path[2:]
    for part in path[:-1]:
        field = model.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return None
        model = field.annotation
    field = model.model_fields.get(path[-1])
    if field is None:
        return None
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)] or [field.annotation]
    return str if all(kind is str or _is_text(kind) for kind in kinds) else None


def _is_text(kind: object) -> bool:
    return isinstance(kind, str) or (get_args(kind)[:1] == (str,))


def _first_problem(error: ValidationError, origin: Origin) -> ConfigError:
    problems = error.errors(include_url=False)
    # A misspelt key often misses its right name too; the misspelling says more.
    first = next((each for each in problems if each["type"] == "extra_forbidden"), problems[0])
    location = first["loc"]
    if location[:2] == ("cluster", "replicas"):
        location = location[:2] + location[3:]
    if location[-1] == "[key]":
        location = location[:-1]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "missing":
        return origin.absent(location, f"is missing; add it{more}")
    return origin.error(
        location, _problem(first["type"], first["msg"], location, cast("object", first["input"])) + more
    )


def _problem(kind: str, message: str, location: Location, given: object) -> str:
    name = str(location[-1])
    if kind == "extra_forbidden":
        known = list(_section_at(location[:-1]).model_fields)
        close = get_close_matches(name, known, 1)
        mend = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
        return f"unknown {'section' if len(location) == 1 else 'key'} {name}; {mend}"
    if kind == "string_pattern_mismatch":
        return f"{given!r} is no name; use 1 to 64 of A-Z a-z 0-9 _ . -"
    if kind == "model_type":
        return f"{given!r} is wrong: it should be a table of settings"
    if kind == "byte_size":
        return f"{given!r} is no size; write a number and a unit, such as 256MiB"
    return f"{given!r} is wrong: it {message.removeprefix('Input').lstrip()}"


def _section_at(location: Location) -> type[BaseModel]:
    if not location:
        return Settings
    if location[:1] == ("keyspaces",):
        return KeyspaceSection
    if location[:2] == ("cluster", "initial_members"):
        return MemberEntry
    annotation = Settings.model_fields[str(location[0])].annotation
    return cast("type[BaseModel]", annotation)


def _shown(location: Location) -> str:
    """Write a key path as the file does: ``[cluster] partitions``, ``[keyspaces.default] w``."""
    parts = [str(part) for part in location]
    if parts[0] == "keyspaces":
        return f"[{'.'.join(parts[:2])}] {' '.join(parts[2:])}".rstrip()
    if len(parts) == 1:
        return f"[{parts[0]}]"
    if len(location) > 2 and isinstance(location[2], int):
        parts = [parts[0], f"{parts[1]}[{location[2]}]", *parts[3:]]
    return f"[{parts[0]}] {' '.join(parts[1:])}"
