"""Tell a lack of room, which an engine survives read-only, from a failing disk, which it does not."""

from __future__ import annotations

from errno import EDQUOT, EFBIG, EMFILE, ENFILE, ENOSPC

_FULL = (ENOSPC, EDQUOT, EFBIG)
_NO_FILES = (EMFILE, ENFILE)

FULL_MESSAGE = "the disk is full: free space, and writes go on by themselves; reads go on meanwhile"
_NO_FILES_MESSAGE = (
    "too many files are open: raise the limit (ulimit -n, LimitNOFILE), or close some, and writes go on by themselves; "
    "reads go on meanwhile"
)


def is_lack_of_room(error: OSError) -> bool:
    """Say whether ``error`` means that there is no room for more bytes, or for one more open file."""
    return error.errno in _FULL or error.errno in _NO_FILES


def mend_of(error: OSError) -> str:
    """Return what a client is told whose write there is no room for."""
    return _NO_FILES_MESSAGE if error.errno in _NO_FILES else FULL_MESSAGE
