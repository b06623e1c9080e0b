"""``kvbus inspect`` and ``kvbus verify``: what they say, their exit codes, and that they change nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from kvbus.cli.main import app
from kvbus.errors import ConfigError
from kvbus.runtime.os_disk import OsDisk, OsFolderAtRest
from tests.unit.storage_directory import Files, stored_files

LOG, MANIFEST, TABLE = "log-00000004", "manifest-00000001", "table-00000006"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Put the stored files into a node's data directory."""
    return written(tmp_path / "data", stored_files())


def written(folder: Path, files: Files) -> Path:
    folder.mkdir()
    for name, data in {**files.contents, "node.json": b"{}", "LOCK": b""}.items():
        (folder / name).write_bytes(data)
    return folder


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


def kvbus(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "80"})


def as_json(*arguments: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kvbus(*arguments, "-o", "json").stdout)
    return found


def lines(result: Result) -> list[str]:
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def test_a_log_is_told_record_by_record(data_dir: Path) -> None:
    told = kvbus("inspect", data_dir / LOG)
    assert told.exit_code == 0
    said = lines(told)
    assert said[0] == "log-00000004: log segment, version 1, 472 bytes"
    assert "newest LSN before 6" in said
    assert "ends at byte 472, with a seal, with the file" in said
    assert "offset LSN kind keys bytes synced holds" in said
    assert "157 9 RECORD 3 93 107 00000001/2/key 008" in said
    assert "107 8 PURGE 1 21 107 00000001/2/key 007" in said
    assert any(line.startswith("279 10 RAFT_ENTRY 0 54 279 group 1, entries") for line in said)
    assert "443 11 SEAL 0 0 443" in said
    (dropped,) = (row for row in as_json("inspect", data_dir / LOG)["listings"][0]["rows"] if row["offset"] == 40)
    assert (dropped["kind"], dropped["holds"]) == ("DROP_RANGE", "00000001/2/key 003 up to 00000001/2/key 005")


def test_a_table_is_told_block_by_block(data_dir: Path) -> None:
    told = kvbus("inspect", data_dir / TABLE)
    said = lines(told)
    assert "entries 20" in said
    assert "removed keys 1" in said
    assert "first key 00000001/2/key 020" in said
    assert any(line.startswith("filter ") and line.endswith("a key, 6 probes") for line in said)
    assert "offset stored as bytes entries removed up to" in said
    found = as_json("inspect", data_dir / TABLE, "--keys", "--limit", "1000")
    blocks, keys = found["listings"]
    assert (blocks["of"], blocks["total"], sum(row["entries"] for row in blocks["rows"])) == ("blocks", 8, 20)
    assert sum(row["removed"] for row in blocks["rows"]) == 1
    assert {row["as"] for row in blocks["rows"]} <= {"plain", "lz4"}
    assert [row["key"] for row in keys["rows"]] == [f"00000001/2/key {number:03}" for number in range(20, 40)]
    assert [row["bytes"] for row in keys["rows"]].count("removed") == 1


def test_a_manifest_is_told_in_words_and_then_what_counts(data_dir: Path) -> None:
    told = kvbus("inspect", data_dir / MANIFEST)
    text = " ".join(told.stdout.split())
    assert "table 6 stands in level 0, run 7: 20 entries in 803 bytes, 00000001/2/key 020 to" in text
    assert "table 1 goes" in text
    assert "the log counts from segment 4; up to LSN 6 all is in tables" in text
    (_, tables) = as_json("inspect", data_dir / MANIFEST)["listings"]
    assert [(row["level"], row["run"], row["table"]) for row in tables["rows"]] == [(0, 7, 6), (1, 0, 5)]


def test_the_limit_says_how_many_more_there_are(data_dir: Path) -> None:
    said = lines(kvbus("inspect", data_dir / LOG, "--limit", "2"))
    assert "records: the first 2 of 6, --limit shows more" in said
    assert not [line for line in said if line.startswith("157 ")]
    found = as_json("inspect", data_dir / LOG, "--limit", "0", "--keys")
    assert [(listing["of"], listing["total"], listing["rows"]) for listing in found["listings"]] == [
        ("records", 6, []),
        ("keys", 5, []),
    ]


@pytest.mark.parametrize("name", [LOG, MANIFEST, TABLE, "table-00000005"])
def test_nothing_is_wider_than_the_terminal(data_dir: Path, name: str) -> None:
    flip(data_dir / name, 50)
    for told in (kvbus("inspect", data_dir / name, "--keys"), kvbus("verify", data_dir)):
        assert told.exit_code == 1
        assert max(map(len, told.stdout.splitlines())) <= 80


def test_damage_in_a_file_hides_nothing_else(data_dir: Path) -> None:
    flip(data_dir / LOG, 160)
    told = kvbus("inspect", data_dir / LOG)
    assert told.exit_code == 1
    said = lines(told)
    assert "ends at byte 157, in damage" in said
    assert "records: 2" in said
    assert "records behind the end: 3" in said
    assert any(line.startswith("279 10 RAFT_ENTRY 0 54 279 group 1, entries") for line in said)
    assert as_json("inspect", data_dir / LOG)["damage"] == [
        {"offset": 157, "what": "the record fails its check, and the one at byte 279 says it was durable"}
    ]
    flip(data_dir / TABLE, 0)
    (blocks,) = as_json("inspect", data_dir / TABLE)["listings"]
    assert [row["as"] for row in blocks["rows"]].count("damaged") == 1
    assert blocks["total"] == 8
    flip(data_dir / MANIFEST, 60)
    _, behind, _ = as_json("inspect", data_dir / MANIFEST)["listings"]
    assert (behind["of"], behind["total"]) == ("changes behind the damage", 7)


@pytest.mark.parametrize("name", [LOG, MANIFEST, TABLE])
def test_a_file_is_known_by_its_name_where_its_magic_is_damaged_and_the_other_way_round(
    data_dir: Path, name: str
) -> None:
    renamed = data_dir / "somefile"
    renamed.write_bytes((data_dir / name).read_bytes())
    assert as_json("inspect", renamed)["damage"] == []
    kind = as_json("inspect", renamed)["kind"]
    flip(data_dir / name, 0 if name != TABLE else (data_dir / name).stat().st_size - 72)
    found = as_json("inspect", data_dir / name)
    assert found["kind"] == kind
    assert found["damage"][0]["offset"] in (0, (data_dir / name).stat().st_size - 72)


def test_an_empty_or_broken_file_is_told_without_a_traceback(tmp_path: Path) -> None:
    for name in (LOG, MANIFEST, TABLE, "log-base"):
        for data in (b"", b"\0", b"KVBUS", bytes(500), b"\xff" * 500):
            (tmp_path / name).write_bytes(data)
            told = kvbus("inspect", tmp_path / name)
            assert told.exit_code == 1, told.output
            assert "damage:" in told.stdout


def test_what_is_no_file_of_the_engine_is_refused_with_what_to_name(data_dir: Path) -> None:
    for path in (data_dir / "node.json", data_dir / "nothing", data_dir):
        told = kvbus("inspect", path)
        assert told.exit_code == 2
        assert "name a" in told.stderr or "name one" in told.stderr
    told = kvbus("inspect", data_dir / LOG, "--engine", "rose")
    assert told.exit_code == 2
    assert "'rose'" in told.stderr


def test_a_whole_directory_passes_and_nothing_of_it_changes(data_dir: Path) -> None:
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in data_dir.iterdir()}
    told = kvbus("verify", data_dir)
    assert told.exit_code == 0
    said = lines(told)
    assert said[0] == "ok manifest-00000001 534 5 edits: 2 tables, log from segment 4"
    assert said[3] == "ok log-00000004 472 6 records, LSN 7 to 11, sealed"
    assert "4 ok, 0 damaged, 0 leftover; 2,799 bytes" in said
    assert "not the engine's: node.json" in said
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in data_dir.iterdir()} == before


def test_damage_is_named_with_its_place_and_its_mend(data_dir: Path) -> None:
    flip(data_dir / TABLE, 0)
    (data_dir / "table-00000099").write_bytes(b"half")
    told = kvbus("verify", data_dir)
    assert told.exit_code == 1
    said = lines(told)
    at = said.index("damaged table-00000006 803 level 0, 20 entries in 8 blocks")
    assert said[at + 1] == "byte 0: block 0 fails its check"
    assert "leftover table-00000099 4 no manifest names it" in said
    assert "3 ok, 1 damaged, 1 leftover; 2,803 bytes" in said
    assert "Restore the directory from a copy" in told.stdout
    found = as_json("verify", data_dir)
    assert (found["passes"], found["files"][2]["damage"]) == (False, [{"offset": 0, "what": "block 0 fails its check"}])


def test_a_directory_that_a_node_holds_is_refused(data_dir: Path) -> None:
    holder = OsDisk(data_dir)
    told = kvbus("verify", data_dir)
    assert told.exit_code == 2
    assert "stop the node first" in told.stderr
    holder.close()
    assert kvbus("verify", data_dir).exit_code == 0


def test_no_node_starts_under_a_verification_but_another_one_may_read(data_dir: Path) -> None:
    first, second = OsFolderAtRest(data_dir), OsFolderAtRest(data_dir)
    first.close()
    with pytest.raises(ConfigError, match="used by another process"):
        OsDisk(data_dir)
    second.close()
    OsDisk(data_dir).close()


def test_a_copy_without_a_lock_is_verified_and_gets_none(tmp_path: Path) -> None:
    folder = written(tmp_path / "copy", stored_files())
    (folder / "LOCK").unlink()
    assert kvbus("verify", folder).exit_code == 0
    assert not (folder / "LOCK").exists()


def test_a_directory_of_something_else_is_refused_and_a_new_nodes_passes(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "letter.txt"):
        told = kvbus("verify", path)
        assert told.exit_code == 2
        assert "data_dir" in told.stderr
    (tmp_path / "node.json").write_text("{}")
    assert kvbus("verify", tmp_path).exit_code == 0
