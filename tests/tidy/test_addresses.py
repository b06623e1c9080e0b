"""No file names a package index or a folder of somebody's machine: both are wrong everywhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tidy.tree import CHECKOUT, files

# One letter of each pattern stands in brackets, so that this file does not match itself.
_INDEXES = (r"p[y]pi\.org", r"p[y]thonhosted\.org", r"registry\.[n]pmjs", r"registry\.[y]arnpkg", r"proxy\.[g]olang")
_FOLDERS = (r"(?<![\w.$})])/(?:[w]ork|[r]oot)/", r"(?<![\w.])/[h]ome/\w", r"(?<![\w.])/[U]sers/\w", r"/opt/[p]ypi")
_ADDRESS = re.compile("|".join((*_INDEXES, *_FOLDERS)))


def addresses(path: Path, root: Path = CHECKOUT) -> list[str]:
    """List lines of a text file that name a package index or a machine's folder; none for other files."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return []
    name = path.relative_to(root).as_posix()
    return [f"{name}:{number}: {line.strip()}" for number, line in enumerate(lines, 1) if _ADDRESS.search(line)]


def test_no_file_names_an_index_or_a_machine() -> None:
    assert [line for path in files() for line in addresses(path)] == []


def test_the_lock_holds_hashes_and_no_address() -> None:
    lock = (CHECKOUT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in lock
    assert lock.count("==") > 0
    for block in re.split(r"\n(?=[a-z0-9])", lock):
        assert "--hash=sha256:" in block, f"{block.splitlines()[0]} has no hash: run make lock"


@pytest.mark.parametrize("name", ["hatchling", "editables", "pytest", "hypothesis", "pyzmq", "cbor2"])
def test_the_lock_builds_and_tests_without_anything_else(name: str) -> None:
    lock = (CHECKOUT / "requirements.lock").read_text(encoding="utf-8")
    assert re.search(rf"^{name}==", lock, re.MULTILINE)


def test_there_is_one_lock() -> None:
    assert [path.name for path in files() if path.name in ("uv.lock", "pylock.toml", "poetry.lock")] == []


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://p~ypi.org/simple",
        "https://files.p~ythonhosted.org/packages/x.whl",
        "resolved: https://registry.n~pmjs.org/x",
        "cd /w~ork/main",
        'path = "/r~oot/.cache"',
        "/h~ome/somebody/kvbus",
    ],
)
def test_an_address_is_found(tmp_path: Path, line: str) -> None:
    whole = line.replace("~", "")
    (tmp_path / "planted.txt").write_text(f"fine\n{whole}\n", encoding="utf-8")
    assert addresses(tmp_path / "planted.txt", tmp_path) == [f"planted.txt:2: {whole}"]


@pytest.mark.parametrize(
    "line", ["tests/work/x", "$(CURDIR)/root/x", "docs/home/page", "https://www.rfc-editor.org/rfc/rfc8949"]
)
def test_a_path_inside_the_checkout_is_let_through(tmp_path: Path, line: str) -> None:
    (tmp_path / "fine.txt").write_text(line, encoding="utf-8")
    assert addresses(tmp_path / "fine.txt", tmp_path) == []
