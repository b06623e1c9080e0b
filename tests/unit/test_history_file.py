"""A history's file is read as it was written, and a wrong line is named with its mend."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from kvbus.errors import HistoryError
from kvbus.testing import History, Operation, history_lines, parsed_history, read_history, write_history
from tests.unit.exhaustive_judge import small_history

HEADER = '{"kvbus_history": 1}'


def test_random_histories_are_read_as_they_were_written(tmp_path: Path) -> None:
    for seed in range(200):
        history = History(small_history(Random(seed)).operations, {"seed": seed, "mode": "cp"})
        write_history(history, tmp_path / "h.jsonl")
        assert read_history(tmp_path / "h.jsonl") == history


def test_every_field_survives_and_those_that_are_not_set_are_left_out() -> None:
    full = Operation(
        client=1, op="get", key="ключ\u2028", start=0.1, end=0.30000000000000004, outcome="ok", found=("é", "\udcff\n"),
        rev=2, degraded=True, error="e", node="n1", final=True,
    )  # fmt: skip
    bare = Operation(client=2, op="remove", key="k", start=5, element="x")
    lines = list(history_lines(History((full, bare))))
    assert parsed_history("\n".join(lines)) == History((full, bare))
    assert json.loads(lines[2]) == {
        "client": 2, "op": "remove", "key": "k", "start": 5, "outcome": "unknown", "element": "x"
    }  # fmt: skip


def test_one_array_is_read_like_lines() -> None:
    history = small_history(Random(3))
    lines = list(history_lines(history))
    assert parsed_history(f" [{','.join(lines)}]\n") == history


def test_what_separates_lines_elsewhere_may_stand_in_a_text() -> None:
    line = '{"client": 1, "op": "get", "key": "a\u2028b\x85c", "start": 0}'
    assert parsed_history(f"{HEADER}\n{line}\n").operations[0].key == "a\u2028b\x85c"


def test_empty_lines_and_a_foreign_line_end_are_let_through() -> None:
    text = f'{HEADER}\r\n\r\n{{"client": 1, "op": "get", "key": "k", "start": 0, "end": null}}\r\n\n'
    assert parsed_history(text.encode()).operations == (Operation(client=1, op="get", key="k", start=0),)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("nonsense", "line 3: not JSON (Expecting value: line 1 column 1 (char 0)); write one object a line"),
        ("[" * 100_000, "line 3: not JSON"),
        ("7", "line 3: an operation is an object, as in {"),
        ('{"client": 1, "op": "get", "start": 0}', "line 3: key is missing; an operation is at least {"),
        ('{"client": 1, "op": "get", "key": "k", "start": "0"}', 'line 3: start must be a time in seconds, not "0"'),
        ('{"client": true, "op": "get", "key": "k", "start": 0}', "line 3: client must be a whole number, not true"),
        (
            '{"client": 1, "op": "put", "key": "k", "start": 0, "value": 1}',
            "line 3: value must be text, not 1",
        ),
        (
            '{"client": 1, "op": "get", "key": "k", "start": 0, "found": "a"}',
            'line 3: found must be a list of texts, not "a"',
        ),
        ('{"client": 1, "op": "get", "key": "k", "start": 0, "found": [1]}', "found must be a list of texts, not [1]"),
        (
            '{"client": 1, "op": "get", "key": "k", "start": 0, "final": 1}',
            "line 3: final must be true or false, not 1",
        ),
        (
            '{"client": 1, "op": "get", "key": "k", "start": 0, "ended": 1}',
            "line 3: there is no field 'ended'; the fie",
        ),
        ('{"client": 1, "op": "get", "key": "k", "start": 0, "end": -1}', "line 3: end (-1) must be a time in seconds"),
        ('{"client": 1, "op": "get", "key": "k", "start": NaN}', "line 3: start must be a time in seconds, not nan"),
        ('{"client": 1, "op": "put", "key": "k", "start": 0}', "line 3: a put needs value; record what the client s"),
    ],
)
def test_a_wrong_line_is_named_with_its_mend(line: str, told: str) -> None:
    good = '{"client": 1, "op": "get", "key": "k", "start": 0}'
    with pytest.raises(HistoryError) as refused:
        parsed_history(f"{HEADER}\n{good}\n{line}\n{good}\n")
    assert told in str(refused.value)


def test_a_wrong_object_of_an_array_is_named_by_its_place() -> None:
    with pytest.raises(HistoryError, match="operation 2: an operation is an object"):
        parsed_history(f'[{HEADER}, {{"client": 1, "op": "get", "key": "k", "start": 0}}, 7]')


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kvbus_history": 0}', '{"client": 1, "op": "get"}', "7"])
def test_a_history_begins_with_its_header(text: str) -> None:
    with pytest.raises(HistoryError, match=r"the header is missing; begin with .\"kvbus_history\": 1"):
        parsed_history(text)


def test_a_newer_history_is_for_a_newer_kvbus() -> None:
    with pytest.raises(HistoryError, match="it is of version 2, and this kvbus reads version 1; use a newer kvbus"):
        parsed_history('{"kvbus_history": 2}')


def test_a_field_that_stands_there_twice_is_refused() -> None:
    with pytest.raises(HistoryError, match="line 2: 'key' stands there twice"):
        parsed_history(f'{HEADER}\n{{"client": 1, "op": "get", "key": "a", "key": "b", "start": 0}}')


def test_what_is_no_utf8_is_told_where() -> None:
    with pytest.raises(HistoryError, match="byte 21 is no UTF-8; write the history as UTF-8"):
        parsed_history(HEADER.encode() + b"\n\xff")
