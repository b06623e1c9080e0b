"""A bare ROUTER that sends every message back: ``python -m benchmarks.echo_server PORT``.

It reads as a node does: woken through the socket's descriptor, it drains the socket until nothing is left.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import zmq

from benchmarks.event_loop import run
from benchmarks.processes import HOST


async def serve(port: int) -> None:
    """Echo until SIGTERM."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.LINGER, 0)
    router.set_hwm(0)
    router.bind(f"tcp://{HOST}:{port}")

    def drain() -> None:
        receive, send = router.recv_multipart, router.send_multipart
        try:
            while True:
                send(receive(zmq.NOBLOCK), zmq.NOBLOCK)
        except zmq.Again:
            return

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(router.fileno(), drain)
    drain()
    await stop.wait()
    loop.remove_reader(router.fileno())
    context.destroy(0)


if __name__ == "__main__":
    run(serve(int(sys.argv[1])))
