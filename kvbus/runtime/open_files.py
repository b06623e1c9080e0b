"""How many files, sockets included, this process may have open."""

from __future__ import annotations

import resource
from contextlib import suppress


def raise_open_files_limit() -> None:
    """Raise the limit to what the system allows: an engine has each of its tables open, and a client takes a socket."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS calls the highest limit unlimited, and refuses it.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
