"""What a verification finds: every damaged byte of every kind of file, or the byte does not matter."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from kvbus.ports.engine_tools import FileReport
from kvbus.sim.disk import MemoryDisk
from kvbus_storage import EngineOptions, open_engine
from kvbus_storage.checksum import extend
from kvbus_storage.log.format import (
    HEADER_BYTES,
    RECORD_HEAD_BYTES,
    Kind,
    SegmentHeader,
    encode_base,
    encode_header,
    encode_record_head,
)
from kvbus_storage.log.payload import encode_batch
from kvbus_storage.lsm.manifest_format import AddedTable, Edit, encode_edit, encode_record
from kvbus_storage.lsm.manifest_format import encode_header as manifest_header
from kvbus_storage.table.format import FOOTER_BYTES, decode_footer
from kvbus_storage.tools.manifest_scan import ManifestScan
from kvbus_storage.tools.verification import verify
from tests.unit.storage_directory import (
    Files,
    engine_key,
    filled_engine,
    flushed_files,
    overlooked,
    stored_files,
)
from tests.workers import HandWorker

LOG, MANIFEST = "log-00000004", "manifest-00000001"


def report(files: Files, name: str) -> FileReport:
    (found,) = (each for each in verify(files) if each.name == name)
    return found


def manifest(number: int, *edits: Edit) -> bytes:
    """Write a manifest of these edits."""
    data = manifest_header(number)
    for edit in edits:
        data += encode_record(number, len(data), encode_edit(edit))
    return data


def whole_edit() -> Edit:
    """Return one edit that says what the stored manifest does."""
    found = ManifestScan(stored_files().contents[MANIFEST], MANIFEST).whole
    assert found is not None
    return found


def segment(number: int, *lsns: int, previous_end: int = 0, last_lsn: int = 0) -> bytes:
    """Write a segment with a record for each LSN, each synced before the next one."""
    data = encode_header(SegmentHeader(number, previous_end, last_lsn))
    payload = encode_batch([b"k"], [b"v"])
    for lsn in lsns:
        at = len(data)
        data += encode_record_head(segment=number, offset=at, lsn=lsn, synced=at, kind=Kind.RECORD, payload=payload)
        data += payload
    return data


FILTER_AT = decode_footer(stored_files().contents["table-00000005"][-FOOTER_BYTES:]).filter_offset
RECORD_BYTES = len(segment(1, 1)) - HEADER_BYTES


def test_what_the_engine_leaves_is_whole() -> None:
    for files in (stored_files(), stored_files(sealed=False), flushed_files()):
        tables = [name for name in files.list() if name.startswith("table")]
        logs = [name for name in files.list() if name.startswith("log")]
        states = files.states()
        # Where the node was killed, the next segment may be there; a start removes it.
        assert [states.pop(name) for name in logs[1:]] in ([], ["leftover"])
        assert list(states) == [files.only("manifest"), *tables, logs[0]]
        assert set(states.values()) == {"ok"}
    assert report(stored_files(), MANIFEST).holds == "5 edits: 2 tables, log from segment 4"
    assert report(stored_files(), "table-00000005").holds == "level 1, 28 entries in 10 blocks"
    assert report(stored_files(), LOG).holds == "6 records, LSN 7 to 11, sealed"


@pytest.mark.parametrize("name", ["table-00000005", "table-00000006"])
def test_every_byte_of_a_table_matters_and_is_checked(name: str) -> None:
    files = stored_files()
    assert overlooked(files, name) == range(0)
    assert list(files.flipped(name, 0).damage()) == [name]


def test_every_byte_of_a_closed_log_is_checked_but_those_of_the_seal() -> None:
    """A torn seal says that the node was killed: all records before it count."""
    files = stored_files()
    size = len(files.contents[LOG])
    assert overlooked(files, LOG) == range(size - RECORD_HEAD_BYTES, size)
    whole = files.reopened()
    for offset in overlooked(files, LOG):
        torn = files.flipped(LOG, offset)
        assert "torn tail of 29 bytes" in report(torn, LOG).notes[0]
        assert torn.reopened() == whole


def test_the_last_write_of_a_log_that_was_not_closed_is_called_torn() -> None:
    """The one limit of the format (FORMATS.md, "Recovery"): nothing behind that write says that it was synced."""
    files = stored_files(sealed=False)
    last_write = overlooked(files, LOG)
    assert last_write == range(279, len(files.contents[LOG]))
    for offset in last_write:
        (note,) = report(files.flipped(LOG, offset), LOG).notes
        assert "torn tail" in note


def test_every_byte_of_a_manifest_is_checked_where_it_matters() -> None:
    assert overlooked(stored_files(), MANIFEST) == range(0)
    # The last edit here moves a table to another level; without it the table stands where it stood.
    files = flushed_files()
    move = ManifestScan(files.contents[MANIFEST], MANIFEST).edits[-1]
    assert (len(move.edit.added), move.edit.removed, move.edit.base) == (1, [], None)
    assert overlooked(files, MANIFEST) == range(move.offset, move.offset + move.size_bytes)
    for offset in overlooked(files, MANIFEST):
        torn = files.flipped(MANIFEST, offset)
        assert "torn edit" in report(torn, MANIFEST).notes[0]
        assert torn.reopened() == files.reopened()


def test_every_byte_of_a_log_base_is_checked() -> None:
    files = Files({"log-base": encode_base(2), "log-00000002": segment(2, 5, previous_end=99, last_lsn=4)})
    assert files.states() == {"log-base": "ok", "log-00000002": "ok"}
    assert overlooked(files, "log-base") == range(0)


def test_a_byte_that_is_zero_ahead_of_the_tail_is_a_torn_tail() -> None:
    files = stored_files(sealed=False)
    filled = files.with_file(LOG, files.contents[LOG] + bytes(4096))
    assert report(filled, LOG).notes == []
    flipped = filled.flipped(LOG, len(files.contents[LOG]) + 1000)
    assert report(flipped, LOG).state == "ok"
    assert flipped.reopened() == files.reopened()


def test_a_cut_file_is_damaged_at_every_length() -> None:
    files = stored_files()
    for name in ("table-00000006", MANIFEST):
        for size in range(len(files.contents[name])):
            assert files.with_file(name, files.contents[name][:size]).damage(), f"{name} cut to {size} bytes"


def test_all_damage_is_named_and_none_hides_another() -> None:
    files = stored_files().without("table-00000006")
    for name, offset in (("table-00000005", 10), ("table-00000005", FILTER_AT), (LOG, 60), (LOG, 300)):
        files = files.flipped(name, offset)
    assert files.damage() == {
        "table-00000005": [(0, "block 0 fails its check"), (FILTER_AT, "the table's filter fails its check")],
        "table-00000006": [(None, "the file is missing: the manifest names it")],
        LOG: [
            (40, "the record fails its check, and the one at byte 107 says it was durable"),
            (279, "no valid record up to byte 362"),
        ],
    }


def test_a_missing_segment_is_named_where_it_should_be() -> None:
    first = segment(1, 1, 2)
    second = segment(2, 3, previous_end=len(first), last_lsn=2)
    third = segment(3, 4, previous_end=len(second), last_lsn=3)
    files = Files({"log-00000001": first, "log-00000002": second, "log-00000003": third})
    assert files.damage() == {}
    assert files.without("log-00000002").damage() == {
        "log-00000002": [(None, "the file is missing: the log goes on behind it")]
    }
    # What lies in front is missing only where something says that the log begins there.
    assert files.without("log-00000001").damage() == {
        "log-00000001": [(None, "the file is missing: the log goes on behind it")]
    }
    based = files.without("log-00000001").with_file("log-base", encode_base(2))
    assert based.damage() == {}
    assert Files({"log-base": encode_base(2)}).damage() == {
        "log-00000002": [(None, "the file is missing: the log begins there")]
    }


def test_a_segment_that_does_not_continue_the_one_before_is_damaged() -> None:
    first = segment(1, 1, 2)
    second = segment(2, 4, previous_end=len(first), last_lsn=3)
    damage = Files({"log-00000001": first, "log-00000002": second}).damage()
    end = len(first)
    assert damage == {
        "log-00000002": [
            (0, f"the header continues byte {end} and LSN 3, the log before it ends at byte {end} and LSN 2")
        ]
    }
    gap = Files({"log-00000001": segment(1, 1, 3)})
    assert gap.damage() == {"log-00000001": [(HEADER_BYTES + RECORD_BYTES, "LSN 3 follows 1")]}
    alien = Files({"log-00000001": segment(2, 1)})
    assert alien.damage() == {"log-00000001": [(0, "the header belongs to segment 2")]}


def test_a_finished_segment_may_have_a_tail_that_was_given_up_but_no_hole() -> None:
    first = segment(1, 1, 2)
    second = segment(2, 3, previous_end=len(first), last_lsn=2)
    files = Files({"log-00000001": first + b"torn", "log-00000002": second})
    assert files.damage() == {}
    hole = files.flipped("log-00000001", len(first) - 1)
    at = len(first) - RECORD_BYTES
    assert hole.damage() == {"log-00000001": [(at, "the record fails its check in a finished segment")]}


def test_a_segment_that_was_being_created_is_a_leftover_unless_the_log_begins_there() -> None:
    first = segment(1, 1)
    for unborn in (b"", b"KVBUS", bytes(4096)):
        files = Files({"log-00000001": first, "log-00000002": unborn})
        assert files.states() == {"log-00000001": "ok", "log-00000002": "leftover"}
    assert Files({"log-00000001": bytes(40)}).states() == {"log-00000001": "leftover"}
    # A base is named only after its header was synced.
    assert Files({"log-base": encode_base(2), "log-00000002": bytes(40)}).states()["log-00000002"] == "damaged"


def test_an_unknown_record_and_a_wrong_payload_are_damage() -> None:
    data = segment(1)
    at = len(data)
    for kind in (99, Kind.RAFT_STATE):
        record = encode_record_head(segment=1, offset=at, lsn=1, synced=at, kind=kind, payload=b"x") + b"x"
        ((offset, what),) = Files({"log-00000001": data + record}).damage()["log-00000001"]
        assert offset == at
        assert "a newer kvbus wrote it" in what if kind == 99 else "not a group's state" in what


def test_a_newer_version_is_named_and_the_rest_is_checked() -> None:
    header = bytearray(manifest_header(7))
    header[12] = 9
    header[8:12] = extend(0, bytes(header[12:])).to_bytes(4, "little")
    damage = stored_files().with_file("manifest-00000007", bytes(header)).flipped(LOG, 60).damage()
    assert damage["manifest-00000007"] == [
        (None, "the file has version 9: a newer kvbus wrote it; check it with that version")
    ]
    assert LOG in damage


def test_orphans_and_leftovers_are_named_and_are_no_damage() -> None:
    files = stored_files()
    files = files.with_file("table-00000099", b"half").with_file("log-00000003", b"old")
    files = files.with_file("space.tmp", b"").with_file("node.json", b"{}").with_file("manifest-00000000", b"")
    states = files.states()
    leftovers = [name for name, state in states.items() if state == "leftover"]
    assert leftovers == ["manifest-00000000", "table-00000099", "log-00000003", "space.tmp"]
    assert states["node.json"] == "other"
    assert files.damage() == {}
    assert files.reopened() == stored_files().reopened()


def test_a_manifest_that_was_being_written_is_a_leftover_beside_a_whole_one() -> None:
    begun = manifest(2, whole_edit())
    for size in (0, 20, len(begun) - 1):
        files = stored_files().with_file("manifest-00000002", begun[:size])
        assert files.states()["manifest-00000002"] == "leftover"
        assert files.damage() == {}
        assert files.reopened() == stored_files().reopened()
    both = stored_files().with_file("manifest-00000002", begun)
    assert (both.states()["manifest-00000002"], both.states()[MANIFEST]) == ("ok", "leftover")


def test_without_a_whole_manifest_everything_else_is_checked_by_itself() -> None:
    files = stored_files().flipped(MANIFEST, 100).flipped("table-00000005", 0)
    states = files.states()
    assert (states[MANIFEST], states["table-00000005"], states["table-00000006"]) == ("damaged", "damaged", "ok")
    assert states[LOG] == "ok"
    assert files.damage()[MANIFEST] == [(49, "the record fails its check, and a whole one follows at byte 170")]


def test_edits_that_do_not_go_together_are_damage() -> None:
    files = stored_files().with_file(MANIFEST, manifest(1, whole_edit(), Edit(removed=[99])))
    ((offset, what),) = files.damage()[MANIFEST]
    assert what == "the edit removes table 99, which is not there"
    assert offset == len(manifest(1, whole_edit()))
    alien = stored_files().without(MANIFEST).with_file("manifest-00000003", manifest(4, whole_edit()))
    assert alien.damage()["manifest-00000003"] == [(0, "the manifest's header belongs to manifest 4")]


def test_tables_of_one_run_that_overlap_are_damage() -> None:
    edit = whole_edit()
    same = Edit(added=[AddedTable(1, 0, each.meta) for each in edit.added], base=edit.base, flushed_lsn=6)
    ((offset, what),) = stored_files().with_file(MANIFEST, manifest(1, same)).damage()[MANIFEST]
    assert (offset, what) == (None, "tables 5 and 6 of level 1 overlap at 00000001/2/key 020")


def test_a_table_must_be_the_one_that_the_manifest_names() -> None:
    edit = whole_edit()
    five, six = edit.added if edit.added[0].meta.number == 5 else edit.added[::-1]
    for name, changed in {
        "entries, removals and LSN": replace(six.meta, entries=19),
        "first and last key": replace(six.meta, first_key=engine_key(19)),
        "bytes, the file has": replace(six.meta, size_bytes=7),
    }.items():
        said = Edit(added=[five, AddedTable(0, 7, changed)], base=edit.base, flushed_lsn=edit.flushed_lsn)
        ((_, what),) = stored_files().with_file(MANIFEST, manifest(1, said)).damage()["table-00000006"]
        assert name in what
    swapped = stored_files().with_file("table-00000006", stored_files().contents["table-00000005"])
    assert "the footer belongs to table 5" in [what for _, what in swapped.damage()["table-00000006"]]


def test_the_memory_engines_log_is_checked_too() -> None:
    disk = MemoryDisk()
    engine = open_engine(disk, EngineOptions())
    engine.apply([b"k"], [b"v"])
    engine.close()
    files = Files({name: disk.read(name) for name in disk.list()})
    assert files.states() == {"log-00000001": "ok"}
    assert list(files.flipped("log-00000001", 50).damage()) == ["log-00000001"]


def test_a_crash_is_no_damage_whenever_it_comes() -> None:
    disk, images = MemoryDisk(), list[MemoryDisk]()
    rng = Random(7)
    disk.on_step = lambda: images.append(disk.crash(rng))
    filled_engine(disk, HandWorker()).close()
    assert len(images) > 50
    for image in images:
        assert Files({name: image.read(name) for name in image.list()}).damage() == {}
