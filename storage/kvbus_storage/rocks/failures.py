"""What RocksDB says when something fails, in our own exceptions: the binding has one class and a text for all of it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from errno import EIO, ENOSPC
from re import compile as compile_pattern

from kvbus.errors import CorruptionError

_FULL = "IO error: No space left on device"
_DAMAGED = "Corruption: "
_PLACE = compile_pattern(r"(?P<text>.*?) in (?P<path>\S+)(?: offset (?P<offset>\d+))?")


def translated(error: Exception, folder: str) -> Exception:
    """Return what a failure of the database in ``folder`` is: a full disk, damage, or an error of the disk.

    RocksDB takes writes again by itself only after ENOSPC; every other error of the disk is final, an exhausted quota
    as well.
    """
    text = str(error).strip()
    if text.startswith(_FULL):
        return OSError(ENOSPC, text)
    if text.startswith(_DAMAGED):
        text = text.removeprefix(_DAMAGED)
        place = _PLACE.match(text)
        if place is None:
            return CorruptionError(text, folder, 0)
        return CorruptionError(place["text"].strip(), place["path"], int(place["offset"] or 0))
    return OSError(EIO, text)


@contextmanager
def translating(folder: str) -> Generator[None]:
    """Raise what :func:`translated` makes of an exception of the binding."""
    try:
        yield
    except Exception as error:
        raise translated(error, folder) from error


@contextmanager
def translating_writes(folder: str) -> Generator[None]:
    """As :func:`translating`, where damage is an error of the disk as well: RocksDB takes no more writes then."""
    try:
        with translating(folder):
            yield
    except CorruptionError as error:
        raise OSError(EIO, f"RocksDB takes no more writes because of damage: {error}") from error
