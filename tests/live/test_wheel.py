"""The code under test is the one that this run claims to test: the checkout's, or the installed wheel's."""

from __future__ import annotations

import os
import sysconfig
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import pytest

import kvbus

FROM_WHEEL = os.environ.get("KVBUS_WHEEL") == "1"
PACKAGES = ("kvbus", "kvbus_modes", "kvbus_storage")


def _home(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations))).resolve()


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_comes_from_where_this_run_says(package: str) -> None:
    installed = Path(sysconfig.get_path("purelib")).resolve()
    checkout = Path(__file__).resolve().parents[2]
    if FROM_WHEEL:
        assert _home(package).parent == installed
    else:
        assert _home(package).is_relative_to(checkout)
        assert not _home(package).is_relative_to(installed)


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_says_that_it_is_typed(package: str) -> None:
    assert (files(package) / "py.typed").is_file()


@pytest.mark.parametrize("page", ["kvbus/wire/PROTOCOL.md", "kvbus_storage/FORMATS.md"])
def test_the_format_pages_lie_beside_the_code(page: str) -> None:
    package, *rest = page.split("/")
    assert files(package).joinpath(*rest).is_file()


if FROM_WHEEL:  # A bare checkout is no installed distribution.

    def test_the_distribution_and_the_package_tell_one_version() -> None:
        assert version("kvbus") == kvbus.__version__
