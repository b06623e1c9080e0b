"""The manifest: edits come back whole or not at all, and the highest whole manifest counts."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvbus.errors import CorruptionError
from kvbus.sim.disk import MemoryDisk
from kvbus_storage.format_error import FormatError
from kvbus_storage.lsm.manifest import Manifest, apply_all, make_only, read_manifest, write_manifest
from kvbus_storage.lsm.manifest_format import (
    HEADER_BYTES,
    AddedTable,
    Edit,
    decode_edit,
    encode_edit,
    encode_header,
    encode_record,
    manifest_name,
    manifest_number,
)
from kvbus_storage.table.writer import TableMeta

u64 = st.integers(0, (1 << 64) - 1)
keys = st.binary(max_size=5)
metas = st.builds(
    TableMeta,
    number=u64,
    size_bytes=u64,
    data_bytes=u64,
    entries=u64,
    removals=u64,
    lsn=u64,
    first_key=keys,
    last_key=keys,
)
edits = st.builds(
    Edit,
    added=st.lists(st.builds(AddedTable, level=st.integers(0, 255), run=u64, meta=metas), max_size=3),
    removed=st.lists(u64, max_size=3),
    hidden=st.lists(st.tuples(u64, keys, keys), max_size=3),
    guards=st.none() | st.lists(keys, max_size=3),
    base=u64,
    flushed_lsn=u64,
    applied=st.dictionaries(u64, u64, max_size=3),
)


def table(number: int, level: int = 0, run: int = 1) -> AddedTable:
    meta = TableMeta(
        number=number, size_bytes=1, data_bytes=1, entries=1, removals=0, lsn=1, first_key=b"a", last_key=b"b"
    )
    return AddedTable(level, run, meta)


def numbers(edit: Edit) -> list[int]:
    return [added.meta.number for added in edit.added]


@given(edits)
def test_edit_comes_back_whole(edit: Edit) -> None:
    assert decode_edit(encode_edit(edit)) == edit


def test_parts_of_an_edit_are_the_documented_ones() -> None:
    edit = Edit(added=[table(7, 1, 2)], removed=[3], hidden=[(7, b"s", b"e")], guards=[b"g"], base=4, flushed_lsn=5)
    edit.applied[6] = 8

    def u64s(*values: int) -> bytes:
        return b"".join(value.to_bytes(8, "little") for value in values)

    column = b"\2\0\0\0\1\0\0\0\1\0\0\0"
    assert encode_edit(edit) == b"".join(
        (
            b"\1\1" + u64s(2, 7, 1, 1, 1, 0, 1) + column + b"ab",
            b"\2" + u64s(3),
            b"\3" + u64s(7) + column + b"se",
            b"\4\1\0\0\0\1\0\0\0g",
            b"\5" + u64s(4, 5),
            b"\6" + u64s(6, 8),
        )
    )


@given(edits, st.data())
def test_bytes_that_are_no_edit_are_refused(edit: Edit, data: st.DataObject) -> None:
    payload = encode_edit(edit)
    with pytest.raises(FormatError):
        decode_edit(payload + b"\0")
    with pytest.raises(FormatError):
        decode_edit(payload + b"\1" + data.draw(st.binary(max_size=50)))


def test_edits_add_up() -> None:
    whole = apply_all(
        [
            Edit(base=3, flushed_lsn=9),
            Edit(added=[table(1), table(2)], guards=[b"m"], base=4, flushed_lsn=12),
            Edit(hidden=[(1, b"a", b"b"), (2, b"a", b"b")], applied={5: 1}),
            Edit(added=[table(3, 1, 0)], removed=[1], hidden=[(3, b"x", b"y")], guards=[b"c"]),
            Edit(added=[table(2, 1, 0)], applied={5: 2}),
        ]
    )
    assert [(added.meta.number, added.level) for added in whole.added] == [(2, 1), (3, 1)]
    assert whole.hidden == [(2, b"a", b"b"), (3, b"x", b"y")]
    assert (whole.guards, whole.base, whole.flushed_lsn, whole.applied) == ([b"c"], 4, 12, {5: 2})
    assert apply_all([whole]) == whole


def test_edit_that_removes_what_is_not_there_is_refused() -> None:
    with pytest.raises(FormatError, match="table 2"):
        apply_all([Edit(added=[table(1)]), Edit(removed=[1]), Edit(removed=[2])])
    with pytest.raises(FormatError, match="table 1"):
        apply_all([Edit(added=[table(1)]), Edit(removed=[1]), Edit(removed=[1])])


def start_manifest(disk: MemoryDisk, number: int, everything: Edit) -> Manifest:
    """Write a manifest and let it be the only one."""
    manifest = write_manifest(disk, number, everything)
    make_only(disk, number)
    return manifest


def with_edits(count: int, number: int = 1) -> tuple[MemoryDisk, list[int]]:
    """Return a disk with a manifest of the empty beginning and ``count`` edits, and where each of these begins."""
    disk = MemoryDisk()
    manifest = start_manifest(disk, number, Edit(base=1, flushed_lsn=0))
    begins: list[int] = []
    for each in range(1, count + 1):
        begins.append(manifest.size_bytes)
        manifest.append(Edit(added=[table(each)]))
    return disk, [*begins, manifest.size_bytes]


def test_each_edit_is_durable_when_it_was_appended() -> None:
    disk, _ = with_edits(3)
    for seed in range(20):
        number, found = read_manifest(disk.crash(Random(seed)))
        assert (number, numbers(apply_all(found))) == (1, [1, 2, 3])


def test_cut_edit_is_as_if_it_had_never_been() -> None:
    disk, begins = with_edits(3)
    data = disk.read(manifest_name(1))
    for length in range(begins[0], len(data)):
        disk.files[manifest_name(1)].data[:] = data[:length]
        whole = sum(begin <= length for begin in begins[1:])
        assert numbers(apply_all(read_manifest(disk)[1])) == list(range(1, whole + 1))


def test_damaged_edit_before_a_whole_one_is_named() -> None:
    disk, begins = with_edits(3)
    data = disk.read(manifest_name(1))
    for offset in range(begins[0], begins[2]):
        changed = bytearray(data)
        changed[offset] ^= 0x40
        disk.files[manifest_name(1)].data[:] = changed
        at = begins[0] if offset < begins[1] else begins[1]
        with pytest.raises(CorruptionError) as caught:
            read_manifest(disk)
        assert (caught.value.path, caught.value.offset) == (manifest_name(1), at)


def test_edit_counts_only_in_its_own_place_and_manifest() -> None:
    disk, begins = with_edits(2)
    payload = encode_edit(Edit(removed=[1]))
    file = disk.files[manifest_name(1)]
    whole = bytes(file.data)
    for number, offset in ((1, begins[-1] - 1), (1, 0), (2, begins[-1])):
        file.data[:] = whole + encode_record(number, offset, payload)
        assert numbers(apply_all(read_manifest(disk)[1])) == [1, 2]
    file.data[:] = whole + encode_record(1, begins[-1], payload)
    assert numbers(apply_all(read_manifest(disk)[1])) == [2]


def test_new_manifest_takes_the_place_of_all_others_at_every_step() -> None:
    disk, _ = with_edits(2)
    images: list[MemoryDisk] = []
    disk.on_step = lambda: images.extend(disk.crash(Random(seed)) for seed in range(20))
    start_manifest(disk, 2, apply_all(read_manifest(disk)[1]))
    for image in images:
        assert numbers(apply_all(read_manifest(image)[1])) == [1, 2]
    assert disk.list() == [manifest_name(2)]
    assert {read_manifest(image)[0] for image in images} == {1, 2}


def test_manifest_before_is_gone_for_good_before_the_new_one_gets_an_edit() -> None:
    disk, _ = with_edits(2)
    start_manifest(disk, 2, apply_all(read_manifest(disk)[1]))
    for seed in range(20):
        assert disk.crash(Random(seed)).list() == [manifest_name(2)], "it would be believed if the new one were damaged"


def test_leftover_of_the_same_number_is_overwritten() -> None:
    disk, _ = with_edits(1)
    torn = disk.create(manifest_name(2))
    torn.append(encode_header(2)[:10])
    assert read_manifest(disk)[0] == 1
    start_manifest(disk, 2, Edit(base=5, flushed_lsn=9))
    assert disk.list() == [manifest_name(2)]
    assert apply_all(read_manifest(disk)[1]).base == 5


@pytest.mark.parametrize("length", [0, 1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 10])
def test_only_manifest_that_is_not_whole_is_damage(length: int) -> None:
    disk, begins = with_edits(1, number=4)
    del disk.files[manifest_name(4)].data[min(length, begins[0] - 1) :]
    with pytest.raises(CorruptionError, match="manifest-00000004"):
        read_manifest(disk)


def test_manifest_of_another_number_is_refused() -> None:
    disk, _ = with_edits(1)
    disk.files[manifest_name(2)] = disk.files.pop(manifest_name(1))
    with pytest.raises(CorruptionError, match="belongs to manifest 1"):
        read_manifest(disk)


def test_no_manifest_is_number_0_without_edits() -> None:
    disk = MemoryDisk()
    disk.create("manifest-00000001.tmp")
    disk.create("manifest-1")
    assert read_manifest(disk) == (0, [])
    assert manifest_number("manifest-00000012") == 12


def test_tables_without_a_manifest_are_no_empty_engine() -> None:
    disk = MemoryDisk()
    disk.create("table-00000003").append(b"whatever")
    with pytest.raises(CorruptionError, match="the manifest is missing"):
        read_manifest(disk)
    assert disk.list() == ["table-00000003"]


def test_a_first_manifest_that_was_cut_short_is_written_anew_until_it_is_whole() -> None:
    """A power cut at each step of a first start, and at each step of the one that follows."""
    seconds: list[MemoryDisk] = []
    firsts: list[MemoryDisk] = []
    disk = MemoryDisk()
    disk.on_step = lambda: firsts.append(disk.crash(Random(len(firsts))))
    start_manifest(disk, 1, Edit(base=1, flushed_lsn=0))
    for first in firsts:
        first.on_step = partial(lambda image: seconds.append(image.crash(Random(len(seconds)))), first)
        start_manifest(first, read_manifest(first)[0] + 1, Edit(base=1, flushed_lsn=0))
    for image in (*firsts, *seconds):
        assert apply_all(read_manifest(image)[1]) == Edit(base=1, flushed_lsn=0, guards=[])
