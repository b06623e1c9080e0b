"""The load generators' side of a conversation: a JSON line on standard input, a JSON line on standard output."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import cast

from benchmarks.measurement import Sample

Request = Mapping[str, object]


async def converse(answer: Callable[[Request], Awaitable[Sample | None]]) -> None:
    """Answer each request in turn until standard input ends."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        sample = await answer(cast("Request", json.loads(line)))
        print(json.dumps({} if sample is None else asdict(sample)), flush=True)


def number(request: Request, name: str) -> float:
    """Return a numeric field of a request."""
    value = request[name]
    assert isinstance(value, int | float)
    return value
