"""The echo's closed loop: one DEALER with so many messages open. ``python -m benchmarks.echo_load PORT``."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from time import perf_counter

import zmq

from benchmarks.event_loop import run
from benchmarks.load_lines import Request, converse, number
from benchmarks.measurement import WARMUP_SECONDS, Sample
from benchmarks.processes import HOST

MESSAGE_BYTES = 150


class EchoLoad:
    """Keeps messages going round; the echo keeps their order, so the oldest is always the one that comes back."""

    def __init__(self, dealer: zmq.Socket[bytes]) -> None:
        self._dealer = dealer
        self._sent_at: deque[float] = deque()
        self._latencies_us: list[float] = []
        self._from = self._until = 0.0
        self._done = asyncio.Event()

    async def measure(self, outstanding: int, seconds: float) -> Sample:
        """Run one closed loop."""
        self._latencies_us.clear()
        self._done.clear()
        self._from = perf_counter() + WARMUP_SECONDS
        self._until = self._from + seconds
        for _ in range(outstanding):
            self._sent_at.append(perf_counter())
            self._dealer.send(bytes(MESSAGE_BYTES), zmq.NOBLOCK)
        self.drain()
        await self._done.wait()
        return Sample.of(self._latencies_us, seconds)

    def drain(self) -> None:
        """Take what came back and send as much again, until nothing is left."""
        receive, send, sent_at = self._dealer.recv, self._dealer.send, self._sent_at
        try:
            while True:
                message = receive(zmq.NOBLOCK)
                now, begun = perf_counter(), sent_at.popleft()
                if now < self._until:
                    if now >= self._from:
                        self._latencies_us.append((now - begun) * 1e6)
                    sent_at.append(now)
                    send(message, zmq.NOBLOCK)
                elif not sent_at:
                    self._done.set()
        except zmq.Again:
            return


async def serve(port: int) -> None:
    """Answer requests ``{outstanding, seconds}``."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.set_hwm(0)
    dealer.connect(f"tcp://{HOST}:{port}")
    load = EchoLoad(dealer)
    loop = asyncio.get_running_loop()
    loop.add_reader(dealer.fileno(), load.drain)

    async def answer(request: Request) -> Sample:
        return await load.measure(int(number(request, "outstanding")), number(request, "seconds"))

    await converse(answer)
    loop.remove_reader(dealer.fileno())
    context.destroy(0)


if __name__ == "__main__":
    run(serve(int(sys.argv[1])))
