"""Tell a full disk, which an engine survives read-only, from a failing one, which it does not."""

from __future__ import annotations

from errno import EDQUOT, EFBIG, ENOSPC

_FULL = (ENOSPC, EDQUOT, EFBIG)


def is_disk_full(error: OSError) -> bool:
    """Say whether ``error`` means that there is no room for more bytes."""
    return error.errno in _FULL
