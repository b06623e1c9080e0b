"""Ports of this machine that the tests may use, and ports that somebody else holds."""

from __future__ import annotations

import atexit
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import SystemRandom

from kvbus.errors import ConfigError
from kvbus.local.folder import HOST, PORTS_A_NODE, check_ports, planned_node

_TRIES = 50
# Below the range from which the system gives ports to outgoing connections.
_FIRST, _LAST = 12_000, 32_000

# A node leaves the last of its ten ports free. Whoever chose the ten holds that one to its end, so that nobody who
# runs tests at the same time chooses them as well.
_marks = ExitStack()
atexit.register(_marks.close)


def free_base_port(nodes: int) -> int:
    """Return a first port for ``nodes`` nodes of which none is taken now, nor given to anybody else."""
    for _ in range(_TRIES):
        base = SystemRandom().randrange(_FIRST, _LAST - nodes * PORTS_A_NODE, PORTS_A_NODE)
        with ExitStack() as marks:
            try:
                for number in range(nodes):
                    mark = marks.enter_context(socket.socket())
                    mark.bind((HOST, base + PORTS_A_NODE * (number + 1) - 1))
                check_ports([planned_node(Path(), number, base) for number in range(nodes)])
            except (OSError, ConfigError):
                continue
            _marks.push(marks.pop_all())
        return base
    raise RuntimeError("found no free ports for a local cluster")


@contextmanager
def taken(port: int) -> Iterator[None]:
    """Listen at ``port``, as another program does."""
    with socket.socket() as other:
        # Connections that have ended may linger there.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((HOST, port))
        other.listen()
        yield
