"""What holds for every test: seeds are printed, and in CI nothing is skipped.

``KVBUS_CI=1`` turns a skip (no compiler, no Node, no network namespace) into a failure, so that a green run means
that everything ran. Elsewhere a skip says why.
"""

from __future__ import annotations

import os
import random
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

IN_CI = os.environ.get("KVBUS_CI") == "1"
_SEED_OPTION = "hypothesis_seed"

# A deadline measures the machine, not the code: CI's is shared, and a slow one at home is no bug of ours either.
settings.register_profile("home", deadline=2000, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if IN_CI else "home")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose Hypothesis' seed here, where none is given, so that the header can name it."""
    if getattr(config.option, _SEED_OPTION, None) is None:
        setattr(config.option, _SEED_OPTION, str(random.SystemRandom().getrandbits(32)))


def pytest_report_header(config: pytest.Config) -> str:
    """Name the seed even where Hypothesis itself says nothing."""
    return f"repeat with: --hypothesis-seed={getattr(config.option, _SEED_OPTION)}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the seed below a failure too: ``-q`` hides the header."""
    if terminalreporter.stats.get("failed"):
        profile = settings.get_current_profile_name()
        seed = getattr(config.option, _SEED_OPTION)
        terminalreporter.write_line(f"Hypothesis: profile {profile}, repeat with --hypothesis-seed={seed}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one in CI."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a skipped module into a failed one in CI."""
    report = yield
    _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"KVBUS_CI=1 allows no skip: {reason}"
