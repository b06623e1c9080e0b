"""Finds modes and engines: a built-in table first, so that a bare checkout works, then the entry points.

Entry-point groups: ``kvbus.modes`` (an object like :class:`kvbus.ports.mode.ModePlugin`), ``kvbus.storage`` (a
function like :class:`kvbus.ports.engine.OpenEngine`) and ``kvbus.storage_tools`` (an object like
:class:`kvbus.ports.engine_tools.EngineTools`). This is the only place that knows a plug-in by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import cast

from kvbus.errors import ConfigError
from kvbus.ports.engine import OpenEngine
from kvbus.ports.engine_tools import EngineTools
from kvbus.ports.mode import ModePlugin, VersionedPlugin

_MODES = {"ap": "kvbus_modes.ap:MODE"}
_ENGINES = {"lsm": "kvbus_storage:LSM", "memory": "kvbus_storage:MEMORY", "rocks": "kvbus_storage.rocks:ROCKS"}
_ENGINE_TOOLS = {"lsm": "kvbus_storage:TOOLS", "memory": "kvbus_storage:TOOLS"}


def mode_plugin(name: str) -> ModePlugin:
    """Return the mode called ``name``.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    return cast("ModePlugin", _find("kvbus.modes", _MODES, name, "mode"))


def token_clock(mode: str, token: bytes) -> dict[int, int]:
    """Count the events that a version token covers, by server short id; none where the mode's tokens name none.

    Raises:
        ConfigError: there is no such mode.
    """
    plugin = mode_plugin(mode)
    return plugin.clock(token) if isinstance(plugin, VersionedPlugin) else {}


def token_dots(mode: str, token: bytes) -> Sequence[tuple[int, int, int, int]]:
    """List a version token's runs of events, as :meth:`VersionedPlugin.dots`; none where the mode's tokens name none.

    Raises:
        ConfigError: there is no such mode.
    """
    plugin = mode_plugin(mode)
    return plugin.dots(token) if isinstance(plugin, VersionedPlugin) else []


def engine_plugin(name: str) -> OpenEngine:
    """Return the function that opens an engine of the kind ``name``.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    return cast("OpenEngine", _find("kvbus.storage", _ENGINES, name, "engine"))


def engine_tools(name: str) -> EngineTools:
    """Return what looks at the files of an engine of the kind ``name``.

    Raises:
        ConfigError: there is nothing that does; the message lists the engines for which there is.
    """
    return cast("EngineTools", _find("kvbus.storage_tools", _ENGINE_TOOLS, name, "inspection of the files of engine"))


def _find(group: str, table: dict[str, str], name: str, noun: str) -> object:
    if name in table:
        module, attribute = table[name].split(":")
        return getattr(import_module(module), attribute)
    installed = {point.name: point for point in entry_points(group=group)}
    if name in installed:
        return installed[name].load()
    known = ", ".join(sorted({*table, *installed}))
    raise ConfigError(f"no {noun} {name!r} is installed; choose one of: {known}")
