"""What an engine's conformance tests stand on."""

from __future__ import annotations

from abc import ABC, abstractmethod

from kvbus.ports.engine import Engine

LOWEST, HIGHEST = b"", b"\xff" * 40
OLD_S = 3600.0
"""Age in seconds at which data in memory go to tables, in the settings that :meth:`EngineBench.open` uses."""

State = dict[bytes, bytes]


class EngineBench(ABC):
    """An engine under test; :meth:`open` opens the same data each time within one test."""

    now_s = 100.0
    tells_when_full = False
    """Whether the engine asks for a flush; one that does not keeps its memory within bounds by itself, or has none."""

    @abstractmethod
    def open(self) -> Engine:
        """Open the engine under test with ``self.clock``, ``OLD_S`` and its smallest memory.

        After a close or an abandoned engine, recover its data.
        """

    @abstractmethod
    def abandon(self, engine: Engine) -> None:
        """Let go of ``engine`` as the end of its process would."""

    def settle(self, engine: Engine) -> None:
        """Wait until flushes and compactions that ``engine`` has begun are done, and begin those that are due."""
        while engine.compact_due():
            pass

    def clock(self) -> float:
        """Give the seconds that an engine under test is to go by."""
        return self.now_s

    def stored(self) -> State:
        """Open the engine, return all that it has, and close it."""
        engine = self.open()
        found = dict(engine.scan(LOWEST, HIGHEST))
        engine.close()
        return found

    def move_to_disk(self, engine: Engine) -> None:
        """Flush and compact all that ``engine`` has."""
        engine.flush()
        self.settle(engine)
        engine.compact()
        self.settle(engine)
