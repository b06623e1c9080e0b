"""What a machine lacks is said by name, and packages are installed once."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copyfile

import pytest

from tests.interop.toolchains import NODE_FOLDER, c_command, node_command

_FAKE_NODE = "#!/bin/sh\necho {version}\n"


def _only(folder: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
    """Make ``programs``, each a script's text, the only ones there are."""
    for name, text in programs.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_a_missing_program_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _only(tmp_path, monkeypatch)
    with pytest.raises(pytest.skip.Exception, match=r"no node: install it \(Debian: nodejs\)"):
        node_command(tmp_path)
    with pytest.raises(pytest.skip.Exception, match=r"no cc: install it \(Debian: gcc"):
        c_command(tmp_path)


def test_an_old_node_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _only(tmp_path, monkeypatch, node=_FAKE_NODE.format(version="v12.22.12"))
    with pytest.raises(pytest.skip.Exception, match=r"node is v12\.22\.12: install 18 or newer"):
        node_command(tmp_path)


def test_missing_libraries_are_named_with_their_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _only(tmp_path, monkeypatch, cc="", **{"pkg-config": "#!/bin/sh\necho Package libcbor was not found >&2\nexit 1\n"})
    with pytest.raises(pytest.skip.Exception, match=r"libzmq3-dev, libcbor-dev\): Package libcbor was not found"):
        c_command(tmp_path)


def test_packages_are_installed_once_and_again_when_the_lock_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "package-lock.json"
    copyfile(NODE_FOLDER / "package-lock.json", lock)
    (tmp_path / "node_modules").mkdir()
    npm = f'#!/bin/sh\necho "$@" >> {tmp_path / "installed.txt"}\n'
    _only(tmp_path, monkeypatch, node=_FAKE_NODE.format(version="v18.20.4"), npm=npm)
    assert node_command(tmp_path) == node_command(tmp_path) == ["node", str(tmp_path / "driver.mjs")]
    lock.write_text("{}", encoding="utf-8")
    node_command(tmp_path)
    runs = (tmp_path / "installed.txt").read_text(encoding="utf-8").splitlines()
    assert [run.split()[0] for run in runs] == ["ci", "ci"]


def test_packages_that_cannot_be_installed_are_a_reason_to_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copyfile(NODE_FOLDER / "package-lock.json", tmp_path / "package-lock.json")
    node = _FAKE_NODE.format(version="v18.20.4")
    _only(tmp_path, monkeypatch, node=node, npm="#!/bin/sh\necho no network >&2\nexit 1\n")
    with pytest.raises(pytest.skip.Exception, match=r"npm ci .*failed; mend that first:\nno network"):
        node_command(tmp_path)
    assert not (tmp_path / "node_modules").exists()


def test_the_lock_holds_hashes_and_no_address() -> None:
    text = (NODE_FOLDER / "package-lock.json").read_text(encoding="utf-8")
    assert "://" not in text
    packages: dict[str, dict[str, object]] = json.loads(text)["packages"]
    assert [name for name, package in packages.items() if name and "integrity" not in package] == []
