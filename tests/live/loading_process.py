"""An engine with a worker in a process of its own that is loaded, then read, and says what it is at.

As a program: ``loading_process.py FOLDER MEMORY_BYTES KEYS``. Each line of its output is a phase and the engine's own
figure of its memory; the last one is ``done``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from random import Random

from kvbus.runtime.os_disk import OsDisk
from kvbus.runtime.process_worker import ProcessWorker
from kvbus_storage import EngineOptions, LsmEngine, open_lsm

VALUE_BYTES = 100
_BATCH = 256
_READS = 300_000
_SCANNED = 64


def key_of(number: int) -> bytes:
    """Return the key with this number: 16 bytes, those of successive numbers far apart."""
    return b"%016x" % (number * 0x9E3779B97F4A7C15 % 2**64)


def tell(phase: str, engine: LsmEngine) -> None:
    """Write a line."""
    os.write(1, f"{phase} {engine.stats()['memory_bytes']}\n".encode())


async def load(engine: LsmEngine, keys: int) -> None:
    """Write every key once, as fast as the engine wants it, which is how fast a node writes."""
    noise = Random(1).randbytes(1 << 20)
    for begin in range(0, keys, _BATCH):
        numbers = range(begin, min(begin + _BATCH, keys))
        places = [number * 7919 % (len(noise) - VALUE_BYTES) for number in numbers]
        engine.apply([key_of(number) for number in numbers], [noise[at : at + VALUE_BYTES] for at in places])
        engine.commit()
        await asyncio.sleep(engine.rest_seconds)
        if begin % (_BATCH * 256) == 0:
            tell("load", engine)


async def read(engine: LsmEngine, keys: int) -> None:
    """Read keys at random until all memory that blocks may take is taken, and ranges between them."""
    random = Random(2)
    for begin in range(0, _READS, _BATCH):
        assert None not in engine.multi_get([key_of(random.randrange(keys)) for _ in range(_BATCH)])
        start = random.randrange(2**64 - 2**56)
        for _ in engine.scan(b"%016x" % start, b"%016x" % (start + _SCANNED * 2**64 // keys)):
            pass
        engine.compact_due()
        await asyncio.sleep(0)
        if begin % (_BATCH * 64) == 0:
            tell("read", engine)


async def run(folder: str, memory_bytes: int, keys: int) -> None:
    """Load and read."""
    engine = open_lsm(OsDisk(folder), EngineOptions(memory_bytes=memory_bytes), ProcessWorker())
    tell("open", engine)
    await load(engine, keys)
    engine.flush()
    await read(engine, keys)
    tell("done", engine)
    # The test ends the process.
    await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
