"""What the command line prints, apart from any cluster: cells, pictures, exit codes, lines of a file."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest
import typer

from kvbus.cli.connection import NodeView, addresses
from kvbus.cli.explain import explain_lines
from kvbus.cli.keys import clock_text
from kvbus.cli.load import BadLine, parsed_line
from kvbus.cli.output import Output, exit_code, failures_shown, readable, shell_word, shown, table
from kvbus.cli.ring import replicas_of, ring_lines
from kvbus.errors import ConfigError, Conflict, Internal, KvbusError, NoQuorum, RequestTimeout, error_from_map


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 1),
        (Conflict("x"), 1),
        (NoQuorum("x"), 4),
        (RequestTimeout("x"), 5),
        (Internal("x"), 5),
        (Internal("x", definite=True), 1),
        (error_from_map({"code": "brand_new", "definite": True}), 1),
        (error_from_map({"code": "brand_new", "definite": False}), 5),
    ],
)
def test_each_failure_has_its_exit_code(error: KvbusError, code: int) -> None:
    assert exit_code(error) == code


def test_a_failure_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as left, failures_shown(Output.TABLE):
        raise RequestTimeout("no answer\nin time")
    assert left.value.exit_code == 5
    assert capsys.readouterr() == ("", "kvbus: no answer in time (timeout; the outcome is unknown)\n")


def test_a_failure_is_one_object_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), failures_shown(Output.JSON):
        raise error_from_map({"code": "no_quorum", "message": "m", "definite": True, "required": 3, "alive": 2})
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {
        "error": {"code": "no_quorum", "message": "m", "definite": True, "required": 3, "alive": 2}
    }


def test_the_systems_own_failures_have_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as left, failures_shown(Output.TABLE):
        raise PermissionError(13, "Permission denied", "/var/lib/kvbus")
    assert left.value.exit_code == 1
    assert capsys.readouterr().err == "kvbus: /var/lib/kvbus: Permission denied; mend that first\n"


def test_bytes_that_are_no_utf8_are_base64_in_json() -> None:
    assert shown("é".encode()) == "é"
    assert shown(b"a\xff") == {"b64": "Yf8="}


def test_a_table_shows_no_control_characters() -> None:
    assert readable(b"a\tb\x1b[31m\n") == "a\\tb\\x1b[31m\\n"
    assert readable(b"a\xff") == "0x61ff"


def _drawn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    table(["key", "value", "n"], [["k", "v" * 100, "12"], ["longer", "[bold]x", "3"]], cut=["key", "value"])
    return capsys.readouterr().out.rstrip("\n").split("\n")


def test_only_wide_columns_are_cut_and_the_table_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = _drawn(monkeypatch, capsys, 40)
    assert all(len(line) <= 40 for line in lines)
    assert re.fullmatch(r"k +v+… +12", lines[2])
    assert re.fullmatch(r"longer +\[bold\]x +3", lines[3])


def test_nothing_is_cut_where_there_is_room(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "v" * 100 in _drawn(monkeypatch, capsys, 160)[2]


def test_a_clock_reads_as_in_the_paper() -> None:
    assert clock_text([("n1", 2), ("n2", 1)]) == "D([n1, 2], [n2, 1])"
    assert clock_text([]) == "D()"


def test_the_ring_is_read_downwards_in_as_many_columns_as_fit() -> None:
    owners = [["n1", "n2"], ["n2", "n10"], ["n1", "n2"]]
    assert ring_lines(owners, 30) == ["0: n1  n2    2: n1  n2", "1: n2  n10"]
    assert ring_lines(owners, 9) == ["0: n1  n2", "1: n2  n10", "2: n1  n2"]


def test_replicas_are_counted_by_data_centre_where_all_partitions_agree() -> None:
    nodes = [
        NodeView(name, f"tcp://{name}:1", dc, "r1", 1.0, "up") for name, dc in (("a", "x"), ("b", "x"), ("c", "y"))
    ]
    assert replicas_of(nodes, [(0, 1, 2), (1, 0, 2)]) == {"x": 2, "y": 1}
    assert replicas_of(nodes, [(0, 1), (1, 2)]) == 2


def test_explain_follows_the_textbooks_headings() -> None:
    lines = explain_lines(
        {
            "hash": "a0",
            "partition": 3,
            "partitions": 4,
            "ring_position": 0.75,
            "coordinator": "n1",
            "required": 2,
            "demanded": False,
            "replicas": [
                {"node": "n1", "state": "answered", "memtable": "hit", "siblings": 2},
                {
                    "node": "n2",
                    "state": "answered",
                    "memtable": "miss",
                    "siblings": 1,
                    "blooms": [["table-00000003", "no"], ["table-00000001", "maybe"]],
                    "sstables": [
                        {"table": "table-00000001", "level": 1, "block": 7, "cached": False, "found": True},
                        {"table": "table-00000000", "level": 2, "block": 0, "cached": True, "found": False},
                    ],
                },
                {"node": "n3", "state": "lost"},
            ],
            "merge": "merged",
            "siblings": 2,
            "guarantee": "eventual",
        }
    )
    headings = [line.split()[1] for line in lines if line[:1].isdigit()]
    assert headings == ["partition", "coordinator", "replicas", "memtable", "bloom", "sstables", "merge", "guarantee"]
    text = "\n".join(lines)
    assert "partition 3 of 4" in text
    assert "n3  lost" in text
    assert "n1  hit, 2 versions" in text
    assert "n2  miss" in text
    assert "n1  not asked: the memtable has it" in text
    assert "n2  table-00000003  surely not here" in text
    assert "n2  table-00000001, level 1, block 7, from the disk: 1 version" in text
    assert "    table-00000000, level 2, block 0, from the block cache: not there, the filter was wrong" in text


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b'{"key": "k", "value": "plain"}', b"plain"),
        (b'{"key": "k", "value": {"a": [1, null, "\xc3\xa9"]}}', '{"a":[1,null,"é"]}'.encode()),
        (b'{"key": "k", "value": null}', b"null"),
        (b'{"key": "k", "value": 3.5, "more": 1}', b"3.5"),
    ],
)
def test_a_value_is_text_or_compact_json(line: bytes, value: bytes) -> None:
    assert parsed_line(line) == (b"k", value)


@pytest.mark.parametrize(
    "line",
    [b"nope", b"[]", b'{"key": "k"}', b'{"key": 1, "value": 2}', b'{"key": "", "value": 2}', b"\xff",
     b'{"key": "\\ud800", "value": 2}'],
)  # fmt: skip
def test_a_bad_line_is_refused(line: bytes) -> None:
    with pytest.raises(BadLine):
        parsed_line(line)


def test_addresses_come_from_the_option_then_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVBUS_CONNECT", "tcp://a:1")
    assert addresses(None, "tcp://b:2, tcp://c:3") == ["tcp://b:2", "tcp://c:3"]
    assert addresses(None, None) == ["tcp://a:1"]


@pytest.mark.parametrize("word", [b"plain", b"two words", b"it's\t\\x", b"e\x1b[31mRED\nnl", b"\xff\xfe"])
def test_a_word_for_a_shell_arrives_as_it_was_and_hides_nothing(word: bytes) -> None:
    quoted = shell_word(os.fsdecode(word))
    assert quoted.isprintable()
    assert subprocess.run(["bash", "-c", f"printf %s {quoted}"], capture_output=True, check=True).stdout == word


def test_nothing_that_says_where_is_a_usage_error_that_names_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KVBUS_CONNECT", raising=False)
    monkeypatch.delenv("KVBUS_DIR", raising=False)
    with pytest.raises(typer.BadParameter, match=r"--dir .* --connect"):
        addresses(None, None)


@pytest.mark.parametrize("address", ["a:1", "tcp://a", "tcp://:1", "tcp://a:x"])
def test_a_malformed_address_is_named(address: str) -> None:
    with pytest.raises(typer.BadParameter, match=f"'{address}' is no node address; write tcp://host:port"):
        addresses(None, address)
