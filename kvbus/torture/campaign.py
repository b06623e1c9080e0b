"""Many seeds over all processor cores: which promises held, and which seed broke one."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from hashlib import blake2b
from importlib.util import find_spec
from itertools import islice
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import cast

from kvbus.child_process import serve_parent
from kvbus.errors import ConfigError
from kvbus.torture.nemesis import draw_plan
from kvbus.torture.plan import Plan
from kvbus.torture.run import Result, run_plan

_YOUNG_OBJECTS = 50_000
_MOST_SEEDS = 1_000_000
_PACKAGES = ("kvbus", "kvbus_modes", "kvbus_storage")
_AHEAD = 2
"""Seeds handed out for each process beyond the one it works on."""

Row = Mapping[str, object]
"""One seed's outcome as plain data: seed, theme, operations, virtual_seconds, trace_hash, failed, verdicts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Campaign:
    """What is run: plans are drawn from ``seeds``, all of one ``theme`` or each of its own."""

    mode: str
    seeds: Sequence[int]
    nodes: int = 5
    seconds: float = 20.0
    theme: str | None = None

    def plan(self, seed: int) -> Plan:
        """Return the plan of one seed."""
        return draw_plan(seed, mode=self.mode, nodes=self.nodes, seconds=self.seconds, theme=self.theme)

    def settings(self) -> dict[str, object]:
        """Return what a saved outcome must agree with to count for this campaign."""
        return {"mode": self.mode, "nodes": self.nodes, "seconds": self.seconds, "theme": self.theme}


def run_campaign(
    campaign: Campaign, *, jobs: int, done: Mapping[int, Row], goes_on: Callable[[], bool]
) -> Iterator[Row]:
    """Yield a row for each seed that is not ``done``, as they come; no new seed is begun once ``goes_on`` says no."""
    waiting = iter([seed for seed in campaign.seeds if seed not in done])
    if jobs == 1:
        prepare()
        for seed in waiting:
            if not goes_on():
                return
            yield row_of(run_plan(campaign.plan(seed)))
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_prepare_worker) as pool:
        under_way: set[Future[Row]] = set()
        try:
            while True:
                room = jobs * _AHEAD - len(under_way)
                for seed in islice(waiting, room if goes_on() else 0):
                    under_way.add(pool.submit(_run, campaign.plan(seed)))
                if not under_way:
                    return
                finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        except BrokenProcessPool as error:
            raise ConfigError(
                "a worker was killed, perhaps for want of memory; try fewer --jobs, and --resume to keep what is done"
            ) from error
        finally:
            # Whoever stops here does not wait for seeds whose outcomes nobody will see.
            for worker in active_children():
                worker.terminate()
            pool.shutdown(wait=True, cancel_futures=True)


def prepare() -> None:
    """Make this process fit for runs: simulated disks fail often, and nobody is to read that in a log."""
    logging.getLogger("kvbus_storage").setLevel(logging.CRITICAL + 1)
    gc.set_threshold(_YOUNG_OBJECTS)


def _prepare_worker() -> None:
    """Leave Ctrl-C to the process that shows the outcomes, and do not outlive it."""
    serve_parent()
    prepare()


def row_of(result: Result) -> Row:
    """Return a run's outcome as plain data."""
    return {
        "seed": result.plan.seed,
        "theme": result.plan.theme,
        "operations": result.operations,
        "virtual_seconds": round(result.virtual_seconds, 6),
        "trace_hash": result.trace_hash,
        "failed": [verdict.checker for verdict in result.failed()],
        "verdicts": {
            verdict.checker: {
                "ok": verdict.ok, "judged": verdict.judged, "reason": verdict.reason, "details": list(verdict.details)
            }
            for verdict in result.verdicts
        },
    }  # fmt: skip


class Journal:
    """The file of ``--resume``: one line a seed, so that a campaign goes on where it was stopped.

    Raises:
        ConfigError: the file is another campaign's, or no journal.
    """

    def __init__(self, path: Path, campaign: Campaign) -> None:
        self._path = path
        self._header = {"kvbus_campaign": 1, **campaign.settings(), "code": code_digest()}
        self.done: dict[int, Row] = {}
        text = path.read_bytes().decode(errors="replace") if path.exists() else ""
        if not text:
            self._write(self._header)
            return
        for number, line in enumerate(text.splitlines(), 1):
            self._take(number, line)
        if not text.endswith("\n"):
            with path.open("a", encoding="utf-8") as file:
                file.write("\n")

    def add(self, row: Row) -> None:
        """Keep one seed's outcome."""
        self._write(row)

    def _take(self, number: int, line: str) -> None:
        try:
            found: object = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if number == 1:
            if found != self._header:
                raise ConfigError(
                    f"{self._path} belongs to another campaign or another version of the code ({line.strip()[:160]}); "
                    "name another file with --resume"
                )
            return
        # The last line of a campaign that was killed may be torn; its seed runs again.
        row = cast("dict[str, object]", found) if isinstance(found, dict) else {}
        if type(row.get("seed")) is int and type(row.get("verdicts")) is dict and type(row.get("failed")) is list:
            self.done[cast("int", row["seed"])] = row

    def _write(self, found: Row) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")


def code_digest() -> str:
    """Return a digest of kvbus's own source: outcomes of other code say nothing about this one."""
    digest = blake2b(digest_size=8)
    for package in _PACKAGES:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for file in sorted(Path(folder).rglob("*.py")):
                digest.update(file.read_bytes())
    return digest.hexdigest()


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of ``"1-300"`` or ``"1-10,17"``.

    Raises:
        ConfigError: the text has another form.
    """
    seeds: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ConfigError(f"{text!r} names no seeds; write 1-300, or 4,17,23")
        numbers = range(int(first), int(last or first) + 1)
        if not 0 < len(numbers) <= _MOST_SEEDS:
            raise ConfigError(f"{part.strip()!r}: write the smaller seed first, and at most {_MOST_SEEDS} of them")
        seeds.update(dict.fromkeys(numbers))
    return list(seeds)


def _run(plan: Plan) -> Row:
    return row_of(run_plan(plan))
