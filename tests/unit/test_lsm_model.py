"""The log-structured engine against a dict: whatever is done in whatever order, it shows what the dict holds."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kvbus.errors import ReadOnly
from kvbus.sim.disk import MemoryDisk
from kvbus_storage.lsm.view import View
from tests.unit.lsm_workload import (
    HIGHEST,
    KEYS,
    LOWEST,
    TINY,
    Clock,
    State,
    Workload,
    check_tidy,
    opened,
    settle,
    state_of,
    used_bytes,
)

keys = st.sampled_from(KEYS)
records = st.one_of(st.binary(max_size=4), st.sampled_from((b"r" * 40, b"\0kvbus removed\0", b"x" * 900)))


class EngineMachine(RuleBasedStateMachine):
    """An engine, its worker, its disk and its clock; ``shown`` is what reads see, ``safe`` what a crash leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = MemoryDisk()
        self.clock = Clock()
        self.engine, self.worker = opened(self.disk, TINY, self.clock)
        self.shown: State = {}
        self.safe: State = {}
        self.snapshots: list[tuple[View, State]] = []

    @rule(pairs=st.lists(st.tuples(keys, records), max_size=6), knows=st.booleans())
    def put(self, pairs: list[tuple[bytes, bytes]], knows: bool) -> None:
        batch = [key for key, _ in pairs]
        previous = self.engine.multi_get(batch) if knows else None
        if self._accepts(lambda: self.engine.apply(batch, [record for _, record in pairs], None, previous)):
            self.shown = {**self.shown, **dict(pairs)}

    @rule(gone=st.lists(keys, max_size=4))
    def purge(self, gone: list[bytes]) -> None:
        if self._accepts(lambda: self.engine.purge(gone)):
            self.shown = {key: record for key, record in self.shown.items() if key not in gone}

    @rule(one=keys, other=keys)
    def drop(self, one: bytes, other: bytes) -> None:
        start, end = sorted((one, other))
        if self._accepts(lambda: self.engine.drop_range(start, end)):
            self.shown = {key: record for key, record in self.shown.items() if not start <= key < end}
            self.safe = self.shown

    @rule()
    def commit(self) -> None:
        if self._accepts(self.engine.commit):
            self.safe = self.shown

    @rule()
    def flush(self) -> None:
        if self._accepts(self.engine.flush):
            self.safe = self.shown

    # What maintenance meets on a full disk has tests of its own.
    @precondition(lambda self: self.disk.capacity_bytes is None)
    @rule(times=st.integers(1, 4))
    def work(self, times: int) -> None:
        for _ in range(times):
            self.worker.work()

    @precondition(lambda self: self.disk.capacity_bytes is None)
    @rule()
    def do_and_tell_later(self) -> None:
        self.worker.do()

    @precondition(lambda self: self.disk.capacity_bytes is None)
    @rule()
    def worker_dies(self) -> None:
        self.worker.die()

    @precondition(lambda self: self.disk.capacity_bytes is None)
    @rule()
    def compact(self) -> None:
        self.engine.compact()

    @precondition(lambda self: self.disk.capacity_bytes is None)
    @rule()
    def settle(self) -> None:
        if self._accepts(self.engine.commit):
            self.safe = self.shown
        settle(self.engine, self.worker)

    @rule(room=st.sampled_from((0, 10, 60, 400)))
    def fill_disk(self, room: int) -> None:
        self.disk.capacity_bytes = used_bytes(self.disk) + room

    @rule()
    def free_disk(self) -> None:
        self.disk.capacity_bytes = None
        for _ in range(2):
            self.clock.now_s += 1
            self.commit()
        assert not self.engine.stats()["read_only"], "writes resume by themselves"

    @rule()
    def close_and_start(self) -> None:
        self.commit()
        self.engine.close()
        self.worker.tell()
        self._start(self.disk)

    @rule()
    def kill_and_start(self) -> None:
        disk = self.disk.kill()
        self.shown = self.safe
        self._start(disk)

    @rule(seed=st.integers(0, 99))
    def cut_power_and_start(self, seed: int) -> None:
        if self.shown == self.safe:
            self._start(self.disk.crash(Random(seed)))

    @rule(wanted=st.lists(keys, max_size=8))
    def read(self, wanted: list[bytes]) -> None:
        assert self.engine.multi_get(wanted) == [self.shown.get(key) for key in wanted]
        assert [self.engine.get(key) for key in wanted] == [self.shown.get(key) for key in wanted]

    @rule(start=keys, end=keys)
    def scan(self, start: bytes, end: bytes) -> None:
        expected = [(key, self.shown[key]) for key in sorted(self.shown) if start <= key < end]
        assert list(self.engine.scan(start, end)) == expected

    @rule()
    def take_snapshot(self) -> None:
        self.snapshots.append((self.engine.snapshot(), self.shown))

    @precondition(lambda self: self.snapshots)
    @rule(wanted=keys)
    def read_snapshot(self, wanted: bytes) -> None:
        snapshot, state = self.snapshots.pop(0)
        assert dict(snapshot.scan(LOWEST, HIGHEST)) == state
        assert snapshot.get(wanted) == state.get(wanted)

    @invariant()
    def everything_is_shown(self) -> None:
        assert state_of(self.engine) == self.shown

    @invariant()
    def what_is_at_hand_is_what_is_shown(self) -> None:
        assert dict(self.engine._recent.items()).items() <= self.shown.items()

    def _start(self, disk: MemoryDisk) -> None:
        self.disk = disk
        self.snapshots = []
        self.engine, self.worker = opened(disk, TINY, self.clock)
        if disk.capacity_bytes is None:
            check_tidy(disk, self.engine)

    def _accepts(self, act: Callable[[], object]) -> bool:
        """Say whether ``act`` did what it should; a full disk takes back what was not committed."""
        try:
            act()
        except ReadOnly:
            assert self.engine.stats()["read_only"]
            if self.engine.applied_lsn == self.engine.durable_lsn:
                self.shown = self.safe
            return False
        return True


TestEngineMachine = EngineMachine.TestCase
TestEngineMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("seed", range(4))
def test_long_work_with_restarts_shows_what_was_written(seed: int) -> None:
    workload = Workload(seed)
    compactions = deepest = 0
    for step in range(960):
        workload.step()
        deepest = max(deepest, workload.engine.stats()["tables"])
        if workload.random.random() < 0.05:
            workload.worker.die()
        assert state_of(workload.engine) == workload.state()
        if step % 60 == 59:
            compactions += workload.engine.stats()["compactions"]
            disk = workload.disk.kill() if step % 120 == 59 else workload.disk.crash(workload.random)
            workload.restart(disk)
    assert compactions > 40
    assert deepest > 5
