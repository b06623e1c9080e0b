"""In CI a skip is a failure: proven on a planted test file that skips in every way there is."""

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


def _run(folder: Path, text: str, ci: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(CHECKOUT / "tests/conftest.py", folder)
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (folder / "test_planted.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs"]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, "KVBUS_CI": ci}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("way", _PLANTED)
def test_a_skip_fails_in_ci(tmp_path: Path, way: str) -> None:
    run = _run(tmp_path, _PLANTED[way], "1")
    assert run.returncode != 0
    assert "KVBUS_CI=1 allows no skip" in run.stdout
    assert "no compiler" in run.stdout


def test_a_skip_elsewhere_passes_and_says_why(tmp_path: Path) -> None:
    run = _run(tmp_path, _PLANTED["call"], "0")
    assert run.returncode == 0
    assert "no compiler" in run.stdout


def test_a_failure_prints_the_seed_that_repeats_it(tmp_path: Path) -> None:
    property_test = (
        "from hypothesis import given, strategies as st\n@given(st.integers())\ndef test_it(n) -> None: assert n < 99\n"
    )
    run = _run(tmp_path, property_test, "1")
    assert run.returncode == 1
    assert "profile ci, repeat with --hypothesis-seed=" in run.stdout
