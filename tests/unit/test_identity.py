"""The data directory's papers: incarnations, the handed-on hold, and directories that are somebody else's."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from kvbus.errors import ConfigError, CorruptionError
from kvbus.identity import IdentityFile
from kvbus.sim.disk import MemoryDisk
from kvbus.wire.handshake import Known

YEAR_2025_MS = 1_735_689_600_000
UNIT_MS = 15_000
NOW_MS = YEAR_2025_MS + 1000 * UNIT_MS


def papers_on(disk: MemoryDisk) -> IdentityFile:
    return IdentityFile(disk, "data")


def test_every_start_raises_the_incarnation_and_keeps_the_id() -> None:
    disk = MemoryDisk()
    first = papers_on(disk).start("demo", "n1", "three", NOW_MS)
    second = papers_on(disk).start("demo", "n1", "three", NOW_MS)
    assert second.incarnation == first.incarnation + 1
    assert first.node_id == second.node_id


def test_a_new_directorys_first_incarnation_is_the_quarter_minutes_since_2025_and_later_ones_only_count_on() -> None:
    disk = MemoryDisk()
    for units, incarnation in ((1000, 1000), (5000, 1001), (2, 1002)):
        started = papers_on(disk).start("demo", "n1", "three", YEAR_2025_MS + units * UNIT_MS + 999)
        assert started.incarnation == incarnation


def test_an_emptied_directory_begins_above_all_the_starts_that_it_had_at_most_four_a_minute() -> None:
    lost = MemoryDisk()
    used = [papers_on(lost).start("demo", "n1", "three", NOW_MS + n * UNIT_MS).incarnation for n in range(5)]
    again = papers_on(MemoryDisk()).start("demo", "n1", "three", NOW_MS + 5 * UNIT_MS)
    assert again.incarnation > max(used)


@pytest.mark.parametrize("wall_ms", [0, YEAR_2025_MS - 1, YEAR_2025_MS + (UNIT_MS << 26)])
def test_a_new_directory_is_not_made_by_a_clock_that_must_be_wrong(wall_ms: int) -> None:
    disk = MemoryDisk()
    with pytest.raises(ConfigError, match="clock"):
        papers_on(disk).start("demo", "n1", "three", wall_ms)
    assert disk.list() == []
    first = papers_on(disk).start("demo", "n1", "three", YEAR_2025_MS + (UNIT_MS << 26) - 1)
    assert first.incarnation == (1 << 26) - 1
    papers_on(disk).start("demo", "n1", "three", wall_ms)


def test_a_hold_is_handed_on_once() -> None:
    disk = MemoryDisk()
    papers = papers_on(disk).start("demo", "n1", "three", NOW_MS)
    papers_on(disk).save(replace(papers, hold_floor=7, known={"n2": Known("x", 3)}))
    resumed = papers_on(disk).start("demo", "n1", "three", NOW_MS)
    assert (resumed.hold_floor, resumed.known) == (7, {"n2": Known("x", 3)})
    assert papers_on(disk).start("demo", "n1", "three", NOW_MS).hold_floor is None


@pytest.mark.parametrize(
    ("cluster", "name", "layout", "named"),
    [
        ("other", "n1", "three", "correct [cluster] name"),
        ("demo", "n2", "three", "correct [node] name"),
        ("demo", "n1", "four", "restore [cluster] initial_members, partitions and replicas"),
    ],
)
def test_a_directory_of_another_cluster_node_or_layout_is_refused(
    cluster: str, name: str, layout: str, named: str
) -> None:
    disk = MemoryDisk()
    before = papers_on(disk).start("demo", "n1", "three", NOW_MS)
    with pytest.raises(ConfigError) as refused:
        papers_on(disk).start(cluster, name, layout, NOW_MS)
    assert named in str(refused.value)
    assert papers_on(disk).start("demo", "n1", "three", NOW_MS).incarnation == before.incarnation + 1


def test_a_directory_with_strange_files_or_broken_papers_is_refused() -> None:
    disk = MemoryDisk()
    disk.replace("something", b"else")
    with pytest.raises(ConfigError, match="its own data directory"):
        papers_on(disk).start("demo", "n1", "three", NOW_MS)
    disk = MemoryDisk()
    disk.replace("node.json", b"{")
    with pytest.raises(CorruptionError, match=r"node\.json"):
        papers_on(disk).start("demo", "n1", "three", NOW_MS)


@pytest.mark.parametrize("starts_since", [1, 5, 60])
@pytest.mark.parametrize("minutes_since", [0, 10_000])
def test_a_copy_put_in_the_directorys_place_begins_above_it_and_takes_over_no_hold(
    starts_since: int, minutes_since: int
) -> None:
    disk = MemoryDisk()
    papers = papers_on(disk).start("demo", "n1", "three", NOW_MS)
    papers_on(disk).save(replace(papers, hold_floor=7))
    copy = disk.kill()
    used = [papers_on(disk).start("demo", "n1", "three", NOW_MS).incarnation for _ in range(starts_since)]
    copy.stamped = "another directory"
    restored = papers_on(copy).start("demo", "n1", "three", NOW_MS + minutes_since * 4 * UNIT_MS)
    assert restored.incarnation > max(used)
    assert (restored.node_id, restored.hold_floor) == (papers.node_id, None)
    again = papers_on(copy).start("demo", "n1", "three", NOW_MS)
    assert again.incarnation == restored.incarnation + 1


def test_a_copy_is_not_started_by_a_clock_that_must_be_wrong() -> None:
    disk = MemoryDisk()
    papers_on(disk).start("demo", "n1", "three", NOW_MS)
    disk.stamped = "another directory"
    with pytest.raises(ConfigError, match="clock"):
        papers_on(disk).start("demo", "n1", "three", 0)


class Life:
    """A directory, its clock and the one copy of it; ``used`` are the incarnations that a node has served with."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS
        self.used: list[int] = []
        self.disk = MemoryDisk()
        self.start()
        self.copy = self.disk.kill()

    def start(self, *, is_killed_while_it_waits: bool = False) -> None:
        def wait(seconds: float) -> None:
            assert 0 < seconds <= UNIT_MS / 1000
            if is_killed_while_it_waits:
                raise KeyboardInterrupt
            self.now_ms += round(seconds * 1000)

        try:
            started = papers_on(self.disk).start("demo", "n1", "three", self.now_ms, wait)
        except KeyboardInterrupt:
            return
        self.used.append(started.incarnation)

    def put_copy_in_place(self) -> None:
        self.disk = self.copy.kill()
        self.disk.stamped = "another directory"


@pytest.mark.parametrize("seed", range(20))
def test_no_incarnation_is_used_twice_whatever_copies_and_starts_there_are(seed: int) -> None:
    random, life = Random(seed), Life()
    for _ in range(random.choice([20, 400])):
        if random.random() < 0.1:
            life.put_copy_in_place()
        for _ in range(random.choice([0, 1, 1, 4, 300])):
            life.start(is_killed_while_it_waits=random.random() < 0.1)
            life.now_ms += random.choice([0, 1, 700, 20_000])
    assert len(set(life.used)) == len(life.used)


def test_waits_are_for_copies_and_for_starts_in_bursts_alone() -> None:
    disk, waits = MemoryDisk(), list[float]()
    for _ in range(257):
        papers_on(disk).start("demo", "n1", "three", NOW_MS, waits.append)
    assert waits == [15.0]


def test_a_start_does_not_wait_for_a_clock_that_was_set_back() -> None:
    disk, waits = MemoryDisk(), list[float]()
    for now_ms in (NOW_MS, NOW_MS - 300 * UNIT_MS, 0):
        papers_on(disk).start("demo", "n1", "three", now_ms, waits.append)
    assert waits == []
