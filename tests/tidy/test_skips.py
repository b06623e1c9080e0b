"""In CI a skip is a failure: proven on planted test files that skip in every way there is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tidy.tree import CHECKOUT

_PLANTED = {
    "mark": "import pytest\n@pytest.mark.skip(reason='no compiler')\ndef test_it() -> None: ...\n",
    "call": "import pytest\ndef test_it() -> None: pytest.skip('no compiler')\n",
    "fixture": "import pytest\n@pytest.fixture\ndef cc(): pytest.skip('no compiler')\ndef test_it(cc) -> None: ...\n",
    "module": "import pytest\npytest.skip('no compiler', allow_module_level=True)\n",
}
_PROPERTY = (
    "from hypothesis import given, strategies as st\n@given(st.integers())\ndef test_it(n) -> None: assert n < 99\n"
)


def _run(folder: Path, planted: dict[str, str], ci: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(CHECKOUT / "tests/conftest.py", folder)
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    for name, text in planted.items():
        (folder / f"test_{name}.py").write_text(text, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-rsfE",
        "--continue-on-collection-errors",
    ]
    environment = {**os.environ, "KVBUS_CI": ci, "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def ci_run(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    return _run(tmp_path_factory.mktemp("ci"), {**_PLANTED, "property": _PROPERTY}, "1")


@pytest.mark.parametrize("way", _PLANTED)
def test_a_skip_fails_in_ci(ci_run: subprocess.CompletedProcess[str], way: str) -> None:
    outcomes = ("FAILED", "ERROR", "SKIPPED", "PASSED")
    told = [line for line in ci_run.stdout.splitlines() if line.startswith(outcomes) and f"test_{way}.py" in line]
    assert len(told) == 1
    assert told[0].startswith(("FAILED", "ERROR"))
    assert "KVBUS_CI=1 allows no skip" in told[0]
    assert "no compiler" in told[0]


def test_a_skip_elsewhere_passes_and_says_why(tmp_path: Path) -> None:
    run = _run(tmp_path, {"call": _PLANTED["call"]}, "0")
    assert run.returncode == 0
    assert "no compiler" in run.stdout


def test_a_failure_prints_the_seed_that_repeats_it(ci_run: subprocess.CompletedProcess[str]) -> None:
    assert ci_run.returncode == 1
    assert "FAILED test_property.py::test_it" in ci_run.stdout
    assert "profile ci, repeat with --hypothesis-seed=" in ci_run.stdout
