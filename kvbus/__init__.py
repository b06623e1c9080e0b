"""kvbus: a distributed key-value store over ZeroMQ, that stays available and says what it does.

``Client``, ``AsyncClient`` and the error tree are loaded on first use, so that ``import kvbus`` costs next to nothing::

    from kvbus import Client

    with Client(["tcp://127.0.0.1:7400"]) as client:
        ...
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvbus.client import AsyncClient, Client, GetReply, PutReply, Siblings, Unreachable
    from kvbus.errors import (
        BadRequest,
        ClientError,
        ConfigError,
        Conflict,
        Corrupt,
        CorruptionError,
        Internal,
        KvbusError,
        NoQuorum,
        Overloaded,
        PeerProtocolError,
        ReadOnly,
        RequestTimeout,
        SessionExpired,
        ShuttingDown,
        StaleEpoch,
        TooLarge,
        TooManySiblings,
        Unauthorized,
        UnknownKeyspace,
        UnknownOp,
        Unsupported,
    )

__version__ = "0.1.0.dev0"

__all__ = [
    "AsyncClient",
    "BadRequest",
    "Client",
    "ClientError",
    "ConfigError",
    "Conflict",
    "Corrupt",
    "CorruptionError",
    "GetReply",
    "Internal",
    "KvbusError",
    "NoQuorum",
    "Overloaded",
    "PeerProtocolError",
    "PutReply",
    "ReadOnly",
    "RequestTimeout",
    "SessionExpired",
    "ShuttingDown",
    "Siblings",
    "StaleEpoch",
    "TooLarge",
    "TooManySiblings",
    "Unauthorized",
    "UnknownKeyspace",
    "UnknownOp",
    "Unreachable",
    "Unsupported",
    "__version__",
]

_CLIENT = frozenset({"AsyncClient", "Client", "GetReply", "PutReply", "Siblings", "Unreachable"})


def __getattr__(name: str) -> object:
    """Load a public name on its first use."""
    if name not in __all__:
        raise AttributeError(f"module 'kvbus' has no attribute {name!r}")
    home = "kvbus.client" if name in _CLIENT else "kvbus.errors"
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
