"""kvbus' closed loop, with the product's own client: ``python -m benchmarks.kvbus_load ADDRESS,…``.

So many workers each await one operation at a time. A put overwrites: it carries the context of this client's last put
to that key, because a put without one would leave a sibling beside the value that it means to replace. No two workers
write the same key, so no put is concurrent with another. The two clients, with and without packing, have keys of their
own: a client keeps to one coordinator, and a key that two coordinators write in turn costs more on every node.
"""

from __future__ import annotations

import asyncio
import sys
from random import Random
from time import perf_counter

from benchmarks.event_loop import run
from benchmarks.load_lines import Request, converse, number
from benchmarks.measurement import KEYS, VALUE_BYTES, WARMUP_SECONDS, Sample
from kvbus import AsyncClient
from kvbus.errors import ClientError

_VALUE = b"v" * VALUE_BYTES
_BATCH = 512


class KvbusLoad:
    """The keys of one client with their contexts, and what a measurement has seen so far."""

    def __init__(self, client: AsyncClient, name: bytes) -> None:
        self._client = client
        self._keys = [b"%b-%012d" % (name, index) for index in range(KEYS)]
        self._contexts: list[bytes | None] = [None] * KEYS
        self._latencies_us: list[float] = []
        self._errors = 0
        self._last_error = ""
        self._from = self._until = 0.0
        self._random = Random().random

    async def fill(self) -> None:
        """Write every key once.

        Raises:
            ClientError: a put failed.
        """
        for start in range(0, KEYS, _BATCH):
            indices = range(start, min(start + _BATCH, KEYS))
            replies = await asyncio.gather(*[self._client.put(self._keys[index], _VALUE) for index in indices])
            for index, reply in zip(indices, replies, strict=True):
                self._contexts[index] = reply.ctx

    async def measure(self, op: str, outstanding: int, seconds: float) -> Sample:
        """Run one closed loop."""
        self._latencies_us, self._errors, self._last_error = [], 0, ""
        self._from = perf_counter() + WARMUP_SECONDS
        self._until = self._from + seconds
        work = self._put if op == "put" else self._get
        await asyncio.gather(*[work(worker, outstanding) for worker in range(outstanding)])
        return Sample.of(self._latencies_us, seconds, self._errors, self._last_error)

    async def _put(self, worker: int, workers: int) -> None:
        client, keys, contexts = self._client, self._keys, self._contexts
        random, share = self._random, len(keys) // workers
        while (begun := perf_counter()) < self._until:
            index = worker + workers * int(random() * share)
            try:
                contexts[index] = (await client.put(keys[index], _VALUE, ctx=contexts[index])).ctx
            except ClientError as error:
                self._failed(error)
            else:
                self._answered(begun)

    async def _get(self, worker: int, workers: int) -> None:
        client, keys = self._client, self._keys
        random, count = self._random, len(keys)
        while (begun := perf_counter()) < self._until:
            try:
                values = (await client.get(keys[int(random() * count)])).values
            except ClientError as error:
                self._failed(error)
            else:
                self._answered(begun)
                if len(values) != 1:
                    self._errors += 1
                    self._last_error = f"a key has {len(values)} values instead of one"

    def _answered(self, begun: float) -> None:
        now = perf_counter()
        if self._from <= now < self._until:
            self._latencies_us.append((now - begun) * 1e6)

    def _failed(self, error: ClientError) -> None:
        self._errors += 1
        self._last_error = f"{error.code}: {error}"


async def serve(addresses: str) -> None:
    """Answer requests ``{op: fill}`` and ``{op: put | get, outstanding, packing, seconds}``."""
    async with AsyncClient(addresses) as packing, AsyncClient(addresses, packing=False) as single:
        loads = {True: KvbusLoad(packing, b"pack"), False: KvbusLoad(single, b"lone")}

        async def answer(request: Request) -> Sample | None:
            if request["op"] == "fill":
                for load in loads.values():
                    await load.fill()
                return None
            return await loads[bool(request["packing"])].measure(
                str(request["op"]), int(number(request, "outstanding")), number(request, "seconds")
            )

        await converse(answer)


if __name__ == "__main__":
    run(serve(sys.argv[1]))
