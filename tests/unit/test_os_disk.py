"""The real disk keeps the port's promises."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvbus.errors import ConfigError
from kvbus.runtime.os_disk import OsDisk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[OsDisk]:
    disk = OsDisk(tmp_path / "new" / "data")
    yield disk
    disk.close()


def test_directory_has_one_user(disk: OsDisk, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another process"):
        OsDisk(tmp_path / "new" / "data")


def test_closed_directory_can_be_opened_again(tmp_path: Path) -> None:
    OsDisk(tmp_path).close()
    OsDisk(tmp_path).close()


def test_appended_bytes_are_read_back(disk: OsDisk) -> None:
    file = disk.create("a/b/file")
    file.append(b"one")
    file.append(b"two")
    assert file.offset == 6
    file.sync()
    file.close()
    assert disk.read("a/b/file") == b"onetwo"
    assert disk.read("a/b/file", 2, 3) == b"etw"
    assert disk.read("a/b/file", 4) == b"wo"
    assert disk.read("a/b/file", 5, 99) == b"o"
    assert disk.read("a/b/file", 9) == b""


def test_list_is_sorted_and_shows_files_only(disk: OsDisk) -> None:
    for name in ("b", "a", "folder/c"):
        disk.create(name).close()
    assert disk.list() == ["a", "b"]
    assert disk.list("folder") == ["c"]
    assert disk.list("missing") == []


def test_existing_file_is_not_created_again(disk: OsDisk) -> None:
    disk.create("file").close()
    with pytest.raises(FileExistsError):
        disk.create("file")


def test_missing_file_is_not_read(disk: OsDisk) -> None:
    with pytest.raises(FileNotFoundError):
        disk.read("file")
    with pytest.raises(FileNotFoundError):
        disk.remove("file")


def test_replace_and_remove(disk: OsDisk) -> None:
    disk.replace("file", b"one")
    disk.replace("file", b"2")
    assert disk.read("file") == b"2"
    assert disk.list() == ["file"]
    disk.remove("file")
    assert disk.list() == []


@pytest.mark.parametrize("path", ["../file", "a/../../file", "/etc/file"])
def test_path_cannot_lead_out(disk: OsDisk, path: str) -> None:
    with pytest.raises(ValueError, match="leads out"):
        disk.create(path)


@pytest.mark.parametrize("size", [1, 100, 4096, 10_000])
def test_fill_is_zeros_ahead_of_the_tail_and_goes_at_the_close(disk: OsDisk, size: int) -> None:
    file = disk.create("file", fill_step_bytes=4096)
    written = b""
    for number in range(1, 20):
        file.append(bytes((number,)) * size)
        written += bytes((number,)) * size
        content = disk.read("file")
        assert content[: len(written)] == written
        assert not content[len(written) :].strip(b"\0")
        assert len(content) <= len(written) + 4096
    file.close()
    assert disk.read("file") == written


def test_cut_back_drops_the_tail_and_its_fill(disk: OsDisk) -> None:
    file = disk.create("file", fill_step_bytes=64)
    file.append(b"keep")
    file.append(b"drop")
    file.cut_back(4)
    assert (disk.read("file"), file.offset) == (b"keep", 4)
    file.append(b"more")
    file.close()
    assert disk.read("file") == b"keepmore"


def test_a_blank_file_takes_appends_from_its_first_byte_and_keeps_its_place_on_the_disk(disk: OsDisk) -> None:
    file = disk.create("old")
    file.append(b"x" * 100_000)
    file.close()
    number = os.stat(disk.root + "/old").st_ino
    disk.blank("old", "new", size_bytes=1 << 20)
    assert (disk.list(), disk.read("new")) == (["new"], bytes(100_000))
    file = disk.reuse("new", fill_step_bytes=4096)
    assert (file.offset, os.stat(disk.root + "/new").st_ino) == (0, number)
    file.append(b"first")
    file.append(b"second")
    assert disk.read("new") == b"firstsecond" + bytes(100_000 - 11)
    file.append(b"y" * 100_000)
    assert len(disk.read("new")) == 100_011 + 4096
    file.close()
    assert disk.read("new") == b"firstsecond" + b"y" * 100_000


def test_a_blank_file_takes_no_name_that_is_taken(disk: OsDisk) -> None:
    for name in ("old", "new"):
        file = disk.create(name)
        file.append(name.encode())
        file.close()
    with pytest.raises(FileExistsError):
        disk.blank("old", "new", size_bytes=1 << 20)
    assert (disk.list(), disk.read("new")) == (["new"], b"new")


def test_a_file_that_has_another_name_is_not_blanked(disk: OsDisk, tmp_path: Path) -> None:
    file = disk.create("old")
    file.append(b"a copy shares this")
    file.close()
    os.link(disk.root + "/old", tmp_path / "copy")
    with pytest.raises(FileExistsError):
        disk.blank("old", "new", size_bytes=1 << 20)
    assert disk.list() == []
    assert (tmp_path / "copy").read_bytes() == b"a copy shares this"


def test_a_blank_file_is_no_larger_than_wanted(disk: OsDisk) -> None:
    file = disk.create("old")
    file.append(b"x" * 1000)
    file.close()
    disk.blank("old", "new", size_bytes=70)
    assert disk.read("new") == bytes(70)


def test_what_is_not_there_is_neither_blanked_nor_reused(disk: OsDisk) -> None:
    with pytest.raises(FileNotFoundError):
        disk.blank("old", "new", size_bytes=1 << 20)
    with pytest.raises(FileNotFoundError):
        disk.reuse("new", fill_step_bytes=0)
    assert disk.list() == []


def test_full_disk_is_an_error_and_room_for_data_goes_before_fill(disk: OsDisk) -> None:
    file = disk.create("file", fill_step_bytes=4096)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        file.append(b"x" * 90)
        with pytest.raises(OSError, match=os.strerror(27)):
            file.append(b"y" * 20)
        file.cut_back(90)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    file.close()
    assert disk.read("file") == b"x" * 90


def test_what_is_no_regular_file_is_not_waited_for(disk: OsDisk, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "new" / "data" / "pipe")
    (tmp_path / "new" / "data" / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(OSError, match=f"Not a regular file: .*{name}"):
            disk.open(name)


@pytest.mark.parametrize("copying", ["cp -r", "cp -a", "mv"])
def test_a_stamp_goes_with_the_directory_and_not_with_a_copy(tmp_path: Path, copying: str) -> None:
    (tmp_path / "one").mkdir()
    first = OsDisk(tmp_path / "one" / "data")
    stamp = first.restamp()
    first.close()
    again = OsDisk(tmp_path / "one" / "data")
    assert again.stamp() == stamp
    again.close()
    subprocess.run([*copying.split(), tmp_path / "one", tmp_path / "two"], check=True)
    other = OsDisk(tmp_path / "two" / "data")
    assert (other.stamp() == stamp) == (copying == "mv")
    other.close()


def test_each_start_makes_the_lock_file_look_changed_to_tools_that_restore_copies(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path)
    before, stamp = (tmp_path / "LOCK").stat().st_mtime_ns, disk.stamp()
    assert disk.restamp() != stamp
    assert (tmp_path / "LOCK").stat().st_mtime_ns > before
    disk.close()
