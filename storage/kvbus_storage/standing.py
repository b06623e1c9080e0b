"""Whether an engine takes calls and writes, and what it says where it does not.

::

    running ──no room──▶ read-only ──room again──▶ running
       └────any other disk error──▶ stopped, for good
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager

from kvbus.errors import ReadOnly, ShuttingDown

logger = logging.getLogger(__name__)


class Standing:
    """The state that the journals of all engines share; ``running`` is False once it is closed or has stopped."""

    __slots__ = ("_failure", "_mend", "read_only", "running")

    def __init__(self) -> None:
        self.running = True
        self.read_only = False
        self._mend = ""
        self._failure: OSError | None = None

    def check_writable(self) -> None:
        """Refuse a write that could not be kept.

        Raises:
            ReadOnly: there is no room for it now.
            OSError, ShuttingDown: as :meth:`refuse`.
        """
        if not self.running:
            self.refuse()
        if self.read_only:
            raise self.refusal()

    def take_no_writes(self, mend: str) -> None:
        """Be read-only until ``read_only`` is taken back; writers are told ``mend``."""
        self.read_only = True
        self._mend = mend

    def refusal(self) -> ReadOnly:
        """Return what a writer is told while the engine is read-only."""
        return ReadOnly(self._mend)

    @contextmanager
    def stopping_on_error(self) -> Generator[None, None, None]:
        """Stop for good where the body meets an ``OSError``."""
        try:
            yield
        except OSError as error:
            self.stop(error)
            raise

    def stop(self, error: OSError) -> None:
        """Take no more calls after an error that nothing can mend but a new process."""
        self.running = False
        self._failure = error
        logger.critical("the disk failed, the process must exit: %s", error)

    def refuse(self) -> None:
        """Raise what each call gets from an engine that is closed or has stopped.

        Raises:
            ShuttingDown: it is closed.
            OSError: it has stopped at an earlier error.
        """
        if self._failure is not None:
            message = f"the engine stopped at an earlier error ({self._failure.strerror}): restart the process"
            raise OSError(self._failure.errno, message)
        raise ShuttingDown("the engine is closed: open it again")
