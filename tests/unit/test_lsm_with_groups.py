"""Data and Raft groups in one engine, at random: full disks, workers that die, crashes in the middle of every call.

Beside the engine stands a model: for each LSN, what reads and each group's log must show once it is the newest one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import pytest

from kvbus.errors import ReadOnly
from kvbus.ports.raft_log import HardState
from kvbus.sim.disk import MemoryDisk, PowerCut
from kvbus_storage import LsmEngine
from kvbus_storage.options import SyncPolicy
from tests.unit.lsm_workload import KEYS, TINY, Clock, State, opened, state_of, used_bytes

GROUPS = (1, 2, 3)
STEPS = 300

GroupView = tuple[HardState, int, int, int, tuple[bytes, ...], int]


@dataclass(frozen=True)
class Shown:
    """What an engine shows at one LSN."""

    state: State
    groups: tuple[GroupView, ...]


def groups_of(engine: LsmEngine) -> tuple[GroupView, ...]:
    """Return all that each group's log says."""
    log = engine.raft_log
    found: list[GroupView] = []
    for group in GROUPS:
        first, last = log.first_index(group), log.last_index(group)
        entries = tuple(log.entries(group, first, last))
        before = log.term(group, first - 1)
        found.append((log.hard_state(group), first, last, before, entries, log.applied_index(group)))
    return tuple(found)


class Trial:
    """One engine's life; ``shown`` is the model."""

    def __init__(self, seed: int, sync: SyncPolicy) -> None:
        self.random = Random(seed)
        self.options = replace(TINY, sync=sync)
        self.clock = Clock()
        self.disk = MemoryDisk()
        self.engine, self.worker = opened(self.disk, self.options, self.clock)
        self.shown = {0: Shown({}, groups_of(self.engine))}
        self.state: State = {}
        self.acknowledged = 0
        self.crashes = 0

    def step(self) -> None:
        """Do one thing, and now and then lose power in its middle."""
        if self.random.random() < 0.15:
            self._cut_power_after(self.random.choice((1, 2, 3, 5, 8, 13)))
        acts = [self._put] * 6 + [self._purge] * 2 + [self._drop] + [self._commit] * 3
        acts += [self._flush] + [self._tend] * 2 + [self._work] * 8 + [self._append] * 3 + [self._vote, self._trim]
        acts += [self._forget, self._apply, self._apply, self._fill_or_empty, self._restart]
        try:
            self.random.choice(acts)()
        except PowerCut:
            self.disk.on_step = lambda: None
            self._after_an_interrupted_call()
            self.restart()
        self.disk.on_step = lambda: None
        assert state_of(self.engine) == self.state
        if self.engine.applied_lsn in self.shown:
            assert groups_of(self.engine) == self.shown[self.engine.applied_lsn].groups

    def restart(self) -> None:
        """Go on with what a kill or a power cut has left."""
        self.crashes += 1
        capacity = self.disk.capacity_bytes
        self.disk = self.disk.kill() if self.random.random() < 0.4 else self.disk.crash(self.random)
        stays_full = self.random.random() < 0.3 and capacity is not None and capacity > used_bytes(self.disk)
        self.disk.capacity_bytes = capacity if stays_full else None
        self.engine, self.worker = opened(self.disk, self.options, self.clock)
        self._fill_gaps()
        lsn = self.engine.applied_lsn
        assert self.acknowledged <= lsn <= max(self.shown)
        self._go_back_to(lsn)
        self.acknowledged = lsn

    def _cut_power_after(self, steps: int) -> None:
        left = iter(range(steps))

        def count_down() -> None:
            if next(left, None) is None:
                raise PowerCut

        self.disk.on_step = count_down

    def _after_an_interrupted_call(self) -> None:
        """Let what the call may have logged, of groups whose segments a flush leaves too, be as good as nothing."""
        self._fill_gaps()
        newest = max(self.shown)
        for lsn in range(newest + 1, newest + 40):
            self.shown[lsn] = self.shown[newest]

    def _fill_gaps(self) -> None:
        """A batch that only carried a group's log over to another segment shows what the one before it showed."""
        for lsn in range(1, max(*self.shown, self.engine.applied_lsn) + 1):
            self.shown.setdefault(lsn, self.shown[lsn - 1])

    def _go_back_to(self, lsn: int) -> None:
        self.shown = {number: shown for number, shown in self.shown.items() if number <= lsn}
        self.state = dict(self.shown[lsn].state)
        assert groups_of(self.engine) == self.shown[lsn].groups

    def _try(self, act: Callable[[], object]) -> bool:
        try:
            act()
        except ReadOnly:
            self._fill_gaps()
            self._go_back_to(self.engine.applied_lsn)
            return False
        return True

    def _write(self, act: Callable[[], object], state: State | None = None) -> None:
        if self._try(act):
            self.state = dict(self.state if state is None else state)
            self._fill_gaps()
            self.shown[self.engine.applied_lsn] = Shown(self.state, groups_of(self.engine))

    def _acknowledge(self, act: Callable[[], object]) -> None:
        if self._try(act) and self.options.sync == "batch":
            self.acknowledged = self.engine.durable_lsn

    def _put(self) -> None:
        keys = [self.random.choice(KEYS) for _ in range(self.random.randint(1, 4))]
        records = [self.random.randbytes(self.random.choice((0, 1, 30, 600))) for _ in keys]
        self._write(lambda: self.engine.apply(keys, records), {**self.state, **dict(zip(keys, records, strict=True))})

    def _purge(self) -> None:
        keys = self.random.sample(KEYS, 2)
        self._write(
            lambda: self.engine.purge(keys), {key: record for key, record in self.state.items() if key not in keys}
        )

    def _drop(self) -> None:
        start, end = sorted(self.random.sample(KEYS, 2))
        state = {key: record for key, record in self.state.items() if not start <= key < end}
        self._acknowledge(self.engine.commit)
        if self.engine.read_only:
            return
        # A crash in the middle of the call may already show the new state.
        self._fill_gaps()
        self.shown[self.engine.applied_lsn + 1] = Shown(state, groups_of(self.engine))
        self._write(lambda: self.engine.drop_range(start, end), state)
        self._acknowledge(self.engine.commit)

    def _commit(self) -> None:
        self._acknowledge(self.engine.commit)

    def _flush(self) -> None:
        self._acknowledge(self.engine.flush)

    def _tend(self) -> None:
        self._acknowledge(self.engine.flush_due)
        self.engine.compact_due()

    def _work(self) -> None:
        # A worker tells between two steps of a node, when nothing is queued.
        self._acknowledge(self.engine.commit)
        acts = [self.worker.work] * 5 + [self.worker.do, self.worker.die]
        self.random.choice([*acts, self.engine.compact])()

    def _append(self) -> None:
        log, group, random = self.engine.raft_log, self.random.choice(GROUPS), self.random
        lowest = max(log.first_index(group), log.applied_index(group) + 1)
        if lowest <= log.last_index(group) + 1:
            first, count = random.randint(lowest, log.last_index(group) + 1), random.randint(0, 3)
            terms = [random.randint(1, 5) for _ in range(count)]
            entries = [random.randbytes(random.choice((3, 300))) for _ in terms]
            self._write(lambda: log.append(group, first, terms, entries))

    def _vote(self) -> None:
        state = HardState(self.random.randint(1, 9), self.random.randint(0, 3))
        group = self.random.choice(GROUPS)
        self._write(lambda: self.engine.raft_log.save_hard_state(group, state))

    def _trim(self) -> None:
        log, group = self.engine.raft_log, self.random.choice(GROUPS)
        index = self.random.randint(log.first_index(group), log.last_index(group) + 2)
        is_there = index <= log.last_index(group) and self.random.random() < 0.8
        term = log.term(group, index) if is_there else self.random.randint(1, 9)
        self._write(lambda: log.trim(group, index, term))

    def _forget(self) -> None:
        if self.random.random() < 0.3:
            group = self.random.choice(GROUPS)
            self._write(lambda: self.engine.raft_log.forget(group))

    def _apply(self) -> None:
        log, group = self.engine.raft_log, self.random.choice(GROUPS)
        if log.applied_index(group) < log.last_index(group):
            index = self.random.randint(log.applied_index(group) + 1, log.last_index(group))
            key, record = self.random.choice(KEYS), self.random.randbytes(20)
            self._write(lambda: log.apply(group, index, [key], [record]), {**self.state, key: record})

    def _fill_or_empty(self) -> None:
        if self.disk.capacity_bytes is None:
            self.disk.capacity_bytes = used_bytes(self.disk) + self.random.choice((0, 50, 400, 3000, 20_000))
        else:
            self.disk.capacity_bytes = None
            self.clock.now_s += 2

    def _restart(self) -> None:
        if self.random.random() < 0.8:
            self.restart()


@pytest.mark.parametrize("sync", ["batch", "interval"])
@pytest.mark.parametrize("seed", range(30))
def test_data_and_groups_are_those_of_an_acknowledged_prefix(seed: int, sync: SyncPolicy) -> None:
    trial = Trial(seed, sync)
    for _ in range(STEPS):
        trial.step()
    assert trial.crashes > 3
