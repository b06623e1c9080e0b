"""Histories as files: a header, then one operation a line, as JSON.

Source: docs/HISTORIES.md, "The file".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import cast

from kvbus.errors import HistoryError
from kvbus.testing.history import History, Kind, Operation, Outcome

VERSION = 1
_MOST_SECONDS = 1e12
_MARK = "kvbus_history"
_REQUIRED = ("client", "op", "key", "start")
_EXAMPLE = '{"client": 1, "op": "get", "key": "k", "start": 0.5}'
_TYPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "client": ((int,), "a whole number"),
    "op": ((str,), "text"),
    "key": ((str,), "text"),
    "start": ((int, float), "a time in seconds"),
    "end": ((int, float), "a time in seconds"),
    "outcome": ((str,), "text"),
    "value": ((str,), "text"),
    "found": ((list,), "a list of texts"),
    "rev": ((int,), "a whole number"),
    "expected": ((int,), "a whole number"),
    "element": ((str,), "text"),
    "degraded": ((bool,), "true or false"),
    "error": ((str,), "text"),
    "node": ((str,), "text"),
    "final": ((bool,), "true or false"),
}


def write_history(history: History, path: Path) -> None:
    """Write a history as JSON Lines. Raises: OSError."""
    path.write_text("".join(f"{line}\n" for line in history_lines(history)), encoding="utf-8")


def read_history(path: Path) -> History:
    """Read a history's file.

    Raises:
        HistoryError: a line is wrong; the message names it and the mend.
        OSError: the file cannot be read.
    """
    return parsed_history(path.read_bytes())


def history_lines(history: History) -> Iterator[str]:
    """Yield the header and the operations, one JSON object each; fields that are not set are left out."""
    # As ASCII also half a surrogate pair can be written, which is what bytes that are no text are often decoded to.
    yield json.dumps({_MARK: VERSION, **history.header})
    for operation in history.operations:
        fields = {name: getattr(operation, name) for name in _TYPES}
        yield json.dumps({name: value for name, value in fields.items() if value is not None and value is not False})


def parsed_history(content: bytes | str) -> History:
    """Return the history in JSON Lines, or in one JSON array of the same objects; bytes are UTF-8.

    Raises:
        HistoryError: a line (or the n-th object of the array) is wrong; the message names it and the mend.
    """
    try:
        text = content.decode() if isinstance(content, bytes) else content
    except UnicodeDecodeError as error:
        raise HistoryError(f"byte {error.start} is no UTF-8; write the history as UTF-8") from error
    objects = _array(text) if text.lstrip().startswith("[") else _lines(text)
    _, first = next(objects, ("", None))
    header = dict(cast("Mapping[str, object]", first)) if isinstance(first, dict) else {}
    version = header.pop(_MARK, None)
    if type(version) is int and version > VERSION:
        raise HistoryError(f"it is of version {version}, and this kvbus reads version {VERSION}; use a newer kvbus")
    if version != VERSION:
        raise HistoryError(f'the header is missing; begin with {{"{_MARK}": {VERSION}}} and whatever you want to note')
    return History(tuple(_operations(objects)), header)


def _lines(text: str) -> Iterator[tuple[str, object]]:
    # Only a line feed ends a line: a value may hold what str.splitlines takes for another line's end.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"line {number}", _decoded(line, f"line {number}")


def _array(text: str) -> Iterator[tuple[str, object]]:
    for number, each in enumerate(cast("list[object]", _decoded(text, "the array"))):
        yield f"operation {number}", each


def _decoded(text: str, where: str) -> object:
    try:
        return cast("object", json.loads(text, object_pairs_hook=_object))
    except HistoryError as error:
        raise HistoryError(f"{where}: {error}; keep one of them") from error
    except (ValueError, RecursionError) as error:
        raise HistoryError(f"{where}: not JSON ({error}); write one object a line") from error


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object of which every field is named once: of two that differ nobody knows which is right."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise HistoryError(f"{next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return fields


def _operations(objects: Iterable[tuple[str, object]]) -> Iterator[Operation]:
    for where, each in objects:
        try:
            yield _operation(each)
        except HistoryError as error:
            raise HistoryError(f"{where}: {error}") from error


def _operation(given: object) -> Operation:
    if not isinstance(given, dict):
        raise HistoryError("an operation is an object, as in " + _EXAMPLE)
    fields = {name: value for name, value in cast("dict[str, object]", given).items() if value is not None}
    for name in _REQUIRED:
        if name not in fields:
            raise HistoryError(f"{name} is missing; an operation is at least " + _EXAMPLE)
    for name, value in fields.items():
        _check_type(name, value)
    found = cast("list[str] | None", fields.get("found"))
    return Operation(
        client=cast("int", fields["client"]),
        op=cast("Kind", fields["op"]),
        key=cast("str", fields["key"]),
        start=cast("float", fields["start"]),
        end=cast("float | None", fields.get("end")),
        outcome=cast("Outcome", fields.get("outcome", "unknown")),
        value=cast("str | None", fields.get("value")),
        found=None if found is None else tuple(found),
        rev=cast("int | None", fields.get("rev")),
        expected=cast("int | None", fields.get("expected")),
        element=cast("str | None", fields.get("element")),
        degraded=cast("bool", fields.get("degraded", False)),
        error=cast("str | None", fields.get("error")),
        node=cast("str | None", fields.get("node")),
        final=cast("bool", fields.get("final", False)),
    )


def _check_type(name: str, value: object) -> None:
    known = _TYPES.get(name)
    if known is None:
        raise HistoryError(f"there is no field {name!r}; the fields are {', '.join(_TYPES)}")
    types, wanted = known
    # A bool is an int to Python, and never one here.
    is_right = isinstance(value, types) and isinstance(value, bool) == (bool in types)
    if is_right and isinstance(value, list):
        is_right = all(isinstance(each, str) for each in cast("list[object]", value))
    if is_right and float in types and abs(cast("float", value)) > _MOST_SECONDS:
        is_right = False
    if not is_right:
        raise HistoryError(f"{name} must be {wanted}, not {json.dumps(value, ensure_ascii=False)[:80]}")
