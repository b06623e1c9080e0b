"""Settings to TOML: the standard library only reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import cast

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def toml_text(tables: Mapping[str, object]) -> str:
    """Write the tables of a configuration file as TOML.

    Values are text, booleans, numbers, and lists and maps of these.
    """
    lines = [f"{_key(key)} = {_value(value)}" for key, value in tables.items() if not isinstance(value, Mapping)]
    for name, table in tables.items():
        if isinstance(table, Mapping):
            _write_table([name], cast("Mapping[str, object]", table), lines)
    return "\n".join(lines).strip() + "\n"


def _write_table(path: list[str], table: Mapping[str, object], lines: list[str]) -> None:
    nested = {key: value for key, value in table.items() if _is_table_of_tables(path, value)}
    if len(nested) < len(table) or not table:
        lines += ["", f"[{'.'.join(map(_key, path))}]"]
        lines += [f"{_key(key)} = {_value(value)}" for key, value in table.items() if key not in nested]
    for key, value in nested.items():
        _write_table([*path, key], cast("Mapping[str, object]", value), lines)


def _is_table_of_tables(path: list[str], value: object) -> bool:
    return path == ["keyspaces"] and isinstance(value, Mapping)


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    # JSON's escapes are TOML's, except that TOML wants DEL escaped too.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: object) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        inner = cast("Mapping[str, object]", value)
        return "{ " + ", ".join(f"{_key(key)} = {_value(each)}" for key, each in inner.items()) + " }"
    if isinstance(value, Sequence):
        items = [_value(each) for each in cast("Sequence[object]", value)]
        if any(item.startswith("{") for item in items):
            return "[\n" + "".join(f"  {item},\n" for item in items) + "]"
        return f"[{', '.join(items)}]"
    return str(value)
