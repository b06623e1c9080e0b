"""Who imports whom: what each plug-in may see, and what a client must never load.

The layers between rooms of ``kvbus`` are contracts of import-linter in pyproject.toml. These tests hold for single
imports what those contracts cannot say: *nothing but*.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.tidy.tree import CHECKOUT, Source, imports, sources

_OURS = ("kvbus", "kvbus_modes", "kvbus_storage")
MAY_IMPORT = {
    "kvbus/core": ("kvbus.core", "kvbus.ports", "kvbus.errors"),
    "kvbus/ports": ("kvbus.core", "kvbus.ports", "kvbus.errors"),
    "kvbus/wire": ("kvbus.core", "kvbus.ports", "kvbus.errors", "kvbus.wire"),
    "kvbus/client": ("kvbus.client", "kvbus.core", "kvbus.ports", "kvbus.errors", "kvbus.wire"),
    "storage/kvbus_storage": ("kvbus.core", "kvbus.ports", "kvbus.errors", "kvbus_storage"),
    "modes/kvbus_modes": ("kvbus.core", "kvbus.ports", "kvbus.wire", "kvbus.errors", "kvbus_modes"),
}
TOO_HEAVY_FOR_A_CLIENT = (
    "apscheduler", "kvbus.core.node", "kvbus.runtime", "kvbus_modes", "kvbus_storage", "prometheus_client", "pydantic",
    "pydantic_settings", "rich", "starlette", "structlog", "typer", "uvicorn",
)  # fmt: skip
# Public names must cost nothing until they are used.
TOO_HEAVY_FOR_THE_PACKAGE = (*TOO_HEAVY_FOR_A_CLIENT, "asyncio", "cbor2", "kvbus.client", "kvbus.core", "mmh3", "zmq")


def strangers(source: Source, allowed: tuple[str, ...]) -> list[str]:
    """List imports of our own packages that are not at or below one of ``allowed``."""
    ours = [(line, name) for line, name in imports(source.tree) if name.split(".")[0] in _OURS]
    return [source.breach(line, f"imports {name}") for line, name in ours if not _below(name, allowed)]


def _below(name: str, allowed: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{room}.") for room in allowed)


def loaded_by(statement: str) -> list[str]:
    """Run ``statement`` in a fresh interpreter and return the names of all modules it has then."""
    code = f"{statement}\nimport json, sys\njson.dump(sorted(sys.modules), sys.stdout)"
    path = os.pathsep.join(str(CHECKOUT / room) for room in (".", "modes", "storage"))
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    modules: list[str] = json.loads(run.stdout)
    return modules


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_each_room_imports_nothing_but_what_lies_below_it(room: str) -> None:
    assert [breach for source in sources(room) for breach in strangers(source, MAY_IMPORT[room])] == []


def test_plug_ins_are_named_in_one_place() -> None:
    allowed = ("kvbus",)
    elsewhere = [source for source in sources("kvbus") if source.path != "kvbus/plugins.py"]
    assert [breach for source in elsewhere for breach in strangers(source, allowed)] == []


def test_the_client_loads_no_server() -> None:
    assert [name for name in loaded_by("import kvbus.client") if name in TOO_HEAVY_FOR_A_CLIENT] == []


def test_the_package_alone_loads_nothing_heavy() -> None:
    assert [name for name in loaded_by("import kvbus") if name in TOO_HEAVY_FOR_THE_PACKAGE] == []


def test_every_public_name_is_there() -> None:
    loaded = loaded_by("import kvbus\nfor name in kvbus.__all__: getattr(kvbus, name)")
    assert "kvbus.client" in loaded


def test_a_heavy_module_is_found() -> None:
    assert "pydantic" in loaded_by("import pydantic")


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("kvbus/core", "from kvbus.wire import cbor"),
        ("kvbus/core", "from kvbus import Client"),
        ("kvbus/client", "from kvbus.config import load"),
        ("storage/kvbus_storage", "import kvbus.runtime.driver"),
        ("storage/kvbus_storage", "from kvbus_modes import ap"),
        ("modes/kvbus_modes", "from kvbus.runtime import driver"),
    ],
)
def test_a_stranger_is_found_even_inside_a_function(room: str, line: str) -> None:
    assert strangers(Source(f"{room}/planted.py", f"def late():\n    {line}\n"), MAY_IMPORT[room])
