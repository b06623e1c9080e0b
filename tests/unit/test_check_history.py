"""``kvbus check-history``: its exit codes, its JSON and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from kvbus.cli.main import app
from kvbus.testing import History, history_lines
from kvbus.testing.linearizability import DEFAULT_BUDGET
from tests.unit.large_histories import Load, legal_history
from tests.unit.register_notation import drawn_history
from tests.unit.set_notation import set_history
from tests.unit.test_client_import import run as run_python

LEGAL = drawn_history("  1 put a@1      [--]\n  2 get a@1           [--]")
STALE = drawn_history("  1 put a        [--]\n  2 get -             [--]")
KEPT = set_history("1 add x 0 1\n 9 read* x 5 6 n1\n 9 read* x 5 6 n2")
LOST = set_history("1 add x 0 1\n 9 read* - 5 6")
SPLIT = set_history("1 add x 0 ?\n 9 read* x 5 6 n1\n 9 read* - 5 6 n2")
_TEXT = "\n".join(history_lines(KEPT))


def check(history: History | str, *arguments: str) -> Result:
    """Run the command on this history, given on standard input."""
    text = history if isinstance(history, str) else "\n".join(history_lines(history))
    return CliRunner().invoke(app, ["check-history", "-", *arguments], input=text)


def as_json(history: History | str, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(check(history, *arguments, "-o", "json").stdout)
    return found


@pytest.mark.parametrize(
    ("history", "model", "code"),
    [
        (LEGAL, "register", 0),
        (STALE, "register", 1),
        (KEPT, "set", 0),
        (LOST, "set", 1),
        (SPLIT, "set", 1),
        (set_history("1 add x 0 1"), "set", 1),
        (set_history("1 add x 0 1\n 9 read* x 5 6"), "set", 0),
    ],
)
def test_the_exit_code_says_whether_the_history_passes(history: History, model: str, code: int) -> None:
    assert check(history, "--model", model).exit_code == code
    assert as_json(history, "--model", model)["passes"] is (code == 0)


def test_falling_revisions_alone_fail_a_history_that_cannot_be_decided() -> None:
    busy = legal_history(Load(operations=20, values=2, kinds=("put", "get"), unknown=0), seed=1)
    assert check(busy, "--model", "register").exit_code == 0
    told = as_json(busy, "--model", "register", "--budget", "1")
    assert [verdict["ok"] for verdict in told["verdicts"]] == [None, True, True]
    assert told["passes"] is False
    assert check(busy, "--model", "register", "--budget", "1").exit_code == 1


def test_availability_is_for_information() -> None:
    history = drawn_history("  1 put a@1      [--]\n  2 get a@1           [--]\n  3 get a            [--?")
    told = as_json(history, "--model", "register")
    assert told["passes"] is True
    assert [(v["checker"], v["ok"], v["decides"]) for v in told["verdicts"]] == [
        ("linearizable", True, True),
        ("revisions grow", True, True),
        ("availability", False, False),
    ]
    assert "(fails)" in check(history, "--model", "register").stdout


def test_the_json_has_the_pages_fields() -> None:
    told = as_json(History(KEPT.operations, {"seed": 7}), "--model", "set")
    assert list(told) == ["model", "header", "operations", "keys", "not_judged", "passes", "verdicts"]
    assert (told["model"], told["header"], told["operations"], told["keys"]) == ("set", {"seed": 7}, 3, 1)
    for verdict in told["verdicts"]:
        assert list(verdict) == ["checker", "ok", "decides", "reason", "judged", "counters", "details"]
    assert [verdict["checker"] for verdict in told["verdicts"]] == ["lost writes", "convergence", "availability"]


def test_what_there_is_nothing_to_judge_by_does_not_decide() -> None:
    told = as_json(STALE, "--model", "register")
    assert [(v["ok"], v["decides"]) for v in told["verdicts"][:2]] == [(False, True), (None, False)]


def test_a_failure_is_told_in_full_below_the_table() -> None:
    shown = check(STALE, "--model", "register").stdout
    assert '\nlinearizable: key "k": linearizable until 20 s; does not fit: client 2 get found nothing' in shown
    assert shown.endswith("\nthe history does not pass: linearizable\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nonsense", "standard input: line 1: not JSON"),
        ('{"client": 1}', "standard input: the header is missing"),
        ('{"kvbus_history": 1}', "standard input: it has a header and no operation"),
        (_TEXT, "standard input: none of its operations is one of put, get, delete, cas; try --model set"),
    ],
)
def test_what_is_no_history_of_the_model_ends_with_2(text: str, told: str) -> None:
    done = check(text, "--model", "register")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"kvbus: {told}")
    assert as_json(text, "--model", "register")["error"]["message"].startswith(told)


def test_a_file_that_cannot_be_read_ends_with_2(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.jsonl")
    done = CliRunner().invoke(app, ["check-history", missing, "--model", "set"])
    assert done.exit_code == 2
    assert done.stderr == f"kvbus: {missing} cannot be read: No such file or directory; name a recorded history\n"


@pytest.mark.parametrize("arguments", [[], ["--model", "queue"], ["--model", "set", "--budget", "0"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert check(KEPT, *arguments).exit_code == 2


def test_the_help_names_the_budget_that_is_the_default() -> None:
    text = " ".join(CliRunner().invoke(app, ["check-history", "--help"], env={"COLUMNS": "200"}).stdout.split())
    assert f"{DEFAULT_BUDGET:,} if not given" in text


def test_the_other_commands_do_not_load_the_checkers() -> None:
    assert [name for name in run_python("import kvbus.cli.main")[1] if name.startswith("kvbus.testing")] == []


def test_the_checkers_load_nothing_of_the_store() -> None:
    _, modules = run_python("import kvbus.testing")
    ours = [name for name in modules if name.split(".")[0].startswith("kvbus")]
    assert [name for name in ours if not name.startswith("kvbus.testing")] == ["kvbus", "kvbus.errors"]
    assert [name for name in modules if name in ("asyncio", "pytest", "zmq")] == []
