"""How many files, sockets included, this process may have open."""

from __future__ import annotations

import resource
from contextlib import suppress

from kvbus.errors import ConfigError

LEAST_OPEN_FILES = 256
_OTHER_FILES = 128
_LEAST_READ_FILES, _MOST_READ_FILES = 8, 1 << 15


def most_read_files() -> int:
    """Return how many files may be open to be read from: all but what sockets, logs and others may take."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed < 0:
        return _MOST_READ_FILES
    return min(max((allowed - _OTHER_FILES) // 2, _LEAST_READ_FILES), _MOST_READ_FILES)


def raise_open_files_limit() -> None:
    """Raise the limit to what the system allows: an engine has its tables open, and a client takes a socket.

    Raises:
        ConfigError: it is so low that ZeroMQ would end the process.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS calls the highest limit unlimited, and refuses it.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= allowed < LEAST_OPEN_FILES:
        raise ConfigError(
            f"a node may have only {allowed} files open, too few for its sockets and tables: allow at least "
            f"{LEAST_OPEN_FILES}, better 4096 (ulimit -n, LimitNOFILE)"
        )
