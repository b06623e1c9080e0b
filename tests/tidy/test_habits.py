"""Small habits that a reader should be able to rely on everywhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.tidy.tree import ROOMS, SHIPPED, Source, dotted, sources

# Each of these wraps one library that has no types, and nothing else.
ADAPTERS: tuple[str, ...] = (
    "kvbus/runtime/scheduler.py",
    "storage/kvbus_storage/table/bloom.py",
    "storage/kvbus_storage/checksum.py",
    "storage/kvbus_storage/table/compression.py",
)
_MAY_PRINT = ("kvbus/cli/", "benchmarks/", "tests/")
_IGNORE = re.compile(r"#\s*(type:\s*ignore|pyright:|mypy:|noqa|ruff:\s*noqa)", re.IGNORECASE)
_UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")

Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def checker_ignores(source: Source) -> list[str]:
    """List comments that silence a type checker or the linter outside the adapters."""
    if source.path in ADAPTERS:
        return []
    return [source.breach(line, text) for line, text in source.comments if _IGNORE.search(text)]


def unfinished(source: Source) -> list[str]:
    """List comments that put work off."""
    return [source.breach(line, text) for line, text in source.comments if _UNFINISHED.search(text)]


def prints(source: Source) -> list[str]:
    """List calls of ``print`` where no person is reading."""
    if source.path.startswith(_MAY_PRINT):
        return []
    calls = [node for node in ast.walk(source.tree) if isinstance(node, ast.Call) and dotted(node.func) == "print"]
    return [source.breach(call.lineno, "prints") for call in calls]


def bare_excepts(source: Source) -> list[str]:
    """List handlers that catch everything without saying so."""
    handlers = [node for node in ast.walk(source.tree) if isinstance(node, ast.ExceptHandler) and node.type is None]
    return [source.breach(handler.lineno, "bare except") for handler in handlers]


def undocumented(source: Source) -> list[str]:
    """List the module, and its public classes, functions and methods, where they have no docstring."""
    found = [] if ast.get_docstring(source.tree) or not source.text.strip() else [source.breach(1, "module")]
    return found + [source.breach(node.lineno, name) for name, node in _public(source.tree) if not _documented(node)]


def _public(parent: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, Documented]]:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, Documented) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from _public(node, f"{node.name}.")


def _documented(node: Documented) -> bool:
    # An overload and a setter are explained at the function that they belong to.
    explained_elsewhere = any(dotted(mark).endswith(("overload", ".setter")) for mark in node.decorator_list)
    return explained_elsewhere or bool(ast.get_docstring(node))


def test_type_checkers_and_linter_are_silenced_only_in_adapters() -> None:
    assert [breach for source in sources(*ROOMS) for breach in checker_ignores(source)] == []


def test_every_adapter_on_the_list_exists_and_needs_to_be_there() -> None:
    by_path = {source.path: source for source in sources(*ROOMS)}
    assert [path for path in ADAPTERS if not any(_IGNORE.search(text) for _, text in by_path[path].comments)] == []


def test_no_work_is_put_off_in_a_comment() -> None:
    assert [breach for source in sources(*ROOMS) for breach in unfinished(source)] == []


def test_nothing_below_the_command_line_prints() -> None:
    assert [breach for source in sources(*ROOMS) for breach in prints(source)] == []


def test_no_handler_catches_everything_unsaid() -> None:
    assert [breach for source in sources(*ROOMS) for breach in bare_excepts(source)] == []


def test_everything_public_says_what_it_does() -> None:
    assert [breach for source in sources(*SHIPPED) for breach in undocumented(source)] == []


@pytest.mark.parametrize(
    "mark", ["type: ignore", "type:ignore[misc]", "pyright: ignore", "pyright: basic", "noqa: E501"]
)
def test_a_silenced_checker_is_found(mark: str) -> None:
    assert checker_ignores(Source("kvbus/core/planted.py", f"x = 1  # {mark}\n"))


def test_a_mark_inside_a_string_is_let_through() -> None:
    assert not checker_ignores(Source("kvbus/core/pure.py", "x = '# type: ignore'\n"))


def test_work_put_off_is_found() -> None:
    assert unfinished(Source("kvbus/planted.py", "x = 1  # TODO: later\n"))


def test_a_print_is_found_but_not_in_the_command_line() -> None:
    assert prints(Source("kvbus/runtime/planted.py", "def f():\n    print(1)\n")) == [
        "kvbus/runtime/planted.py:2: prints"
    ]
    assert prints(Source("kvbus/cli/planted.py", "print(1)\n")) == []


def test_a_bare_except_is_found() -> None:
    assert bare_excepts(Source("kvbus/planted.py", "try:\n    f()\nexcept:\n    pass\n"))
    assert not bare_excepts(Source("kvbus/planted.py", "try:\n    f()\nexcept OSError:\n    pass\n"))


def test_a_missing_docstring_is_found_wherever_it_is_public() -> None:
    planted = "class A:\n    def f(self): ...\n    def _g(self): ...\nasync def h(): ...\n"
    assert [line.split()[-1] for line in undocumented(Source("kvbus/planted.py", planted))] == [
        "module",
        "A",
        "A.f",
        "h",
    ]
