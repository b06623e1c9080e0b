"""The event loop that load generators and the echo run on: uvloop where it is installed, as in a node."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from importlib.metadata import PackageNotFoundError, version


def uvloop_version() -> str | None:
    """Return the version of uvloop, or None where it is not installed."""
    try:
        return version("uvloop")
    except PackageNotFoundError:
        return None


def run(main: Coroutine[object, object, None]) -> None:
    """Run ``main`` to its end."""
    if uvloop_version() is None:
        asyncio.run(main)
        return
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)
