"""Scripts: what a client does in virtual time, one step after the other, written as a generator."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeAlias, cast

from kvbus.client.operation import Operation
from kvbus.client.replies import GetReply, Outcome, PutReply
from kvbus.sim.client import ClientShell
from kvbus.sim.timeline import Timeline

Step: TypeAlias = "float | Operation | Script"
Script: TypeAlias = Generator[Step, "Outcome | None", None]
Reading: TypeAlias = Generator[Step, "Outcome | None", GetReply | None]
Writing: TypeAlias = Generator[Step, "Outcome | None", PutReply | None]


class Asked(Operation):
    """An operation whose outcome resumes a script."""

    __slots__ = ("resume",)

    resume: Callable[[Outcome], None]

    def settle(self, outcome: Outcome) -> None:
        """Go on with the script that waits."""
        self.resume(outcome)


class Runner:
    """Runs a script through one client.

    A script yields seconds to sleep, an operation whose outcome it wants, or another script that is to run beside it.
    """

    def __init__(self, timeline: Timeline, shell: ClientShell, script: Script) -> None:
        self._timeline = timeline
        self._shell = shell
        self._script = script
        self._go_on(None)

    def _go_on(self, outcome: Outcome | None) -> None:
        try:
            wanted = self._script.send(outcome)
        except StopIteration:
            return
        if isinstance(wanted, Operation):
            cast("Asked", wanted).resume = self._go_on
            self._shell.submit(wanted)
        elif isinstance(wanted, Generator):
            Runner(self._timeline, self._shell, wanted)
            self._go_on(None)
        else:
            self._timeline.at(self._timeline.now + wanted, lambda: self._go_on(None))
