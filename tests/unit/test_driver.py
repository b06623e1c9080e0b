"""The driver shares its loop: however much arrives, links, HTTP and signals have their turn."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import sleep
from typing import cast

from kvbus.core.node import Node
from kvbus.core.tick import Tick
from kvbus.ports.engine import Engine
from kvbus.runtime.driver import Driver
from kvbus.runtime.zmq_transport import ZmqTransport

ROUND_SECONDS = 0.001
MOST_ROUNDS_A_TURN = 20


class EndlessTransport:
    """A transport at which more waits than can ever be taken; its descriptors are readable all the time."""

    more_waits = True

    def __init__(self, descriptor: int) -> None:
        self.rounds = 0
        self._descriptor = descriptor

    def receive(self, tick: Tick) -> None:
        self.rounds += 1
        sleep(ROUND_SECONDS)

    def wake_by(self, alarm: Callable[[float], None]) -> None:
        pass

    def watch(self, now: float, tick_gossip: list[bytes]) -> bool:
        return False

    def hot_descriptors(self) -> list[int]:
        return [self._descriptor]

    def rare_descriptors(self) -> list[int]:
        return []


class IdleEngine:
    """An engine with nothing to commit."""

    def commit(self) -> int:
        return 0


@contextmanager
def readable() -> Iterator[int]:
    read, write = os.pipe()
    os.write(write, b"x")
    try:
        yield read
    finally:
        os.close(read)
        os.close(write)


async def _rounds_between_turns(transport: EndlessTransport) -> list[int]:
    """Drive for some turns of the loop; return how many rounds the driver made in each."""
    driver = Driver(
        cast("Node", None),
        cast("ZmqTransport", transport),
        cast("Engine", IdleEngine()),
        trace=lambda event, fields: None,
        fatal=lambda error: None,
    )
    driver.start()
    counts: list[int] = []
    for _ in range(30):
        before = transport.rounds
        await asyncio.sleep(0)
        counts.append(transport.rounds - before)
    driver.stop()
    return counts


def test_a_turn_of_the_loop_is_short_however_much_arrives() -> None:
    with readable() as descriptor:
        counts = asyncio.run(_rounds_between_turns(EndlessTransport(descriptor)))
    assert max(counts) <= MOST_ROUNDS_A_TURN
    assert sum(counts) > 30, "and the driver goes on without a new event"
