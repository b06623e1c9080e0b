"""A first start that was cut short is no damage; a segment that is the base and lost its header is, and stays."""

from __future__ import annotations

from random import Random

import pytest

from kvbus.errors import CorruptionError
from kvbus.sim.disk import MemoryDisk
from kvbus_storage import EngineOptions, open_engine, open_lsm
from kvbus_storage.log.format import segment_name
from tests.workers import HandWorker


@pytest.mark.parametrize("before", [0, 3], ids=["empty", "from the memory engine"])
def test_the_first_start_may_be_cut_short_anywhere(before: int) -> None:
    disk, images, rng = MemoryDisk(), list[MemoryDisk](), Random(1)
    engine = open_engine(disk, EngineOptions())
    expected = {b"k%d" % number: b"v" for number in range(before)}
    for key, value in expected.items():
        engine.apply([key], [value])
    engine.close()

    def look() -> None:
        images.append(disk.kill())
        images.extend(disk.crash(rng) for _ in range(20))

    disk.on_step = look
    open_lsm(disk, EngineOptions(), HandWorker())
    assert len(images) > 60
    for image in images:
        assert dict(open_lsm(image, EngineOptions(), HandWorker()).scan(b"", b"z")) == expected


def test_a_damaged_header_of_the_base_is_damage_and_the_segment_stays() -> None:
    disk, worker = MemoryDisk(), HandWorker()
    engine = open_lsm(disk, EngineOptions(), worker)
    engine.apply([b"k"], [b"v"])
    engine.flush()
    while worker.work():
        pass
    disk = disk.kill()
    disk.files[segment_name(2)].data[20] ^= 1
    for _ in range(2):
        with pytest.raises(CorruptionError, match="log-00000002 at byte 0"):
            open_lsm(disk, EngineOptions(), HandWorker())
    assert segment_name(2) in disk.list()
