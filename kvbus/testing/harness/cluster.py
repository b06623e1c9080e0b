"""What a test may do to a cluster, real or simulated: the type of the fixture ``kvbus_cluster``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from kvbus.client.blocking import BlockingOperations
from kvbus.client.url import DEFAULT_KEYSPACE
from kvbus.core.sides import Way, parted_ways
from kvbus.testing.harness.recording import RecordingClient
from kvbus.testing.history import History
from kvbus.testing.history_file import write_history
from kvbus.testing.recorder import Recorder

PATIENCE_SECONDS = 30.0


class NotConverged(AssertionError):
    """The replicas still differed, or a node was not linked, when the time was up; the message says which."""


class Trouble:
    """Something that is wrong until :meth:`end`, or until the end of a ``with`` block."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end: Callable[[], None] | None = end

    def end(self) -> None:
        """Mend it; a second call does nothing."""
        if self._end is not None:
            self._end()
            self._end = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()


class Cluster(ABC):
    """A cluster under test. Nodes are called ``n1``, ``n2`` …; what a test breaks is mended after it.

    Trouble is in force from the call on: use it as a context manager, or end it by hand.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.recorder = Recorder()
        self._cuts: dict[Trouble, list[Way]] = {}
        self._recorded = 0

    @abstractmethod
    def client(
        self, name: str | None = None, *, keyspace: str = DEFAULT_KEYSPACE, deadline_ms: int = 5000
    ) -> BlockingOperations:
        """Open a blocking client: of the node ``name``, whose side of a cut it shares, or of all nodes."""

    def recorded_client(
        self, name: str | None = None, *, keyspace: str = DEFAULT_KEYSPACE, deadline_ms: int = 5000
    ) -> RecordingClient:
        """Open a client that writes down all it asks and is told, for :meth:`history`."""
        self._recorded += 1
        client = self.client(name, keyspace=keyspace, deadline_ms=deadline_ms)
        return RecordingClient(client, self.recorder, self.now, self._recorded, name)

    def history(self) -> History:
        """Return what the recorded clients did, as the checkers of :mod:`kvbus.testing` take it."""
        return self.recorder.history()

    def save_history(self, path: str | Path) -> None:
        """Write the history to a file for ``kvbus check-history``."""
        write_history(self.history(), Path(path))

    def partition(self, text: str) -> Trouble:
        """Cut the network: ``"n1 | n2,n3"``; see :mod:`kvbus.core.sides` for bridges and one-way cuts.

        Raises:
            ConfigError: the text names no cut.
        """
        ways = parted_ways(text, self.names)
        cut = Trouble(lambda: self._end_cut(cut))
        self._cuts[cut] = ways
        try:
            self._cut(ways)
        except BaseException:
            self.heal()
            raise
        return cut

    def one_way(self, sender: str, receivers: str) -> Trouble:
        """Lose what ``sender`` sends to ``receivers`` (``"n2,n3"``); their answers pass."""
        return self.partition(f"{sender} -> {receivers}")

    def heal(self) -> None:
        """End every cut."""
        self._cuts.clear()
        self._heal()

    @abstractmethod
    def kill(self, name: str) -> None:
        """End a node at once, as a crash would (SIGKILL)."""

    @abstractmethod
    def stop(self, name: str) -> None:
        """Stop a node cleanly, and wait until it has ended."""

    @abstractmethod
    def start(self, name: str) -> None:
        """Start a node that was killed or stopped; it is linked again after :meth:`wait_linked`."""

    def restart(self, name: str) -> None:
        """Stop a node if it runs, start it and wait until all are linked."""
        if self.is_up(name):
            self.stop(name)
        self.start(name)
        self.wait_linked()

    @abstractmethod
    def is_up(self, name: str) -> bool:
        """Say whether a node's process is there, paused or not."""

    def pause(self, name: str) -> Trouble:
        """Stop a node where it stands (SIGSTOP) until the end of the block."""
        self._pause(name)
        return Trouble(lambda: self.resume(name))

    @abstractmethod
    def resume(self, name: str) -> None:
        """Let a paused node go on."""

    @abstractmethod
    def sleep(self, seconds: float) -> None:
        """Let time pass: real, or virtual."""

    @abstractmethod
    def now(self) -> float:
        """Return the history's clock, in seconds."""

    def wait_linked(self, timeout_s: float = PATIENCE_SECONDS) -> None:
        """Wait until every node is up and linked to every other one: due after every cut, pause and start.

        Raises:
            NotConverged: the time was up.
        """
        self._wait(self._unlinked, timeout_s)

    def wait_converged(self, timeout_s: float = PATIENCE_SECONDS) -> None:
        """Wait until every node is linked and all replicas hold the same.

        Raises:
            NotConverged: the time was up; the message says which partitions differ, and where.
        """
        self._wait(lambda: self._unlinked() or self._differing(), timeout_s)

    @abstractmethod
    def close(self) -> None:
        """End the cluster and all that belongs to it."""

    @abstractmethod
    def _cut(self, ways: Sequence[Way]) -> None: ...

    @abstractmethod
    def _heal(self) -> None: ...

    @abstractmethod
    def _pause(self, name: str) -> None: ...

    @abstractmethod
    def _wait(self, flaw: Callable[[], str], timeout_s: float) -> None:
        """Let time pass until ``flaw`` returns no text; raise :class:`NotConverged` with the last one."""

    @abstractmethod
    def _unlinked(self) -> str:
        """Say which nodes are down or not linked; nothing if all are."""

    @abstractmethod
    def _differing(self) -> str:
        """Say which partitions' replicas differ; nothing if none do."""

    def _end_cut(self, cut: Trouble) -> None:
        if self._cuts.pop(cut, None) is not None:
            self._heal()
            for ways in self._cuts.values():
                self._cut(ways)
