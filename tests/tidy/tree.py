"""The checkout's files as the tidy rules see them, and how a breach is written down."""

from __future__ import annotations

import ast
import io
import os
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
SHIPPED = ("kvbus", "modes", "storage")
ROOMS = (*SHIPPED, "tests", "benchmarks")
PURE_ROOMS = ("kvbus/core", "kvbus/consensus", "kvbus/sim", "modes/kvbus_modes")
_LEFT_OUT = ("node_modules", "dist", "build", "__pycache__")


@dataclass(frozen=True)
class Source:
    """One Python file: its path relative to the checkout, with ``/`` between the parts, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Return the syntax tree."""
        return ast.parse(self.text, self.path)

    @cached_property
    def comments(self) -> list[tuple[int, str]]:
        """Return each comment with its line."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]

    def breach(self, line: int, what: str) -> str:
        """Write a breach down as ``path:line: what``."""
        return f"{self.path}:{line}: {what}"


def files(root: Path = CHECKOUT) -> list[Path]:
    """Return what a checkout holds, sorted; no dot folder but ``.ci``, no build. Needs no git."""
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f == ".ci" or not (f.startswith(".") or f in _LEFT_OUT)]
        found += [Path(folder, name) for name in names]
    return sorted(found)


def sources(*rooms: str) -> list[Source]:
    """Return the Python files below the given folders of the checkout, sorted."""
    return [source for source in _all_sources() if source.path.startswith(tuple(f"{room}/" for room in rooms))]


@cache
def _all_sources() -> list[Source]:
    """Read every file once: each rule walks the same trees."""
    paths = [path for path in files() if path.suffix == ".py"]
    return [Source(path.relative_to(CHECKOUT).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


def dotted(node: ast.AST) -> str:
    """Return ``a.b.c`` for a name or a chain of attributes; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        left = dotted(node.value)
        return f"{left}.{node.attr}" if left else ""
    return ""


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and full dotted name of everything that is imported, at the top or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
