"""Raft groups' logs in the engine's log: what was truncated stays gone, what must never be forgotten is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

import pytest

from kvbus.errors import CorruptionError, ReadOnly
from kvbus.ports.engine import Engine
from kvbus.ports.raft_log import HardState
from kvbus.sim.disk import MemoryDisk
from kvbus_storage import EngineOptions, open_engine, open_lsm
from kvbus_storage.log.format import segment_name
from kvbus_storage.options import SyncPolicy
from kvbus_storage.raft_log import SegmentRaftLog
from tests.workers import HandWorker

SMALL = EngineOptions(segment_bytes=4096, rewrite_ratio=2, memory_bytes=1 << 20, level0_runs=2)
LOWEST, HIGHEST = b"", b"\xff" * 40

Open = Callable[[MemoryDisk, HandWorker], Engine]
ENGINES: dict[str, Open] = {
    "lsm": lambda disk, worker: open_lsm(disk, SMALL, worker),
    "memory": lambda disk, worker: open_engine(disk, SMALL),
}


@pytest.fixture(params=list(ENGINES))
def opened(request: pytest.FixtureRequest) -> Open:
    return ENGINES[request.param]


def fill(engine: Engine, worker: HandWorker, segments: int) -> None:
    """Write so much that the first ``segments`` segments are full, and let what is due be flushed."""
    for number in range(segments):
        engine.apply([b"filler%d" % number], [bytes(5000)])
        engine.commit()
        engine.flush_due()
        while worker.work():
            engine.flush_due()


def test_entries_terms_and_votes_survive_a_restart(opened: Open) -> None:
    disk, worker = MemoryDisk(), HandWorker()
    engine = opened(disk, worker)
    log = engine.raft_log
    assert (log.groups(), log.first_index(7), log.last_index(7), log.hard_state(7)) == ([], 1, 0, (0, 0))
    log.save_hard_state(7, HardState(3, 2))
    log.append(7, 1, [1, 1, 3], [b"a", b"b", b"c"])
    engine.commit()
    log = opened(disk.kill(), worker).raft_log
    assert (log.groups(), log.hard_state(7), log.last_index(7)) == ([7], HardState(3, 2), 3)
    assert log.entries(7, 1, 3) == [b"a", b"b", b"c"]
    assert [log.term(7, index) for index in range(4)] == [0, 1, 1, 3]
    for missing in (lambda: log.term(7, 4), lambda: log.entries(7, 0, 1), lambda: log.entries(7, 3, 4)):
        with pytest.raises(IndexError, match="keeps entries 1 to 3"):
            missing()


def test_a_truncated_suffix_does_not_come_back(opened: Open) -> None:
    disk, worker = MemoryDisk(), HandWorker()
    engine = opened(disk, worker)
    engine.raft_log.append(1, 1, [1, 1, 1, 1], [b"a", b"b", b"c", b"d"])
    engine.raft_log.append(1, 3, [2], [b"C"])
    engine.raft_log.append(2, 1, [1, 1], [b"x", b"y"])
    engine.raft_log.append(2, 2, [], [])
    engine.commit()
    for image in (disk, disk.kill()):
        log = opened(image, worker).raft_log
        assert (log.last_index(1), log.entries(1, 1, 3), log.term(1, 3)) == (3, [b"a", b"b", b"C"], 2)
        assert (log.last_index(2), log.entries(2, 1, 1)) == (1, [b"x"])


def test_a_gap_and_a_rewrite_of_what_is_applied_are_refused(opened: Open) -> None:
    engine = opened(MemoryDisk(), HandWorker())
    log = engine.raft_log
    log.append(1, 1, [1, 1], [b"a", b"b"])
    log.apply(1, 1, [b"k"], [b"a"])
    for first in (0, 1, 4):
        with pytest.raises(IndexError, match="takes entries from 2 to 3 on"):
            log.append(1, first, [1], [b"z"])
    with pytest.raises(IndexError, match="has applied up to 1"):
        log.apply(1, 1, [], [])
    assert log.entries(1, 1, 2) == [b"a", b"b"]


def test_an_idle_groups_vote_and_entries_survive_the_removal_of_their_segments() -> None:
    disk, worker = MemoryDisk(), HandWorker()
    engine = open_lsm(disk, SMALL, worker)
    engine.raft_log.save_hard_state(5, HardState(9, 3))
    engine.raft_log.append(6, 1, [1, 2, 2], [b"a", b"b", b"c"])
    engine.raft_log.trim(6, 1, 1)
    fill(engine, worker, 2)
    engine.raft_log.append(6, 4, [2], [b"d"])
    fill(engine, worker, 6)
    assert segment_name(1) not in disk.list()
    for image in (disk.kill(), disk.crash(Random(1))):
        log = open_lsm(image, SMALL, worker).raft_log
        assert log.hard_state(5) == HardState(9, 3)
        assert (log.first_index(6), log.entries(6, 2, 4), log.term(6, 1)) == (2, [b"b", b"c", b"d"], 1)


def test_nothing_unapplied_is_applied_by_replay(opened: Open) -> None:
    disk, worker = MemoryDisk(), HandWorker()
    engine = opened(disk, worker)
    engine.raft_log.append(1, 1, [1, 1, 1], [b"put k 1", b"put k 2", b"put k 3"])
    engine.raft_log.apply(1, 2, [b"k"], [b"2"])
    engine.commit()
    fill(engine, worker, 3)
    for image in (disk.kill(), disk.kill()):
        again = opened(image, worker)
        assert (again.get(b"k"), again.raft_log.applied_index(1), again.raft_log.last_index(1)) == (b"2", 2, 3)


def test_a_forgotten_group_is_gone_for_good(opened: Open) -> None:
    disk, worker = MemoryDisk(), HandWorker()
    engine = opened(disk, worker)
    engine.raft_log.append(1, 1, [1], [b"a"])
    engine.raft_log.apply(1, 1, [], [])
    fill(engine, worker, 2)
    engine.raft_log.forget(1)
    fill(engine, worker, 4)
    log = opened(disk.kill(), worker).raft_log
    assert (log.groups(), log.applied_index(1), log.last_index(1)) == ([], 0, 0)


def test_a_full_disk_takes_all_of_it_back(opened: Open) -> None:
    disk = MemoryDisk()
    engine = opened(disk, HandWorker())
    log = engine.raft_log
    log.append(1, 1, [1, 1], [b"a", b"b"])
    log.save_hard_state(1, HardState(1, 1))
    engine.commit()
    disk.capacity_bytes = sum(len(file.data) for file in disk.files.values())
    log.append(1, 2, [2, 2], [b"B", b"C"])
    log.save_hard_state(1, HardState(2, 2))
    log.trim(1, 1, 1)
    log.apply(1, 3, [b"k"], [b"r"])
    log.append(2, 1, [1], [b"x"])
    with pytest.raises(ReadOnly):
        engine.commit()
    assert (log.entries(1, 1, 2), log.hard_state(1), log.applied_index(1)) == ([b"a", b"b"], HardState(1, 1), 0)
    assert (log.groups(), engine.get(b"k"), engine.applied_lsn) == ([1], None, 2)
    with pytest.raises(ReadOnly):
        log.append(1, 3, [1], [b"c"])


@dataclass
class Model:
    """What a log must say of one group."""

    state: tuple[int, int] = (0, 0)
    offset: int = 0
    offset_term: int = 0
    terms: list[int] = field(default_factory=list[int])
    entries: list[bytes] = field(default_factory=list[bytes])
    applied: int = 0

    def copy(self) -> Model:
        return Model(self.state, self.offset, self.offset_term, [*self.terms], [*self.entries], self.applied)


def act(rng: Random, engine: Engine, group: int, model: Model) -> None:
    """Do one thing that a replica does, to the engine and to the model."""
    log = engine.raft_log
    last = model.offset + len(model.entries)
    choice = rng.random()
    if choice < 0.5:
        first = rng.randint(max(model.offset, model.applied) + 1, last + 1)
        entries = [rng.randbytes(rng.choice((1, 40, 400))) for _ in range(rng.randint(0, 4))]
        terms = [model.state[0] + 1] * len(entries)
        log.append(group, first, terms, entries)
        kept = first - model.offset - 1
        model.terms[kept:], model.entries[kept:] = terms, entries
    elif choice < 0.65:
        model.state = (model.state[0] + 1, rng.randint(0, 3))
        log.save_hard_state(group, HardState(*model.state))
    elif choice < 0.9 and model.applied < last:
        model.applied = rng.randint(model.applied + 1, last)
        log.apply(group, model.applied, [b"g%d" % group], [b"%d" % model.applied])
    elif model.offset < model.applied:
        index = rng.randint(model.offset + 1, model.applied)
        gone = index - model.offset
        model.offset, model.offset_term = index, model.terms[gone - 1]
        del model.terms[:gone], model.entries[:gone]
        log.trim(group, index, model.offset_term)


def check(engine: Engine, models: dict[int, Model]) -> None:
    for group, model in models.items():
        log = engine.raft_log
        last = model.offset + len(model.entries)
        assert (log.hard_state(group), log.last_index(group)) == (model.state, last)
        assert (log.first_index(group), log.applied_index(group)) == (model.offset + 1, model.applied)
        assert log.entries(group, model.offset + 1, last) == model.entries
        assert [log.term(group, index) for index in range(model.offset + 1, last + 1)] == model.terms
        assert log.term(group, model.offset) == model.offset_term
        assert engine.get(b"g%d" % group) == (b"%d" % model.applied if model.applied else None)


@pytest.mark.parametrize("seed", range(12))
def test_logs_agree_with_a_model_whatever_happens_between(opened: Open, seed: int) -> None:
    rng = Random(seed)
    disk, worker = MemoryDisk(), HandWorker()
    engine = opened(disk, worker)
    models = {group: Model() for group in (1, 2, 3)}
    durable = {group: model.copy() for group, model in models.items()}
    for _ in range(250):
        group = rng.choice((1, 1, 1, 2, 2, 3))
        act(rng, engine, group, models[group])
        if rng.random() < 0.3:
            engine.apply([b"x%d" % rng.randrange(9)], [bytes(rng.choice((10, 900)))])
        if rng.random() < 0.4:
            engine.commit()
            durable = {number: model.copy() for number, model in models.items()}
        if rng.random() < 0.1:
            engine.flush_due()
            durable = {number: model.copy() for number, model in models.items()}
        if rng.random() < 0.1:
            worker.work()
            durable = (
                {number: model.copy() for number, model in models.items()}
                if not engine.stats()["queued_batches"]
                else durable
            )
        check(engine, models)
        if rng.random() < 0.03:
            worker = HandWorker()
            disk = rng.choice((disk.kill, lambda cut=disk: cut.crash(rng)))()
            engine = opened(disk, worker)
            models = {number: model.copy() for number, model in durable.items()}
            check(engine, models)


def test_a_log_that_lacks_a_groups_beginning_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, worker = MemoryDisk(), HandWorker()
    engine = open_lsm(disk, SMALL, worker)
    with monkeypatch.context() as patched:
        patched.setattr(SegmentRaftLog, "leave_segments_before", lambda self, base: False)
        engine.raft_log.append(2, 1, [1, 1], [b"a", b"b"])
        fill(engine, worker, 2)
        engine.raft_log.append(2, 3, [1], [b"c"])
        engine.commit()
    with pytest.raises(CorruptionError, match="entries of group 2 up to 2 are missing"):
        open_lsm(disk, SMALL, worker)


def test_a_group_that_came_before_the_first_segment_survives_its_removal() -> None:
    disk, worker = MemoryDisk(), HandWorker()
    engine = open_lsm(disk, SMALL, worker)
    log = engine.raft_log
    log.append(7, 1, [1, 1], [b"a", b"b"])
    engine.flush()
    log.save_hard_state(7, HardState(1, 2))
    engine.commit()
    while worker.work():
        pass
    log = open_lsm(disk.kill(), SMALL, worker).raft_log
    assert (log.last_index(7), log.hard_state(7)) == (2, HardState(1, 2))


def test_entries_that_a_trim_discarded_stay_gone_when_their_history_goes() -> None:
    disk, worker = MemoryDisk(), HandWorker()
    engine = open_lsm(disk, SMALL, worker)
    engine.apply([b"k"], [b"v"])
    engine.commit()
    log = engine.raft_log
    log.append(7, 1, [1, 1, 1], [b"a", b"b", b"c"])
    engine.flush()
    log.append(7, 4, [1], [b"stale"])
    log.trim(7, 3, 6)
    engine.commit()
    while worker.work():
        pass
    log = open_lsm(disk.kill(), SMALL, worker).raft_log
    assert (log.last_index(7), log.term(7, 3)) == (3, 6)


@pytest.mark.parametrize("sync", ["interval", "none"])
@pytest.mark.parametrize("engine_name", ENGINES)
def test_a_vote_is_durable_once_it_counts_whatever_the_durability_setting(engine_name: str, sync: SyncPolicy) -> None:
    options = replace(SMALL, sync=sync, interval_ms=10**9)

    def opened(disk: MemoryDisk) -> Engine:
        return open_lsm(disk, options, HandWorker()) if engine_name == "lsm" else open_engine(disk, options)

    disk = MemoryDisk()
    engine = opened(disk)
    lsn = engine.raft_log.save_hard_state(7, HardState(3, 2))
    assert engine.commit() >= lsn
    for image in disk.images():
        assert opened(image).raft_log.hard_state(7) == (3, 2)


@pytest.mark.parametrize("sync", ["interval", "none"])
def test_what_groups_carry_over_to_a_new_segment_is_durable_before_the_old_one_goes(sync: SyncPolicy) -> None:
    options = replace(SMALL, sync=sync, interval_ms=10**9)
    disk, worker = MemoryDisk(), HandWorker()
    engine = open_lsm(disk, options, worker)
    engine.raft_log.append(7, 1, [1, 3], [b"a", b"b"])
    engine.flush()
    while worker.work():
        pass
    for image in disk.images():
        assert open_lsm(image, options, HandWorker()).raft_log.last_index(7) == 2


def test_groups_that_keep_more_than_a_segment_call_for_no_flush_after_flush() -> None:
    worker = HandWorker()
    engine = open_lsm(MemoryDisk(), SMALL, worker)
    for index in range(1, 101):
        engine.raft_log.append(7, index, [1], [bytes(1000)])
    engine.commit()
    for _ in range(50):
        engine.commit()
        engine.flush_due()
        engine.compact_due()
        while worker.work():
            pass
    assert engine.stats()["flushes"] == 1
