"""A node may have as many files open as the system allows, and says so where that is too few."""

from __future__ import annotations

import subprocess
import sys

from kvbus.runtime.open_files import LEAST_OPEN_FILES

RAISE = """
import resource, sys
from kvbus.runtime.open_files import raise_open_files_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
raise_open_files_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def raised(soft: int, hard: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RAISE, str(soft), str(hard)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_limit_is_raised_to_what_is_allowed() -> None:
    assert raised(300, 700).stdout == "700\n"


def test_too_few_are_refused_with_the_mend() -> None:
    refused = raised(100, LEAST_OPEN_FILES - 1)
    assert refused.returncode == 1
    assert f"may have only {LEAST_OPEN_FILES - 1} files open" in refused.stderr
    assert "ulimit -n" in refused.stderr
