"""The client library: one pure machine, a blocking shell and an asyncio shell.

Names are loaded on first use, so that the blocking client never pays for asyncio::

    from kvbus.client import Client

    with Client.from_url("kvbus://127.0.0.1:7400/default") as client:
        client.put(b"greeting", b"hello")
        assert client.get(b"greeting").value == b"hello"
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvbus.client.async_client import AsyncClient
    from kvbus.client.failures import Siblings, Unreachable
    from kvbus.client.replies import GetReply, PutReply, ScanEntry
    from kvbus.client.sync_client import Client

__all__ = ["AsyncClient", "Client", "GetReply", "PutReply", "ScanEntry", "Siblings", "Unreachable"]

_HOMES = {
    "AsyncClient": "kvbus.client.async_client",
    "Client": "kvbus.client.sync_client",
    "GetReply": "kvbus.client.replies",
    "PutReply": "kvbus.client.replies",
    "ScanEntry": "kvbus.client.replies",
    "Siblings": "kvbus.client.failures",
    "Unreachable": "kvbus.client.failures",
}


def __getattr__(name: str) -> object:
    """Load a public name on its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'kvbus.client' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
