"""Random work on a log-structured engine, beside plain dicts that say what each LSN must show.

The limits are as small as they may be, so that a few dozen steps flush, compact through several levels and cut tables
at guards. The worker's jobs run when the workload says, or never.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from kvbus.errors import ReadOnly, WorkerDied
from kvbus.ports.worker import Argument, Result
from kvbus.sim.disk import MemoryDisk
from kvbus_storage import EngineOptions, LsmEngine, open_lsm
from kvbus_storage.log.format import segment_number
from tests.workers import HandWorker

LOWEST, HIGHEST = b"", b"\xff" * 8
KEYS = [b"%c/%d" % (letter, number) for letter in b"abcd" for number in range(8)] + [b"a", b"c/1/long", b""]

TINY = EngineOptions(
    segment_bytes=4096,
    memory_bytes=1 << 20,
    block_bytes=64,
    table_bytes=1024,
    level0_runs=1,
    level1_bytes=2048,
    level_ratio=2,
    guard_bytes=1024,
)

State = dict[bytes, bytes]


class Clock:
    """A clock that goes on by a hundredth of a second with each look, or as far as it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        self.now_s += 0.01
        return self.now_s


class LateWorker(HandWorker):
    """A worker by hand that tells what became of a job when it is told to: at once, later, or that it died."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[Callable[[], object]] = []
        self._tellers: list[Callable[[Exception], object]] = []

    def submit(
        self, job: Callable[[Argument], Result], argument: Argument, done: Callable[[Result | Exception], object]
    ) -> None:
        def keep(outcome: Result | Exception) -> None:
            self.results.append(partial(done, outcome))
            self._tellers.append(done)

        super().submit(job, argument, keep)

    def work(self) -> bool:
        """Do the next job and tell what became of it, or of the one before it; say whether there was one."""
        return self.do() | self.tell()

    def do(self) -> bool:
        """Do the next job and keep what became of it; say whether there was one."""
        return super().work()

    def tell(self) -> bool:
        """Tell what became of the oldest job of which that is not told yet; say whether there was one."""
        if not self.results:
            return False
        self._tellers.pop(0)
        self.results.pop(0)()
        return True

    def die(self) -> bool:
        """Tell of the oldest job that the worker died, whatever it has written; say whether there was one."""
        return self.fail(WorkerDied("the worker died in the middle of a job"))

    def fail(self, error: Exception) -> bool:
        """Tell of the oldest job that it failed, whatever it has written; say whether there was one."""
        if not self.results and not self.do():
            return False
        self.results.pop(0)
        self._tellers.pop(0)(error)
        return True


def opened(disk: MemoryDisk, options: EngineOptions = TINY, clock: Clock | None = None) -> tuple[LsmEngine, LateWorker]:
    """Open what ``disk`` holds."""
    worker = LateWorker()
    return open_lsm(disk, options, worker, clock=clock or Clock()), worker


def state_of(engine: LsmEngine) -> State:
    """Return everything that a scan shows."""
    return dict(engine.scan(LOWEST, HIGHEST))


def drain(worker: HandWorker) -> None:
    """Let the worker do all that it was given, and what that leads to."""
    while worker.work():
        pass


def settle(engine: LsmEngine, worker: HandWorker) -> None:
    """Let flushes and compactions go on until there is nothing to do."""
    for _ in range(2000):
        if not worker.work() and not engine.flush_due() and not engine.compact_due():
            return
    raise AssertionError("flushes and compactions go on and on")


def used_bytes(disk: MemoryDisk) -> int:
    """Return the bytes of all files."""
    return sum(len(file.data) for file in disk.files.values())


def check_tidy(disk: MemoryDisk, engine: LsmEngine) -> None:
    """Check that nothing lies on the disk that a start should have removed."""
    stats = engine.stats()
    names = [name for name in disk.list() if not name.endswith(".tmp") and name not in blank_segments(disk)]
    kinds = [name.partition("-")[0] for name in names]
    found = {kind: kinds.count(kind) for kind in kinds}
    assert found.pop("manifest") == 1
    assert found.pop("log", 0) == stats["log_segments"]
    assert found.pop("table", 0) == stats["tables"]
    assert not found


def blank_segments(disk: MemoryDisk) -> list[str]:
    """Return the segments that have not begun: at most one, the newest."""
    names = [name for name in disk.list() if segment_number(name) is not None]
    blank = [name for name in names if not bytes(disk.files[name].data).strip(b"\0")]
    assert blank in ([], names[-1:])
    return blank


class Workload:
    """An engine at work; ``states[lsn]`` is what it must show once that batch is the newest one."""

    def __init__(self, seed: int, options: EngineOptions = TINY) -> None:
        self.random = Random(seed)
        self.options = options
        self.disk = MemoryDisk()
        self.states: list[State] = [{}]
        # The newest batch that a commit acknowledged.
        self.acknowledged = 0
        self.refused = 0
        self.drops = True
        self.engine, self.worker = opened(self.disk, options)

    def state(self) -> State:
        """Return what the engine must show now."""
        return self.states[self.engine.applied_lsn]

    def put(self) -> None:
        """Apply a batch in which a key may come twice."""
        random = self.random
        keys = [random.choice(KEYS) for _ in range(random.randint(1, 4))]
        records = [random.randbytes(random.choice((0, 1, 30, 30, 600))) for _ in keys]
        self._write({**self.states[-1], **dict(zip(keys, records, strict=True))}, lambda: self._apply(keys, records))

    def purge(self) -> None:
        """Remove some keys, present or not."""
        keys = self.random.sample(KEYS, self.random.randint(1, 3))
        state = {key: record for key, record in self.states[-1].items() if key not in keys}
        self._write(state, lambda: self.engine.purge(keys))

    def drop(self) -> None:
        """Drop a range of keys, which commits."""
        start, end = sorted(self.random.sample(KEYS, 2))
        state = {key: record for key, record in self.states[-1].items() if not start <= key < end}
        self._write(state, lambda: self.engine.drop_range(start, end))
        self._acknowledge()

    def commit(self) -> None:
        """Commit what was written."""
        self._try(self.engine.commit)
        self._acknowledge()

    def flush(self) -> None:
        """Ask for a flush of everything."""
        self._try(self.engine.flush)
        self._acknowledge()

    def tend(self) -> None:
        """Do what a node does from time to time."""
        self._try(self.engine.flush_due)
        self._acknowledge()
        self.engine.compact_due()

    def step(self, *, maintains: bool = True) -> None:
        """Do one thing, most often a write."""
        acts: list[Callable[[], object]] = [self.commit] * 4
        acts += [self.put] * 8 + [self.purge] * 2 + [self.drop] * self.drops
        if maintains:
            acts += [self.flush] * 2 + [self.tend] * 3 + [self.engine.compact]
            acts += [self.worker.work] * 8 + [self.worker.do]
        self.random.choice(acts)()

    def restart(self, disk: MemoryDisk) -> None:
        """Go on with what ``disk`` holds, a state that is allowed after a crash of this workload."""
        acts, disk.on_step = disk.on_step, lambda: None
        engine, _ = opened(disk.kill(), self.options)
        assert self.acknowledged <= engine.applied_lsn < len(self.states)
        del self.states[engine.applied_lsn + 1 :]
        disk.on_step = acts
        self.disk = disk
        self.engine, self.worker = opened(disk, self.options)
        self.acknowledged = self.engine.applied_lsn
        assert state_of(self.engine) == self.states[-1]

    def _apply(self, keys: list[bytes], records: list[bytes]) -> None:
        previous = self.engine.multi_get(keys) if self.random.random() < 0.5 else None
        self.engine.apply(keys, records, previous=previous)

    def _write(self, state: State, write: Callable[[], object]) -> None:
        # A crash in the middle of the call may already show the new state.
        self.states.append(state)
        self._try(write)

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except ReadOnly:
            self.refused += 1
            assert self.engine.stats()["read_only"]
        del self.states[self.engine.applied_lsn + 1 :]

    def _acknowledge(self) -> None:
        self.acknowledged = self.engine.durable_lsn if self.options.sync == "batch" else self.acknowledged


class Witness:
    """Recovers crash images of a workload and checks all that a start promises."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self.images = 0

    def check(self, image: MemoryDisk) -> int:
        """Check ``image``, which may be left changed; return the newest LSN that it shows."""
        self.images += 1
        workload = self._workload
        engine, worker = opened(image, workload.options)
        lsn = engine.applied_lsn
        assert workload.acknowledged <= lsn < len(workload.states)
        state = workload.states[lsn]
        assert state_of(engine) == state
        check_tidy(image, engine)
        self._go_on(image, engine, worker, state)
        return lsn

    def _go_on(self, image: MemoryDisk, engine: LsmEngine, worker: LateWorker, state: State) -> None:
        """Check that a second start sees the same, and that the first one's engine goes on working."""
        again, _ = opened(image.kill(), self._workload.options)
        assert again.applied_lsn == engine.applied_lsn
        assert state_of(again) == state
        expected = {**state, b"b/3": b"new", b"c/9": b"newer"}
        expected.pop(b"a/1", None)
        engine.apply([b"b/3", b"c/9"], [b"new", b"newer"])
        engine.purge([b"a/1"])
        assert engine.commit() == engine.applied_lsn
        engine.flush()
        settle(engine, worker)
        engine.compact()
        settle(engine, worker)
        assert state_of(engine) == expected
        keys = [b"c/9", b"a/1", b"b/3", b"d/2"]
        assert engine.multi_get(keys) == [expected.get(key) for key in keys]
        engine.close()
        assert state_of(opened(image, self._workload.options)[0]) == expected
