"""docs/HISTORIES.md says what is so: its examples run and print what stands there, and its table has every field."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from kvbus.testing import Operation
from tests.tidy.tree import CHECKOUT

_PAGE = (CHECKOUT / "docs/HISTORIES.md").read_text(encoding="utf-8")
_FILES = dict(re.findall(r"```json (\S+)\n(.*?)```", _PAGE, re.DOTALL))
_RUNS: list[tuple[str, str, str]] = re.findall(
    r"```console exits with (\d)\n\$ kvbus ([^\n]+)\n(.*?)```", _PAGE, re.DOTALL
)
_PATH = os.pathsep.join(str(CHECKOUT / room) for room in (".", "modes", "storage"))
_ENVIRONMENT = {**os.environ, "PYTHONPATH": _PATH}


def test_there_are_three_examples_and_each_file_has_its_run() -> None:
    assert (
        list(_FILES) == [command.split()[1] for _, command, _ in _RUNS] == ["pass.jsonl", "stale.jsonl", "lost.jsonl"]
    )


@pytest.mark.parametrize(("code", "command", "printed"), _RUNS, ids=_FILES)
def test_an_example_prints_what_the_page_shows(code: str, command: str, printed: str, tmp_path: Path) -> None:
    for name, content in _FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    environment = {name: value for name, value in _ENVIRONMENT.items() if name != "COLUMNS"}
    done = subprocess.run(
        [sys.executable, "-m", "kvbus", *command.split()],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line.rstrip() for line in done.stdout.splitlines()] == printed.splitlines()
    assert (done.returncode, done.stderr) == (int(code), "")


def test_the_table_has_every_field_of_an_operation() -> None:
    named = re.findall(r"^\| `(\w+)` \| [a-z, ]+ \|", _PAGE, re.MULTILINE)
    assert set(named) == {field.name for field in fields(Operation)}


def test_the_recorders_example_runs(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", _PAGE, re.DOTALL)
    subprocess.run([sys.executable, "-c", example], cwd=tmp_path, env=_ENVIRONMENT, check=True)
    assert (tmp_path / "mine.jsonl").read_text(encoding="utf-8").count("\n") == 2
