"""The data directory's papers: incarnations, the handed-on hold, and directories that are somebody else's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvbus.errors import ConfigError, CorruptionError
from kvbus.runtime.identity import IdentityFile
from kvbus.wire.handshake import Known
from tests.memory_disk import MemoryDisk


def papers_on(disk: MemoryDisk) -> IdentityFile:
    return IdentityFile(disk, "data")


def test_every_start_raises_the_incarnation_and_keeps_the_id() -> None:
    disk = MemoryDisk()
    first = papers_on(disk).start("demo", "n1", "three")
    second = papers_on(disk).start("demo", "n1", "three")
    assert (first.incarnation, second.incarnation) == (1, 2)
    assert first.node_id == second.node_id


def test_a_hold_is_handed_on_once() -> None:
    disk = MemoryDisk()
    papers = papers_on(disk).start("demo", "n1", "three")
    papers_on(disk).save(replace(papers, hold_floor=7, known={"n2": Known("x", 3)}))
    resumed = papers_on(disk).start("demo", "n1", "three")
    assert (resumed.hold_floor, resumed.known) == (7, {"n2": Known("x", 3)})
    assert papers_on(disk).start("demo", "n1", "three").hold_floor is None


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
    before = papers_on(disk).start("demo", "n1", "three")
    with pytest.raises(ConfigError) as refused:
        papers_on(disk).start(cluster, name, layout)
    assert named in str(refused.value)
    assert papers_on(disk).start("demo", "n1", "three").incarnation == before.incarnation + 1


def test_a_directory_with_strange_files_or_broken_papers_is_refused() -> None:
    disk = MemoryDisk()
    disk.replace("something", b"else")
    with pytest.raises(ConfigError, match="its own data directory"):
        papers_on(disk).start("demo", "n1", "three")
    disk = MemoryDisk()
    disk.replace("node.json", b"{")
    with pytest.raises(CorruptionError, match=r"node\.json"):
        papers_on(disk).start("demo", "n1", "three")
