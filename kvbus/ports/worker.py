"""Work that would hold up a node's loop: in a process of its own for real, in virtual time in a simulated world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def keep_on() -> None:
    """Give way to nobody: a job that has no node beside it calls this."""


class Worker(Protocol):
    """Does one job after the other, in the order of their submission.

    A job is a function of a module's top level and its argument; both, and the result, must survive pickling. It sees
    the files of the node and nothing of its memory.
    """

    @property
    def give_way(self) -> Callable[[], object]:
        """What a job is to call between two small parts of its work, so that the node goes first; for one job only.

        It survives pickling, too.
        """
        ...

    def submit(
        self, job: Callable[[Argument], Result], argument: Argument, done: Callable[[Result | Exception], object]
    ) -> None:
        """Do ``job(argument)`` beside the node; ``done`` is called between two of its steps.

        ``done`` is given the result, the exception that the job raised, or :class:`~kvbus.errors.WorkerDied`.
        """
        ...

    def close(self) -> None:
        """Take no more jobs and end; the ``done`` of what has not ended is not called any more."""
        ...
