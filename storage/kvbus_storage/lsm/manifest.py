"""The manifest on disk: what the engine consists of, as a log of version edits.

Rules: an edit is synced before anything that it makes superfluous is removed; a new manifest is whole and synced, and
its name durable, before the one before it is removed, and that one's name is gone for good before the new one gets an
edit.

Source: FORMATS.md, "Manifest".
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from kvbus.errors import ConfigError, CorruptionError
from kvbus.ports.disk import AppendFile, Disk
from kvbus_storage.format_error import FormatError, VersionError
from kvbus_storage.lsm.manifest_format import (
    HEADER_BYTES,
    RECORD_HEAD_BYTES,
    Edit,
    check_header,
    decode_edit,
    encode_edit,
    encode_header,
    encode_record,
    manifest_name,
    manifest_number,
    read_record,
)
from kvbus_storage.table.format import table_number

MISSING = "manifest-*"
"""Stands for a manifest that is not there."""

logger = logging.getLogger(__name__)

_MEND = "Without the manifest nobody knows which tables count. Restore the data directory from a copy."


class Manifest:
    """A manifest that is open for edits; made by :func:`write_manifest`."""

    def __init__(self, file: AppendFile, number: int) -> None:
        self._file = file
        self.number = number

    @property
    def size_bytes(self) -> int:
        """Bytes in the file."""
        return self._file.offset

    def append(self, edit: Edit) -> None:
        """Write ``edit`` and sync it.

        Raises:
            OSError: what the file holds is unknown; nothing may be removed, and the file takes no more edits.
        """
        self._file.append(encode_record(self.number, self._file.offset, encode_edit(edit)))
        self._file.sync()

    def cut_back(self, size_bytes: int) -> None:
        """Drop what a failed append left behind ``size_bytes``, durably."""
        self._file.cut_back(size_bytes)

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def read_manifest(disk: Disk) -> tuple[int, list[Edit]]:
    """Return the number and the edits of the manifest on ``disk``; 0 and none where there is none.

    Raises:
        CorruptionError: there is a manifest, and none that is whole; or none, and there are tables.
        ConfigError: a newer kvbus wrote it.
    """
    names = disk.list()
    numbers = sorted(number for name in names if (number := manifest_number(name)) is not None)
    if numbers == [1] and not any(table_number(name) is not None for name in names) and _was_being_created(disk):
        return 0, []
    damage: CorruptionError | None = None
    for number in reversed(numbers):
        try:
            edits = _read_edits(disk, number)
            # A killed process may have left an edit that is only in the system's cache, and this start builds on it.
            disk.sync(manifest_name(number))
            return number, edits
        except CorruptionError as error:
            logger.warning("%s", error)
            damage = damage or error
    if damage is not None:
        raise damage
    tables = [name for name in names if table_number(name) is not None]
    if tables:
        raise CorruptionError(f"the manifest is missing, though there are tables. {_MEND}", MISSING, 0)
    return 0, []


def write_manifest(disk: Disk, number: int, everything: Edit) -> Manifest:
    """Write manifest ``number``, in place of what a refused try has left of it; it begins with ``everything`` there is.

    Raises:
        OSError: the disk is full or failing; the manifest before it still counts.
    """
    name = manifest_name(number)
    if name in disk.list():
        disk.remove(name)
    file = disk.create(name)
    try:
        file.append(encode_header(number))
        manifest = Manifest(file, number)
        manifest.append(everything)
    except BaseException:
        file.close()
        raise
    return manifest


def make_only(disk: Disk, number: int) -> None:
    """Let manifest ``number``, which is whole, be the one that counts.

    Raises:
        OSError: the disk is full or failing; it counts, or the one before it does.
    """
    disk.sync_folder()
    for name in manifests_but(disk, number):
        disk.remove(name)
    disk.sync_folder()


def manifests_but(disk: Disk, number: int) -> list[str]:
    """Return the names of all manifests but ``number``."""
    return [name for name in disk.list() if manifest_number(name) not in (None, number)]


def apply_all(edits: Iterable[Edit]) -> Edit:
    """Return one edit that makes what all of ``edits`` make, one after the other, from nothing.

    Raises:
        FormatError: an edit removes or hides what is not there.
    """
    whole = Edit(base=1, flushed_lsn=0, guards=[])
    tables: dict[int, None] = {}
    for edit in edits:
        whole.added += edit.added
        tables |= dict.fromkeys(added.meta.number for added in edit.added)
        for number in edit.removed:
            if number not in tables:
                raise FormatError(f"removes table {number}, which is not there")
            del tables[number]
        whole.hidden += edit.hidden
        if edit.guards is not None:
            whole.guards = edit.guards
        whole.applied |= edit.applied
        if edit.base is not None:
            whole.base, whole.flushed_lsn = edit.base, edit.flushed_lsn
    # A table that moved to another level is there twice; the later place counts.
    places = {added.meta.number: added for added in whole.added}
    whole.added = [places[number] for number in places if number in tables]
    whole.hidden = [hidden for hidden in dict.fromkeys(whole.hidden) if hidden[0] in tables]
    return whole


def _was_being_created(disk: Disk) -> bool:
    """Say whether the very first manifest has no whole edit: then no table has ever counted."""
    data = disk.read(manifest_name(1))
    try:
        check_header(data, 1)
    except VersionError:
        return False
    except FormatError:
        return True
    return read_record(data, 1, HEADER_BYTES) is None


def _read_edits(disk: Disk, number: int) -> list[Edit]:
    name = manifest_name(number)
    data = disk.read(name)
    try:
        check_header(data, number)
    except FormatError as error:
        raise CorruptionError(f"the header {error}. {_MEND}", name, 0) from error
    except VersionError as error:
        raise ConfigError(f"{name} {error}: a newer kvbus wrote it; start that version") from error
    offset = HEADER_BYTES
    edits: list[Edit] = []
    while (payload := read_record(data, number, offset)) is not None:
        try:
            edits.append(decode_edit(payload))
        except FormatError as error:
            raise CorruptionError(f"the record {error}. {_MEND}", name, offset) from error
        offset += RECORD_HEAD_BYTES + len(payload)
    if not edits:
        raise CorruptionError(f"the first record fails its check. {_MEND}", name, offset)
    if offset < len(data):
        _check_tail(data, number, offset)
    return edits


def _check_tail(data: bytes, number: int, offset: int) -> None:
    """Tell a torn edit from a damaged one: behind a torn one there is nothing."""
    name = manifest_name(number)
    for behind in range(offset + 1, len(data) - RECORD_HEAD_BYTES):
        if read_record(data, number, behind) is not None:
            raise CorruptionError(f"the record fails its check, and a whole one follows. {_MEND}", name, offset)
    logger.warning("%s: dropped a torn edit of %d bytes at byte %d", name, len(data) - offset, offset)
