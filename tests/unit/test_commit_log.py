"""Recovery: what is torn is dropped, what is damaged is named, what was durable is there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from struct import pack_into

import pytest

from kvbus.errors import ConfigError, CorruptionError
from kvbus.sim.disk import MemoryDisk
from kvbus.sim.disk_file import MemoryFile
from kvbus_storage.checksum import extend
from kvbus_storage.log.format import (
    HEADER_BYTES,
    RECORD_HEAD_BYTES,
    Kind,
    LogRecord,
    SegmentHeader,
    encode_base,
    encode_header,
    encode_record_head,
    read_record,
    segment_name,
    segment_number,
)
from kvbus_storage.log.payload import decode_batch, decode_keys, decode_range
from kvbus_storage.log.reader import read_records
from kvbus_storage.log.recovery import LogTail, read_base, recover_log
from kvbus_storage.memory_engine import MemoryEngine, open_engine
from kvbus_storage.options import EngineOptions, SyncPolicy

LOWEST, HIGHEST = b"", b"\xff" * 40
FIRST, SECOND = segment_name(1), segment_name(2)

State = dict[bytes, bytes]


def replay_record(record: LogRecord, found: State) -> None:
    if record.kind == Kind.RECORD:
        found.update(zip(*decode_batch(record.payload), strict=True))
    elif record.kind == Kind.PURGE:
        for key in decode_keys(record.payload):
            found.pop(key, None)
    elif record.kind == Kind.DROP_RANGE:
        start, end = decode_range(record.payload)
        for key in [key for key in found if start <= key < end]:
            del found[key]


def replay(disk: MemoryDisk, state: State) -> LogTail:
    return recover_log(disk, read_base(disk), lambda record, segment: replay_record(record, state))


def state_of(disk: MemoryDisk) -> State:
    state: State = {}
    replay(disk, state)
    return state


def tail_of(disk: MemoryDisk) -> LogTail:
    return replay(disk, {})


def written(
    batches: int, *, commit_every: int = 1, sealed: bool = False, sync: SyncPolicy = "batch"
) -> tuple[MemoryDisk, list[State]]:
    """Return a disk with one segment of ``batches`` and the state after each batch, the empty one first."""
    disk = MemoryDisk()
    engine = open_engine(disk, EngineOptions(sync=sync))
    states: list[State] = [{}]
    for number in range(1, batches + 1):
        batch = {b"key-%d" % (number % 3): b"record-%d" % number, b"own-%d" % number: b"x" * number}
        engine.apply(list(batch), list(batch.values()))
        states.append({**states[-1], **batch})
        if number % commit_every == 0:
            engine.commit()
    if sealed:
        engine.close()
    return disk.kill(), states


def with_content(data: bytes, path: str = FIRST) -> MemoryDisk:
    disk = MemoryDisk()
    disk.files[path] = MemoryFile(disk, 0)
    disk.files[path].data[:] = data
    return disk


def flipped(data: bytes) -> Iterator[tuple[int, bytes]]:
    for at in range(len(data)):
        for mask in (0x01, 0x80, 0xFF):
            yield at, data[:at] + bytes((data[at] ^ mask,)) + data[at + 1 :]


def record_ends(data: bytes) -> list[int]:
    file = with_content(data).open(FIRST)
    return [record.end for record in read_records(file, 1, len(data))]


def test_segment_names_round_trip() -> None:
    assert segment_name(7) == "log-00000007"
    assert [segment_number(name) for name in ("log-00000007", "log-123456789", "log-base", "log-1", "LOCK")] == [
        7,
        123456789,
        None,
        None,
        None,
    ]


def test_layout_is_the_documented_one() -> None:
    disk, _ = written(1)
    data = disk.read(FIRST)
    assert (HEADER_BYTES, RECORD_HEAD_BYTES) == (40, 29)
    assert data[:8] == b"KVBUSLOG"
    assert data[12:40] == b"\x01\0\0\0" + b"\x01" + bytes(7) + bytes(8) + bytes(8)
    assert data[40:44] == b"KVLR"
    assert int.from_bytes(data[48:52], "little") == len(data) - 69
    assert int.from_bytes(data[52:60], "little") == 1
    assert int.from_bytes(data[60:68], "little") == 40
    assert data[68] == 1


def test_replaying_twice_gives_the_same_state() -> None:
    disk, states = written(9)
    assert state_of(disk) == state_of(disk) == states[-1]
    twice = dict(states[-1])
    replay(disk, twice)
    assert twice == states[-1]


def test_cut_at_any_byte_keeps_every_whole_record() -> None:
    disk, states = written(4)
    data = disk.read(FIRST)
    ends = [HEADER_BYTES, *record_ends(data)]
    for cut in range(HEADER_BYTES, len(data) + 1):
        whole = sum(end <= cut for end in ends) - 1
        for fill in (0, 1, 29, 600):
            assert state_of(with_content(data[:cut] + bytes(fill))) == states[whole], (cut, fill)


def test_cut_header_is_a_segment_that_was_being_created() -> None:
    data = written(1)[0].read(FIRST)
    header = data[:HEADER_BYTES].rstrip(b"\0")
    for cut in range(len(header)):
        disk = with_content(data[:cut] + bytes(100))
        assert state_of(disk) == {}
        assert disk.list() == []


def test_torn_tail_is_logged_and_zero_tail_is_not(caplog: pytest.LogCaptureFixture) -> None:
    data = written(2)[0].read(FIRST)
    with caplog.at_level(logging.WARNING):
        state_of(with_content(data + bytes(5000)))
        assert caplog.records == []
        state_of(with_content(data[:-1]))
    assert "torn tail" in caplog.text


@pytest.mark.parametrize("sync", ["batch", "interval", "none"])
def test_any_flipped_byte_of_a_sealed_log_is_found_or_harmless(sync: SyncPolicy) -> None:
    disk, states = written(4, sealed=True, sync=sync)
    found = 0
    for at, data in flipped(disk.read(FIRST)):
        try:
            assert state_of(with_content(data)) == states[-1], at
        except CorruptionError:
            found += 1
    assert found == 3 * (len(disk.read(FIRST)) - RECORD_HEAD_BYTES)


def test_flipped_byte_of_an_unsealed_log_loses_at_most_the_last_write() -> None:
    disk, states = written(4)
    data = disk.read(FIRST)
    last = record_ends(data)[-2]
    for at, damaged in flipped(data):
        if at >= last:
            assert state_of(with_content(damaged)) == states[-2], at
        else:
            with pytest.raises(CorruptionError):
                state_of(with_content(damaged))


def test_damage_in_the_middle_names_file_offset_and_mend() -> None:
    data = bytearray(written(3)[0].read(FIRST))
    first_end = record_ends(bytes(data))[0]
    data[first_end + 40] ^= 1
    disk = with_content(bytes(data))
    with pytest.raises(CorruptionError, match="Restore the data directory from a copy") as caught:
        state_of(disk)
    assert (caught.value.path, caught.value.offset) == (FIRST, first_end)
    assert disk.read(FIRST) == data


def test_zeroed_middle_is_damage() -> None:
    data = bytearray(written(3)[0].read(FIRST))
    first, second, _ = record_ends(bytes(data))
    data[first:second] = bytes(second - first)
    with pytest.raises(CorruptionError):
        state_of(with_content(bytes(data)))


def test_lost_page_inside_one_unsynced_write_is_a_torn_tail() -> None:
    disk, states = written(6, commit_every=3)
    data = bytearray(disk.read(FIRST))
    ends = record_ends(bytes(data))
    data[ends[3] : ends[4]] = bytes(ends[4] - ends[3])
    assert state_of(with_content(bytes(data))) == states[4]


def test_unsynced_writes_may_come_back_in_any_part() -> None:
    disk = MemoryDisk()
    engine = open_engine(disk, EngineOptions(sync="none"))
    for number in range(4):
        engine.apply([b"k"], [b"%d" % number])
        engine.commit()
    data = bytearray(disk.read(FIRST))
    data[record_ends(bytes(data))[1] + 30] ^= 1
    assert state_of(with_content(bytes(data))) == {b"k": b"1"}


def test_stored_log_bytes_are_not_taken_for_records() -> None:
    inner = written(3)[0].read(FIRST)
    disk = MemoryDisk()
    engine = open_engine(disk, EngineOptions())
    engine.apply([b"k"], [b"1"])
    engine.commit()
    whole = len(disk.read(FIRST))
    engine.apply([b"copy"], [inner * 3])
    engine.commit()
    for cut in range(whole, len(disk.read(FIRST)), 7):
        assert state_of(with_content(disk.read(FIRST)[:cut])) == {b"k": b"1"}


def test_record_of_an_unknown_kind_asks_for_a_newer_version() -> None:
    data = written(1)[0].read(FIRST)
    head = encode_record_head(segment=1, offset=len(data), lsn=2, synced=len(data), kind=99, payload=b"?")
    with pytest.raises(ConfigError, match="newer kvbus"):
        state_of(with_content(data + head + b"?"))


@pytest.mark.parametrize("lsn", [1, 3])
def test_gap_or_repeat_in_the_numbers_is_damage(lsn: int) -> None:
    data = written(1)[0].read(FIRST)
    record = read_record(data, 1, HEADER_BYTES)
    assert record is not None
    head = encode_record_head(
        segment=1, offset=len(data), lsn=lsn, synced=len(data), kind=record.kind, payload=record.payload
    )
    with pytest.raises(CorruptionError, match=f"LSN {lsn} follows 1"):
        state_of(with_content(data + head + record.payload))


def test_payload_that_is_not_two_columns_is_damage() -> None:
    data = written(1)[0].read(FIRST)
    for payload in (b"", b"\x01\0\0\0", b"\0" * 12, b"\x01\0\0\0\x01\0\0\0k" + bytes(4), b"\xff" * 8):
        head = encode_record_head(segment=1, offset=len(data), lsn=2, synced=len(data), kind=1, payload=payload)
        with pytest.raises(CorruptionError):
            state_of(with_content(data + head + payload))


def two_segments(*, crash_between: bool) -> tuple[MemoryDisk, MemoryEngine]:
    disk = MemoryDisk()
    engine = open_engine(disk, EngineOptions())
    engine.apply([b"a", b"b"], [b"1", b"1"])
    engine.commit()
    if crash_between:
        disk = disk.kill()
        disk.files[FIRST].data += b"KVLR torn tail" + bytes(1000)
    else:
        engine.close()
    engine = open_engine(disk, EngineOptions())
    engine.apply([b"b"], [b"2"])
    engine.commit()
    return disk, engine


@pytest.mark.parametrize("crash_between", [True, False])
def test_restart_appends_to_a_new_segment(crash_between: bool) -> None:
    disk, _ = two_segments(crash_between=crash_between)
    assert disk.list() == [FIRST, SECOND]
    assert state_of(disk) == {b"a": b"1", b"b": b"2"}
    assert tail_of(disk).last_lsn == 2


@pytest.mark.parametrize("crash_between", [True, False])
def test_flipped_byte_in_an_older_segment_is_damage_unless_it_was_given_up(crash_between: bool) -> None:
    disk, _ = two_segments(crash_between=crash_between)
    original = disk.read(FIRST)
    end = int.from_bytes(disk.read(SECOND)[24:32], "little")
    for at, data in flipped(original):
        disk.files[FIRST].data[:] = data
        if at >= end:
            assert state_of(disk) == {b"a": b"1", b"b": b"2"}
        else:
            with pytest.raises(CorruptionError) as caught:
                state_of(disk)
            assert caught.value.path == FIRST
            assert caught.value.offset <= at


def test_record_behind_the_known_end_stays_given_up() -> None:
    disk, _ = two_segments(crash_between=True)
    end = int.from_bytes(disk.read(SECOND)[24:32], "little")
    record = read_record(disk.read(FIRST), 1, HEADER_BYTES)
    assert record is not None
    head = encode_record_head(segment=1, offset=end, lsn=2, synced=end, kind=1, payload=record.payload)
    disk.files[FIRST].data[end:] = head + record.payload
    assert state_of(disk) == {b"a": b"1", b"b": b"2"}


@pytest.mark.parametrize("header", [SegmentHeader(2, 0, 1), SegmentHeader(2, 126, 7), SegmentHeader(3, 126, 1)])
def test_segment_that_belongs_elsewhere_is_damage(header: SegmentHeader) -> None:
    disk, _ = two_segments(crash_between=False)
    disk.files[SECOND].data[:] = encode_header(SegmentHeader(2, 126, 1))
    assert state_of(disk) == {b"a": b"1", b"b": b"1"}
    disk.files[SECOND].data[:] = encode_header(header)
    with pytest.raises(CorruptionError):
        state_of(disk)


def test_cut_older_segment_is_damage() -> None:
    disk, _ = two_segments(crash_between=False)
    original = disk.read(FIRST)
    for cut in range(len(original)):
        disk.files[FIRST].data[:] = original[:cut]
        with pytest.raises(CorruptionError):
            state_of(disk)


def test_missing_segment_is_damage() -> None:
    for lost in (FIRST, SECOND):
        disk, engine = two_segments(crash_between=False)
        engine.close()
        open_engine(disk, EngineOptions()).apply([b"c"], [b"3"])
        reopened = open_engine(disk, EngineOptions())
        reopened.apply([b"c"], [b"3"])
        reopened.close()
        disk.remove(lost)
        with pytest.raises(CorruptionError, match="missing") as caught:
            state_of(disk)
        assert caught.value.path == lost


def test_flipped_header_before_records_is_damage() -> None:
    disk, _ = two_segments(crash_between=False)
    original = disk.read(SECOND)
    for at in range(HEADER_BYTES):
        disk.files[SECOND].data[:] = original
        disk.files[SECOND].data[at] ^= 4
        with pytest.raises(CorruptionError) as caught:
            state_of(disk)
        assert caught.value.path == SECOND


def test_newer_version_is_refused_and_nothing_is_removed() -> None:
    disk, _ = written(1)
    data = disk.files[FIRST].data
    pack_into("<I", data, 12, 2)
    pack_into("<I", data, 8, extend(0, bytes(data[12:40])))
    with pytest.raises(ConfigError, match="version 2"):
        state_of(disk)
    assert disk.list() == [FIRST]


def test_damaged_base_is_damage() -> None:
    for _, data in flipped(encode_base(1)):
        disk, _ = written(1)
        disk.replace("log-base", data)
        with pytest.raises(CorruptionError) as caught:
            state_of(disk)
        assert caught.value.path == "log-base"


def test_base_without_its_segment_is_damage() -> None:
    disk, _ = written(1)
    disk.replace("log-base", encode_base(2))
    with pytest.raises(CorruptionError, match="missing"):
        state_of(disk)
