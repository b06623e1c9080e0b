"""Damaged files of the log-structured engine: each flipped byte is named or harmless, and no wrong value is served."""

from __future__ import annotations

import pytest

from kvbus.errors import ConfigError, CorruptionError
from kvbus.sim.disk import MemoryDisk, PowerCut
from kvbus_storage import EngineOptions
from tests.unit.lsm_workload import HIGHEST, LOWEST, State, drain, opened, settle, state_of

OPTIONS = EngineOptions(
    memory_bytes=1 << 20, block_bytes=64, table_bytes=1024, level0_runs=2, level1_bytes=1 << 20, compression="lz4"
)
ABSENT = [b"", b"a/0x", b"b", b"k", b"zz"]

Contents = dict[str, bytes]
Seen = tuple[object, ...]


def small_directory() -> tuple[Contents, State]:
    """Return the files of an engine with tables in two levels, a hidden range and a sealed log, and what it holds."""
    disk = MemoryDisk()
    engine, worker = opened(disk, OPTIONS)
    for first in (0, 2):
        numbers = range(first, first + 4)
        engine.apply([b"a/%d" % number for number in numbers], [b"%d" % number * 9 for number in numbers])
        engine.flush()
        settle(engine, worker)
    engine.apply([b"b/1", b"b/22"], [b"", b"long" * 12])
    engine.purge([b"a/3"])
    engine.flush()
    settle(engine, worker)
    engine.drop_range(b"a/4", b"a/5")
    engine.apply([b"b/1", b"c"], [b"one", b"sea"])
    engine.purge([b"a/0"])
    engine.commit()
    engine.apply([b"d"], [b"dee"])
    engine.close()
    assert len({table for table in disk.list() if table.startswith("table-")}) == 2
    return contents(disk), state_of(opened(disk.kill(), OPTIONS)[0])


def contents(disk: MemoryDisk) -> Contents:
    return {name: disk.read(name) for name in disk.list()}


def disk_of(files: Contents) -> MemoryDisk:
    disk = MemoryDisk()
    for name, data in files.items():
        disk.create(name).append(data)
        disk.sync(name)
    disk.sync_folder()
    return disk


def look(disk: MemoryDisk, expected: State) -> Seen:
    """Start on ``disk`` and read everything: say what was damaged; what is shown must be right."""
    before = contents(disk)
    try:
        engine, _ = opened(disk, OPTIONS)
    except CorruptionError as error:
        check_place(error, before)
        assert contents(disk) == before, "a start that finds damage changes nothing"
        return "start", error.path, error.offset
    damaged: list[object] = []
    for key in [*expected, *ABSENT]:
        try:
            assert engine.get(key) == expected.get(key)
        except CorruptionError as error:
            check_place(error, before)
            damaged.append((key, error.path, error.offset))
    try:
        assert dict(engine.scan(LOWEST, HIGHEST)) == expected
    except CorruptionError as error:
        check_place(error, before)
        damaged.append(("scan", error.path, error.offset))
    engine.close()
    return tuple(damaged)


def check_place(error: CorruptionError, files: Contents) -> None:
    # A file that is missing is named too.
    assert 0 <= error.offset <= len(files.get(error.path, b""))
    assert f"{error.path} at byte {error.offset}" in str(error)


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
@pytest.mark.parametrize("kind", ["log", "table", "manifest"])
def test_any_flipped_byte_is_named_or_harmless_at_each_start(kind: str, mask: int) -> None:
    files, expected = small_directory()
    found = 0
    for name in [name for name in files if name.startswith(kind)]:
        for offset in range(len(files[name])):
            data = bytearray(files[name])
            data[offset] ^= mask
            disk = disk_of({**files, name: bytes(data)})
            seen = look(disk, expected)
            again = look(disk, expected)
            # A start after one that went well may have dropped what was damaged and not needed.
            assert again in (seen, ())
            found += seen != ()
    assert found > 100


def test_flipped_byte_of_a_table_is_found_in_every_place() -> None:
    files, expected = small_directory()
    for name in [name for name in files if name.startswith("table-")]:
        for offset in range(len(files[name])):
            data = bytearray(files[name])
            data[offset] ^= 0x10
            assert look(disk_of({**files, name: bytes(data)}), expected) != ()


@pytest.mark.parametrize("kind", ["table", "manifest"])
def test_file_that_was_cut_anywhere_is_named_or_harmless(kind: str) -> None:
    files, expected = small_directory()
    for name in [name for name in files if name.startswith(kind)]:
        for length in range(len(files[name])):
            disk = disk_of({**files, name: files[name][:length]})
            assert look(disk, expected) in (look(disk, expected), ())


def test_missing_table_or_segment_is_named() -> None:
    files, expected = small_directory()
    for name in files:
        left = {other: data for other, data in files.items() if other != name}
        if name.startswith("manifest-"):
            assert look(disk_of(left), expected)[1] == "manifest-*", "the tables are no leftovers then"
        else:
            assert look(disk_of(left), expected) == ("start", name, 0)


@pytest.mark.parametrize("mask", [0x01, 0xFF])
def test_work_on_damaged_blocks_serves_nothing_wrong_and_goes_on(mask: int) -> None:
    files, expected = small_directory()
    for name in [name for name in files if name.startswith("table-")]:
        for offset in range(0, len(files[name]), 3):
            data = bytearray(files[name])
            data[offset] ^= mask
            disk = disk_of({**files, name: bytes(data)})
            try:
                engine, worker = opened(disk, OPTIONS)
            except CorruptionError:
                continue
            engine.apply([b"new"], [b"1"])
            engine.flush()
            engine.compact()
            settle(engine, worker)
            engine.close()
            look(disk, {**expected, b"new": b"1"})


def test_flush_of_a_segment_that_has_rotted_writes_what_is_in_memory() -> None:
    disk = MemoryDisk()
    engine, worker = opened(disk)
    engine.apply([b"a", b"b"], [b"1", b"2"])
    engine.flush()
    disk.files["log-00000001"].data[60] ^= 1
    settle(engine, worker)
    assert engine.stats()["tables"] == 1
    assert "log-00000001" not in disk.list()
    assert state_of(opened(disk.kill())[0]) == {b"a": b"1", b"b": b"2"}


def test_flush_of_a_segment_that_is_gone_writes_what_is_in_memory() -> None:
    disk = MemoryDisk()
    engine, worker = opened(disk)
    engine.apply([b"a"], [b"1"])
    engine.flush()
    disk.remove("log-00000001")
    settle(engine, worker)
    assert state_of(opened(disk.kill())[0]) == {b"a": b"1"}


def test_damaged_header_of_the_empty_segment_behind_a_flush_is_left_as_it_is() -> None:
    disk = MemoryDisk()
    engine, worker = opened(disk)
    engine.apply([b"a"], [b"1"])
    engine.flush()
    settle(engine, worker)
    disk = disk.kill()
    disk.files["log-00000002"].data[20] ^= 1
    with pytest.raises(CorruptionError, match="log-00000002 at byte 0"):
        opened(disk)
    assert "log-00000002" in disk.list()


def test_leftover_beside_a_damaged_table_is_not_in_the_way() -> None:
    disk = MemoryDisk()
    engine, worker = opened(disk, OPTIONS)
    for key in (b"a", b"z"):
        worker.work()
        engine.apply([key], [b"1"])
        engine.flush()
    worker.do()
    disk = disk.kill()
    disk.files["table-00000001"].data[-1] ^= 1
    engine, worker = opened(disk, OPTIONS)
    engine.apply([b"y"], [b"2"])
    engine.flush()
    settle(engine, worker)
    assert engine.multi_get([b"y", b"z"]) == [b"2", b"1"]


@pytest.mark.parametrize("place", [0, -1])
def test_dropped_range_of_a_damaged_table_is_damaged_no_more(place: int) -> None:
    disk = MemoryDisk()
    engine, worker = opened(disk, OPTIONS)
    engine.apply([b"a", b"b", b"c"], [b"1", b"2", b"3"])
    engine.flush()
    settle(engine, worker)
    disk = disk.kill()
    disk.files["table-00000001"].data[place] ^= 1
    engine, _ = opened(disk, OPTIONS)
    engine.drop_range(b"b", b"d")
    assert engine.get(b"b") is None
    assert dict(engine.scan(b"b", b"d")) == {}


@pytest.mark.parametrize("kind", ["table", "manifest"])
def test_newer_version_is_refused_and_changes_nothing(kind: str) -> None:
    files, _ = small_directory()
    name = next(name for name in files if name.startswith(kind))
    start = len(files[name]) - 72 if kind == "table" else 0
    size = 72 if kind == "table" else 24
    data = bytearray(files[name])
    data[start + 12] = 2
    data[start + 8 : start + 12] = crc_of(bytes(data[start + 12 : start + size]))
    disk = disk_of({**files, name: bytes(data)})
    with pytest.raises(ConfigError, match="newer kvbus"):
        opened(disk, OPTIONS)
    assert contents(disk) == {**files, name: bytes(data)}


def test_first_manifest_of_a_newer_version_is_not_replaced() -> None:
    body = (2).to_bytes(4, "little") + (1).to_bytes(8, "little")
    disk = disk_of({"manifest-00000001": b"KVBUSMAN" + crc_of(body) + body + b"what the newer one has here"})
    with pytest.raises(ConfigError, match="newer kvbus"):
        opened(disk)


def crc_of(data: bytes) -> bytes:
    """Return the CRC32C of ``data`` as the formats store it, computed bit by bit (RFC 3720, appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return (crc ^ 0xFFFFFFFF).to_bytes(4, "little")


def table_names(disk: MemoryDisk) -> list[str]:
    return [name for name in disk.list() if name.startswith("table-")]


def test_table_that_cannot_be_opened_is_damage_to_an_explanation_too() -> None:
    disk = MemoryDisk()
    engine, worker = opened(disk, OPTIONS)
    engine.apply([b"a", b"c"], [b"1", b"2"])
    engine.flush()
    drain(worker)
    (name,) = table_names(disk)
    disk.files[name].data[-100] ^= 0xFF
    engine, _ = opened(disk.kill(), OPTIONS)
    for look_up in (engine.get, engine.explain):
        with pytest.raises(CorruptionError, match="index fails its check"):
            look_up(b"a")


@pytest.mark.parametrize("is_gone", [False, True])
def test_level_0_stays_shallow_above_a_damaged_table(is_gone: bool) -> None:
    disk = MemoryDisk()
    engine, worker = opened(disk, OPTIONS)

    def flush(number: int) -> None:
        engine.apply([b"%03d" % key for key in range(100)], [b"%d" % number] * 100)
        engine.flush()
        settle(engine, worker)

    flush(0)
    (name,) = table_names(disk)
    if is_gone:
        disk.remove(name)
    else:
        disk.files[name].data[5] ^= 0xFF
    for number in range(1, 40):
        flush(number)
    stats = engine.stats()
    assert (stats["damaged_tables"], stats["maintenance_failures"]) == (1, 1)
    assert stats["level0_depth"] <= 2 * OPTIONS.level0_runs
    assert engine.multi_get([b"000", b"099"]) == [b"39", b"39"]


def test_start_that_was_cut_short_beside_a_damaged_table_can_be_made_again() -> None:
    options = EngineOptions(memory_bytes=1 << 20, segment_bytes=4096)
    disk = MemoryDisk()
    engine, worker = opened(disk, options)
    engine.apply([b"a", b"c"], [b"1", b"2"])
    engine.flush()
    drain(worker)
    for number in range(60):
        engine.apply([b"k%03d" % number], [bytes(8000)])
        engine.commit()
    disk = disk.kill()
    (name,) = table_names(disk)
    disk.files[name].data[-100] ^= 0xFF

    def cut() -> None:
        if table_names(disk) != [name]:
            raise PowerCut

    disk.on_step = cut
    with pytest.raises(PowerCut):
        opened(disk, options)
    disk = disk.kill()
    for _ in range(2):
        engine, _ = opened(disk, options)
        assert engine.get(b"k059") == bytes(8000)
        disk = disk.kill()


def test_an_error_of_a_damaged_table_holds_nothing_of_earlier_reads() -> None:
    disk = MemoryDisk()
    engine, worker = opened(disk, OPTIONS)
    engine.apply([b"a"], [b"1"])
    engine.flush()
    drain(worker)
    engine.close()
    (name,) = [name for name in disk.list() if name.startswith("table-")]
    disk.files[name].data[-1] ^= 0xFF
    engine, _ = opened(disk, OPTIONS)
    depths: list[int] = []
    for _ in range(3):
        with pytest.raises(CorruptionError) as caught:
            engine.multi_get([b"a"])
        depths.append(len(caught.traceback))
    assert depths == depths[:1] * 3
