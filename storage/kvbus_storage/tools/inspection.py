"""What one file of the engine holds, for people: a segment of the log, a table, a manifest or the log base."""

from __future__ import annotations

from kvbus.errors import ConfigError
from kvbus.ports.disk import ReadFile
from kvbus.ports.engine_tools import Damage, Inspection
from kvbus_storage.format_error import FormatError, VersionError
from kvbus_storage.log import format as log_format
from kvbus_storage.lsm import manifest_format
from kvbus_storage.table import format as table_format
from kvbus_storage.tools.manifest_inspection import inspect_manifest
from kvbus_storage.tools.segment_inspection import inspect_segment
from kvbus_storage.tools.table_inspection import inspect_table

_MAGIC_BYTES = 8
_LOG, _BASE, _TABLE, _MANIFEST = b"KVBUSLOG", b"KVBUSBAS", b"KVBUSTBL", b"KVBUSMAN"


def inspect(file: ReadFile, name: str, *, limit: int, keys: bool) -> Inspection:
    """Tell what the file ``name`` holds (see the port)."""
    kind = _kind(file, name)
    try:
        if kind == _LOG:
            return inspect_segment(file, name, limit=limit, keys=keys)
        if kind == _TABLE:
            return inspect_table(file, name, limit=limit, keys=keys)
        if kind == _MANIFEST:
            return inspect_manifest(file, name, limit=limit)
        if kind == _BASE:
            return _inspect_base(file)
    except VersionError as error:
        raise ConfigError(f"{name} {error}: a newer kvbus wrote it; inspect it with that version") from error
    raise ConfigError(f"{name} is no log segment, table, manifest or log base; name one of a node's data directory")


def _kind(file: ReadFile, name: str) -> bytes | None:
    """Return the magic of the file's kind: its own, and where that is damaged the one that the name calls for."""
    front = file.read(0, _MAGIC_BYTES)
    if front in (_LOG, _BASE, _MANIFEST):
        return front
    if file.read(max(file.size - table_format.FOOTER_BYTES, 0), _MAGIC_BYTES) == _TABLE:
        return _TABLE
    if log_format.segment_number(name) is not None:
        return _LOG
    if table_format.table_number(name) is not None:
        return _TABLE
    if manifest_format.manifest_number(name) is not None:
        return _MANIFEST
    return _BASE if name == log_format.BASE_NAME else None


def _inspect_base(file: ReadFile) -> Inspection:
    fields: dict[str, str | int] = {}
    damage: list[Damage] = []
    try:
        fields["the log counts from segment"] = log_format.decode_base(file.read(0, file.size))
    except FormatError as error:
        damage.append(Damage(0, f"the log base {error}"))
    return Inspection(
        kind="log base", version=log_format.VERSION, size_bytes=file.size, fields=fields, listings=(), damage=damage
    )
