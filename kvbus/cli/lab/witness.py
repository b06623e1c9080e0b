"""Somebody who asks single nodes of a stage, times their answers, checks them and writes them down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from time import perf_counter
from types import TracebackType
from typing import Self, cast

from kvbus.cli.lab import probe
from kvbus.cli.lab.network import address_of
from kvbus.cli.lab.report import Outcome, Report, Seen, answer_text, check, verdict
from kvbus.cli.lab.stage import Stage
from kvbus.client import Client, GetReply, PutReply
from kvbus.core.sides import Way
from kvbus.errors import ClientError


class Witness:
    """Asks the nodes of ``stage`` about two keys; ``network`` is the state of the network that its rows name.

    ``key`` is written and read, ``refused_key`` is there for writes that are refused or end unknown.

    Its clients stand beside the nodes, where no cut concerns them, and talk to one node each: so what is answered is
    that node's side of the cut alone. Its probes run inside the nodes' namespaces.
    """

    def __init__(self, stage: Stage, report: Report, key: bytes, refused_key: bytes) -> None:
        self._stage = stage
        self.key = key
        self._refused_key = refused_key
        self._open = ExitStack()
        self._clients: dict[str, Client] = {}
        self.network = ""
        self.report = report

    def __enter__(self) -> Self:
        for name in self._stage.network.names:
            self._clients[name] = self._open.enter_context(self._stage.client(name))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def put(self, through: str, value: bytes, expected: str, *, ctx: bytes | None, w: int | None = None) -> PutReply:
        """Write ``value`` in place of what ``ctx`` covers; see that the answer is as expected.

        Raises:
            LabFailed: it is not.
        """
        demand = "" if w is None else f" --w {w}"
        act = partial(self._clients[through].put, self.key, value, ctx=ctx, w=w)
        return cast("PutReply", self._asked(f"put {value.decode()}{demand}", through, act, expected))

    def get(self, through: str, values: Sequence[bytes], expected: str, *, r: int | None = None) -> GetReply:
        """Read; see that the answer and the values are as expected.

        Raises:
            LabFailed: they are not.
        """
        demand = "" if r is None else f" --r {r}"
        act = partial(self._clients[through].get, self.key, r=r)
        found = cast("GetReply", self._asked(f"get{demand}", through, act, expected))
        wanted = b", ".join(values).decode()
        check(sorted(found.values) == list(values), f"a get through {through} finds {wanted}; found {found.values}")
        return found

    def refused(self, through: str, w: int, *expected: str, deadline_ms: int | None = None) -> None:
        """Demand ``w`` copies, which this side cannot give; see that it says so in one of the expected ways.

        Raises:
            LabFailed: it does not.
        """
        act = partial(self._clients[through].put, self._refused_key, b"X", w=w, deadline_ms=deadline_ms)
        self._asked(f"put X --w {w}", through, act, *expected)

    def connects(self, source: str, target: str, expected: bool) -> None:
        """See whether TCP connects one node's namespace to another node, as expected.

        Raises:
            LabFailed: not so.
        """
        host = address_of(self._stage.network.names.index(target))
        port = int(self._stage.node(target).client.rpartition(":")[2])
        act = partial(probe.connects, self._stage.network, source, host, port)
        self._probed(f"TCP {source} → {target}", act, expected, "connects", f"no answer in {probe.WAIT_SECONDS:.0f} s")

    def arrives(self, source: str, target: str, expected: bool) -> None:
        """See whether a datagram gets from one node's namespace to another's, as expected.

        Raises:
            LabFailed: not so.
        """
        host = address_of(self._stage.network.names.index(target))
        act = partial(probe.arrives, self._stage.network, source, target, host)
        self._probed(f"UDP {source} → {target}", act, expected, "arrives", "is lost")

    def becomes(self, state: str, ways: Sequence[Way], limit_seconds: float) -> dict[Way, float]:
        """Wait until each link of ``ways`` has had the state ``up`` or ``down``; return after how many seconds.

        Raises:
            LabFailed: one has not had it within ``limit_seconds``.
        """
        seen = self._stage.wait_for(state, ways, limit_seconds)
        late = [f"{name} sees {other} {state}" for name, other in ways if (name, other) not in seen]
        check(not late, f"{', '.join(late)} within {limit_seconds:.0f} s")
        return seen

    def hears(self, name: str, other: str) -> None:
        """See that one node hears another.

        Raises:
            LabFailed: it does not.
        """
        check(self._stage.state((name, other)) != "down", f"{name} hears {other}")

    def _asked(self, tried: str, through: str, act: Callable[[], Outcome], *expected: str) -> Outcome:
        begun = perf_counter()
        try:
            outcome = act()
        except ClientError as error:
            outcome = error
        answer, ms = answer_text(outcome), (perf_counter() - begun) * 1000
        self._note(tried, through, answer, round(ms, 1))
        claim = f"{tried} through {through} ends {' or '.join(expected)}; it ended {answer}"
        check(verdict(outcome) in expected, claim)
        return outcome

    def _probed(self, tried: str, act: Callable[[], bool], expected: bool, yes: str, no: str) -> None:
        arrived = act()
        self._note(tried, "", yes if arrived else no, None)
        check(arrived == expected, f"{tried}: {yes if expected else no}")

    def _note(self, tried: str, through: str, answer: str, ms: float | None) -> None:
        self.report.seen.append(Seen(network=self.network, tried=tried, through=through, answer=answer, ms=ms))
