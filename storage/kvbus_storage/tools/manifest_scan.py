"""One manifest, edit by edit; what is damaged does not hide the rest.

Source: FORMATS.md, "Manifest".
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

from kvbus.ports.engine_tools import Damage
from kvbus_storage.format_error import FormatError
from kvbus_storage.lsm.manifest import apply_all
from kvbus_storage.lsm.manifest_format import (
    HEADER_BYTES,
    RECORD_HEAD_BYTES,
    Edit,
    check_header,
    decode_edit,
    manifest_number,
    read_record,
)

_NUMBER = slice(16, 24)


class PlacedEdit(NamedTuple):
    """An edit and the bytes of its record."""

    offset: int
    size_bytes: int
    edit: Edit


class ManifestScan:
    """Reads a manifest.

    ``edits`` are those that count, ``strays`` whole ones behind the damage. ``is_whole`` says whether a start would
    take it, ``whole`` is what the edits make together: None where they do not go together or there are none.

    Raises:
        VersionError: a newer kvbus wrote it.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self.damage: list[Damage] = []
        self.notes: list[str] = []
        self.edits: list[PlacedEdit] = []
        self.strays: list[PlacedEdit] = []
        self.end = HEADER_BYTES
        self._check_header(name)
        self._read()
        self.is_whole = not self.damage
        self.whole = self._made()

    def _check_header(self, name: str) -> None:
        named = manifest_number(name)
        written = int.from_bytes(self._data[_NUMBER], "little")
        self.number = written if named is None else named
        try:
            check_header(self._data, written)
        except FormatError as error:
            self.damage.append(Damage(0, f"the manifest's header {error}"))
            return
        if self.number != written:
            self.damage.append(Damage(0, f"the manifest's header belongs to manifest {written}"))
        self.number = written

    def _read(self) -> None:
        while (placed := self._edit_at(self.end)) is not None:
            self.edits.append(placed)
            self.end += placed.size_bytes
        if not self.edits:
            self.damage.append(Damage(self.end, "the first record fails its check"))
        if self.end < len(self._data):
            self._judge_tail()

    def _judge_tail(self) -> None:
        offset, end = self.end + 1, self.end
        while offset < len(self._data):
            placed = self._edit_at(offset)
            if placed is None:
                offset += 1
                continue
            if offset != end and (self.edits or self.strays):
                self.damage.append(Damage(end, f"the record fails its check, and a whole one follows at byte {offset}"))
            self.strays.append(placed)
            offset = end = offset + placed.size_bytes
        if not self.strays and self.edits:
            tail_bytes = len(self._data) - self.end
            self.notes.append(f"a torn edit of {tail_bytes} bytes at byte {self.end}: a start drops it")

    def _edit_at(self, offset: int) -> PlacedEdit | None:
        payload = read_record(self._data, self.number, offset)
        if payload is None:
            return None
        try:
            edit = decode_edit(payload)
        except FormatError as error:
            self.damage.append(Damage(offset, f"the record {error}"))
            edit = Edit()
        return PlacedEdit(offset, RECORD_HEAD_BYTES + len(payload), edit)

    def _made(self) -> Edit | None:
        edits = [placed.edit for placed in self.edits]
        if not edits:
            return None
        try:
            return apply_all(edits)
        except FormatError as error:
            self.damage.append(Damage(self._first_misfit(edits), f"the edit {error}"))
            return None

    def _first_misfit(self, edits: list[Edit]) -> int:
        for placed, known in zip(self.edits, accumulate([edit] for edit in edits), strict=True):
            try:
                apply_all(known)
            except FormatError:
                return placed.offset
        return self.end
