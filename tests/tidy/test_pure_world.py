"""The pure world has no clock, socket, file, thread or luck of its own, and no order that differs between two runs."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

import pytest

from tests.tidy.tree import PURE_ROOMS, Source, dotted, imports, sources

_BANNED_MODULES = (
    "asyncio", "concurrent", "ctypes", "glob", "io", "multiprocessing", "os", "pathlib", "queue", "sched", "secrets",
    "select", "selectors", "shutil", "signal", "socket", "ssl", "subprocess", "tempfile", "threading", "time", "uuid",
    "zmq",
)  # fmt: skip
_BANNED_CALLS = ("open", "input", "print", "id", "hash")
_CLOCK_READS = ("now", "utcnow", "today")
_SETS = ("set", "frozenset")
_SET_TYPES = (*_SETS, "AbstractSet", "MutableSet", "Set")
_KEEPS_ORDER = ("list", "tuple", "iter", "enumerate", "zip", "map", "filter", "dict.fromkeys", "next")

Scope = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def worldly_imports(source: Source) -> list[str]:
    """List imports of the outer world, and of ``random``'s hidden global generator."""
    found: list[str] = []
    for line, name in imports(source.tree):
        if name.split(".")[0] in _BANNED_MODULES or (name.startswith("random.") and name != "random.Random"):
            found.append(source.breach(line, f"imports {name}"))
    return found


def worldly_calls(source: Source) -> list[str]:
    """List calls that read a clock, the memory layout, the global generator or a file."""
    # __hash__ answers for one process only, and nothing is ever ordered by it.
    allowed = {
        inner
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef) and node.name == "__hash__"
        for inner in ast.walk(node)
    }
    calls = [node for node in ast.walk(source.tree) if isinstance(node, ast.Call) and node not in allowed]
    return [source.breach(call.lineno, f"calls {dotted(call.func)}") for call in calls if _worldly(call)]


def _worldly(call: ast.Call) -> bool:
    name = dotted(call.func)
    if name in ("Random", "random.Random"):
        return not (call.args or call.keywords)
    return name in _BANNED_CALLS or name.startswith("random.") or ("." in name and name.endswith(_CLOCK_READS))


def iterated_sets(source: Source) -> list[str]:
    """List iterations over what is, as far as one file shows, a set; ``sorted(...)`` is the way to do it."""
    found: list[str] = []
    for scope, known in _scopes(source.tree, frozenset()):
        for node in _own(scope):
            found += [
                source.breach(place.lineno, f"iterates the set {ast.unparse(place)}")
                for place in _iterated(node)
                if _is_set(place, known)
            ]
    return found


def _scopes(scope: Scope, outer: frozenset[str]) -> Iterator[tuple[Scope, frozenset[str]]]:
    """Yield each scope with the names that are sets in it; a class knows its ``self.x`` in all of its methods."""
    known = outer | _set_names(scope)
    if isinstance(scope, ast.ClassDef):
        known |= {f"self.{name}" for name in _set_names(scope)}
        for node in ast.walk(scope):
            known |= {name for name in _bound_sets(node) if name.startswith("self.")}
    yield scope, known
    for node in _own(scope):
        if isinstance(node, Scope) and node is not scope:
            yield from _scopes(node, known)


def _own(scope: Scope) -> Iterator[ast.AST]:
    """Yield what belongs to the scope itself; an inner function or class is yielded but not entered."""
    waiting: list[ast.AST] = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Scope):
            waiting += ast.iter_child_nodes(node)


def _set_names(scope: Scope) -> frozenset[str]:
    return frozenset(name for node in _own(scope) for name in _bound_sets(node))


def _bound_sets(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Assign) and _is_set(node.value, frozenset()):
        return [dotted(target) for target in node.targets]
    if isinstance(node, ast.AnnAssign) and _is_set_type(node.annotation):
        return [dotted(node.target)]
    if isinstance(node, ast.arguments):
        arguments = [*node.posonlyargs, *node.args, *node.kwonlyargs]
        return [arg.arg for arg in arguments if arg.annotation and _is_set_type(arg.annotation)]
    return []


def _is_set_type(annotation: ast.expr) -> bool:
    if isinstance(annotation, ast.BinOp):
        return _is_set_type(annotation.left) or _is_set_type(annotation.right)
    base = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    return dotted(base).split(".")[-1] in _SET_TYPES


def _is_set(node: ast.expr, known: frozenset[str]) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_set(node.left, known) or _is_set(node.right, known)
    if isinstance(node, ast.Call):
        return dotted(node.func) in _SETS
    return isinstance(node, ast.Set | ast.SetComp) or dotted(node) in known


def _iterated(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.For | ast.comprehension):
        return [node.iter]
    if isinstance(node, ast.Starred | ast.YieldFrom):
        return [node.value]
    if isinstance(node, ast.Call):
        if dotted(node.func) in _KEEPS_ORDER:
            return list(node.args)
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("join", "extend"):
            return list(node.args)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "pop" and not node.args:
            return [node.func.value]
    return []


@pytest.mark.parametrize("rule", [worldly_imports, worldly_calls, iterated_sets], ids=lambda rule: rule.__name__)
def test_the_pure_world_stays_pure(rule: Callable[[Source], list[str]]) -> None:
    assert [breach for source in sources(*PURE_ROOMS) for breach in rule(source)] == []


@pytest.mark.parametrize(
    "line",
    [
        "import asyncio",
        "from time import monotonic",
        "import os.path",
        "from random import choice",
        "import zmq.asyncio",
    ],
)
def test_an_import_of_the_world_is_found(line: str) -> None:
    assert worldly_imports(Source("kvbus/core/planted.py", f"def late():\n    {line}\n"))


@pytest.mark.parametrize(
    "call", ["random.random()", "random.shuffle(a)", "Random()", "datetime.now()", "date.today()", "hash(a)", "open(a)"]
)
def test_a_call_into_the_world_is_found(call: str) -> None:
    assert worldly_calls(Source("kvbus/core/planted.py", f"x = {call}\n"))


@pytest.mark.parametrize(
    "text",
    [
        "for x in {1, 2}: pass",
        "y = [x for x in set(a)]",
        "y = list({x for x in a})",
        "seen = set()\nfor x in seen: pass",
        "def f(seen: set[int]):\n    return [*seen]",
        "def f(a: frozenset[int] | None):\n    return ','.join(a)",
        "class A:\n    def g(self):\n        self.a: set[int] = set()\n    def f(self):\n        yield from self.a",
        "a = set()\nfor x in a | b: pass",
        "a = set()\nx = a.pop()",
    ],
)
def test_an_iterated_set_is_found(text: str) -> None:
    assert len(iterated_sets(Source("kvbus/core/planted.py", text + "\n"))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "from random import Random\ndef f(luck: Random): return luck.random()",
        "import random\nluck = random.Random(7)",
        "seen = set()\nfor x in sorted(seen): pass",
        "seen = {}\nfor x in seen: pass",
        "def f(seen: set[int]): return 1 in seen\ndef g(seen: list[int]): return list(seen)",
        "class A:\n    def __hash__(self): return hash(self.x)",
    ],
)
def test_pure_code_is_let_through(text: str) -> None:
    source = Source("kvbus/core/pure.py", text + "\n")
    assert worldly_imports(source) + worldly_calls(source) + iterated_sets(source) == []
