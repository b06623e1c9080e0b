"""Rooms stay small: files, functions, and names that are nouns."""

from __future__ import annotations

import ast
import re
from pathlib import PurePosixPath

import pytest

from tests.tidy.tree import ROOMS, Source, sources

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70
_LUMBER_ROOM = re.compile(r"^_?(helpers?|utils?|misc|common|stuff)$|^(?P<stem>.*[a-z])_?\d+$")
_TERMS_WITH_A_NUMBER = ("crc32c", "sha256", "murmur3", "base64", "utf8")


def oversized(source: Source) -> list[str]:
    """List the file if it is too long, and every function in it that is."""
    lines = source.text.count("\n")
    found = [source.breach(1, f"{lines} lines (at most {MAX_FILE_LINES})")] if lines > MAX_FILE_LINES else []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                found.append(
                    source.breach(node.lineno, f"{node.name} has {length} lines (at most {MAX_FUNCTION_LINES})")
                )
    return found


def lumber(path: str) -> list[str]:
    """List the parts of a path that name no thing: ``utils``, or a numbered copy such as ``node2``."""
    parts = [part.removesuffix(".py") for part in PurePosixPath(path).parts]
    return [part for part in parts if _LUMBER_ROOM.match(part) and not part.endswith(_TERMS_WITH_A_NUMBER)]


def test_no_file_or_function_is_too_long() -> None:
    assert [breach for source in sources(*ROOMS) for breach in oversized(source)] == []


def test_every_room_is_named_after_a_thing() -> None:
    assert [source.path for source in sources(*ROOMS) if lumber(source.path)] == []


def test_a_file_of_401_lines_is_found_and_one_of_400_is_not() -> None:
    assert oversized(Source("kvbus/long.py", "x = 1\n" * 401)) == ["kvbus/long.py:1: 401 lines (at most 400)"]
    assert oversized(Source("kvbus/long.py", "x = 1\n" * 400)) == []


def test_a_function_of_71_lines_is_found_and_one_of_70_is_not() -> None:
    assert oversized(Source("a.py", "async def long():\n" + "    pass\n" * 70)) == [
        "a.py:1: long has 71 lines (at most 70)"
    ]
    assert oversized(Source("a.py", "def short():\n" + "    pass\n" * 69)) == []


@pytest.mark.parametrize("path", ["kvbus/utils.py", "kvbus/helpers/ring.py", "kvbus/core/node2.py", "tests/misc.py"])
def test_a_lumber_room_is_found(path: str) -> None:
    assert lumber(path)


@pytest.mark.parametrize("path", ["kvbus/core/node.py", "storage/kvbus_storage/crc32c.py", "kvbus/__init__.py"])
def test_a_noun_is_let_through(path: str) -> None:
    assert not lumber(path)
