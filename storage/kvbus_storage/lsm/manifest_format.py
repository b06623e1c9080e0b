"""Bytes of the manifest: header, records, version edits. No input or output.

Source: FORMATS.md, "Manifest".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from re import compile as compile_pattern
from struct import Struct
from struct import error as struct_error

from kvbus.core.columns import ColumnError, pack_column, unpack_full_column
from kvbus_storage.checksum import extend
from kvbus_storage.format_error import FormatError, VersionError
from kvbus_storage.table.writer import TableMeta

VERSION = 1
_MAGIC = b"KVBUSMAN"
_NAME = compile_pattern(r"manifest-(\d{8,})")
_FRONT = Struct("<8sI")
_HEADER = Struct("<IQ")
_RECORD = Struct("<II")
_PLACE = Struct("<QQ")
_PAIR = Struct("<QQ")
_TABLE = Struct("<BQQQQQQQ")
_NUMBER = Struct("<Q")
_ADD, _REMOVE, _HIDE, _GUARDS, _LOG, _APPLIED = 1, 2, 3, 4, 5, 6

HEADER_BYTES = _FRONT.size + _HEADER.size
RECORD_HEAD_BYTES = _RECORD.size


@dataclass(frozen=True, slots=True)
class AddedTable:
    """A table that is in use from now on. Level 0 has runs, the higher the newer; in other levels ``run`` is 0."""

    level: int
    run: int
    meta: TableMeta


@dataclass(slots=True, kw_only=True)
class Edit:
    """One change of what the engine consists of; all of it happens or nothing.

    ``hidden`` are (table, start, end). ``base`` is the log's first segment that counts and ``flushed_lsn`` the newest
    LSN in the tables, both None where they stay; so are ``guards``, all that count from now on, in order.
    """

    added: list[AddedTable] = field(default_factory=list[AddedTable])
    removed: list[int] = field(default_factory=list[int])
    hidden: list[tuple[int, bytes, bytes]] = field(default_factory=list[tuple[int, bytes, bytes]])
    guards: list[bytes] | None = None
    base: int | None = None
    flushed_lsn: int | None = None
    applied: dict[int, int] = field(default_factory=dict[int, int])


def manifest_name(number: int) -> str:
    """Return a manifest's file name."""
    return f"manifest-{number:08d}"


def manifest_number(name: str) -> int | None:
    """Return the number in a manifest's file name; None for any other name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match is not None else None


def encode_header(number: int) -> bytes:
    """Encode a manifest's header (24 bytes)."""
    body = _HEADER.pack(VERSION, number)
    return _FRONT.pack(_MAGIC, extend(0, body)) + body


def check_header(data: bytes, number: int) -> None:
    """Check the header at the start of ``data``.

    Raises:
        FormatError: it is cut short, fails its check or belongs to another manifest.
        VersionError: a newer kvbus wrote it.
    """
    if len(data) < HEADER_BYTES:
        raise FormatError("is cut short")
    magic, crc = _FRONT.unpack_from(data)
    body = data[_FRONT.size : HEADER_BYTES]
    if magic != _MAGIC or crc != extend(0, body):
        raise FormatError("fails its check")
    version, found = _HEADER.unpack(body)
    if version != VERSION:
        raise VersionError(f"has version {version}")
    if found != number:
        raise FormatError(f"belongs to manifest {found}")


def encode_record(number: int, offset: int, payload: bytes) -> bytes:
    """Encode the record at ``offset`` of manifest ``number``."""
    return _RECORD.pack(len(payload), _crc(number, offset, payload)) + payload


def read_record(data: bytes, number: int, offset: int) -> bytes | None:
    """Return the payload of the record at ``offset``, or None where there is no valid one."""
    body = offset + RECORD_HEAD_BYTES
    if body > len(data):
        return None
    length, crc = _RECORD.unpack_from(data, offset)
    payload = data[body : body + length]
    if not length or len(payload) < length or crc != _crc(number, offset, payload):
        return None
    return payload


def encode_edit(edit: Edit) -> bytes:
    """Encode an edit."""
    parts: list[bytes] = []
    for added in edit.added:
        meta = added.meta
        parts += (
            bytes((_ADD,)),
            _TABLE.pack(
                added.level,
                added.run,
                meta.number,
                meta.size_bytes,
                meta.data_bytes,
                meta.entries,
                meta.removals,
                meta.lsn,
            ),
            pack_column([meta.first_key, meta.last_key]),
        )
    parts += [bytes((_REMOVE,)) + _NUMBER.pack(number) for number in edit.removed]
    parts += [bytes((_HIDE,)) + _NUMBER.pack(number) + pack_column([a, b]) for number, a, b in edit.hidden]
    if edit.guards is not None:
        parts.append(bytes((_GUARDS,)) + pack_column(edit.guards))
    if edit.base is not None and edit.flushed_lsn is not None:
        parts.append(bytes((_LOG,)) + _PAIR.pack(edit.base, edit.flushed_lsn))
    parts += [bytes((_APPLIED,)) + _PAIR.pack(group, index) for group, index in edit.applied.items()]
    return b"".join(parts)


def decode_edit(payload: bytes) -> Edit:
    """Decode an edit.

    Raises:
        FormatError: it is not one.
    """
    edit = Edit()
    at = 0
    try:
        while at < len(payload):
            at = _DECODERS[payload[at]](payload, at + 1, edit)
    except (KeyError, ColumnError, struct_error, ValueError) as error:
        raise FormatError(f"is not an edit: {error!r}") from error
    return edit


def _decode_added(payload: bytes, at: int, edit: Edit) -> int:
    level, run, number, size_bytes, data_bytes, entries, removals, lsn = _TABLE.unpack_from(payload, at)
    (first_key, last_key), at = unpack_full_column(payload, at + _TABLE.size)
    meta = TableMeta(
        number=number,
        size_bytes=size_bytes,
        data_bytes=data_bytes,
        entries=entries,
        removals=removals,
        lsn=lsn,
        first_key=first_key,
        last_key=last_key,
    )
    edit.added.append(AddedTable(level, run, meta))
    return at


def _decode_removed(payload: bytes, at: int, edit: Edit) -> int:
    edit.removed.append(_NUMBER.unpack_from(payload, at)[0])
    return at + _NUMBER.size


def _decode_hidden(payload: bytes, at: int, edit: Edit) -> int:
    (number,) = _NUMBER.unpack_from(payload, at)
    (start, end), at = unpack_full_column(payload, at + _NUMBER.size)
    edit.hidden.append((number, start, end))
    return at


def _decode_guards(payload: bytes, at: int, edit: Edit) -> int:
    edit.guards, at = unpack_full_column(payload, at)
    return at


def _decode_log(payload: bytes, at: int, edit: Edit) -> int:
    edit.base, edit.flushed_lsn = _PAIR.unpack_from(payload, at)
    return at + _PAIR.size


def _decode_applied(payload: bytes, at: int, edit: Edit) -> int:
    group, index = _PAIR.unpack_from(payload, at)
    edit.applied[group] = index
    return at + _PAIR.size


_DECODERS = {
    _ADD: _decode_added,
    _REMOVE: _decode_removed,
    _HIDE: _decode_hidden,
    _GUARDS: _decode_guards,
    _LOG: _decode_log,
    _APPLIED: _decode_applied,
}


def _crc(number: int, offset: int, payload: bytes) -> int:
    return extend(extend(0, _PLACE.pack(number, offset)), payload)
