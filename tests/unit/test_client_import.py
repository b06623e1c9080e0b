"""The client starts quickly: it loads no server, and asyncio only for the one who uses it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_TOO_HEAVY = (
    "apscheduler",
    "kvbus.core.node",
    "kvbus_modes",
    "kvbus_storage",
    "pydantic",
    "structlog",
    "typer",
    "uvicorn",
)
_MAX_SECONDS = 0.3


def run(statement: str) -> tuple[float, list[str]]:
    """Run ``statement`` in a fresh interpreter; return its processor seconds and the modules that are loaded then."""
    code = (
        "import json, sys, time\n"
        "start = time.process_time()\n"
        f"{statement}\n"
        "json.dump([time.process_time() - start, sorted(sys.modules)], sys.stdout)"
    )
    path = [entry for entry in sys.path if entry]
    code = f"import sys; sys.path[:] = {path!r}\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, modules = json.loads(done.stdout)
    return seconds, modules


@pytest.mark.parametrize("name", ["Client", "AsyncClient"])
def test_a_client_loads_no_server(name: str) -> None:
    _, modules = run(f"from kvbus.client import {name}")
    assert [module for module in modules if module in _TOO_HEAVY] == []


@pytest.mark.parametrize("statement", ["import kvbus.client", "from kvbus.client import Client, GetReply, Siblings"])
def test_the_blocking_client_does_not_load_asyncio(statement: str) -> None:
    assert "asyncio" not in run(statement)[1]


def test_nothing_but_a_name_is_loaded_by_the_package() -> None:
    assert [module for module in run("import kvbus.client")[1] if module in ("zmq", "mmh3", "cbor2")] == []


@pytest.mark.parametrize("name", ["Client", "AsyncClient"])
def test_a_client_is_imported_in_less_than_300_ms(name: str) -> None:
    # An import waits for nothing, so its processor time is what it takes when nobody else is there.
    assert any(run(f"from kvbus.client import {name}")[0] < _MAX_SECONDS for _ in range(5))
