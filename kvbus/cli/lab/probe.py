"""A TCP connection or a datagram between two nodes' namespaces: what the cut does to anybody there, not only to kvbus.

This file is run by itself in a namespace, with nothing but the standard library.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvbus.cli.lab.network import Network

WAIT_SECONDS = 1.0
_DATAGRAM_PORT = 7499
_LOST = 3
_SCRIPT = (sys.executable, "-I", "-S", __file__)


def connects(network: Network, source: str, host: str, port: int) -> bool:
    """Say whether TCP gets a connection from the namespace ``source`` to ``host`` within a second."""
    done = subprocess.run([*network.inside(source), *_SCRIPT, "connect", host, str(port)], check=False)
    return _arrived(done.returncode)


def arrives(network: Network, source: str, receiver: str, host: str) -> bool:
    """Say whether a datagram from the namespace ``source`` comes to ``receiver``, which has the address ``host``."""
    words = [*network.inside(receiver), *_SCRIPT, "receive", host, str(_DATAGRAM_PORT)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as waiting:
        assert waiting.stdout is not None
        waiting.stdout.readline()
        subprocess.run([*network.inside(source), *_SCRIPT, "send", host, str(_DATAGRAM_PORT)], check=True)
        return _arrived(waiting.wait())


def _arrived(code: int) -> bool:
    if code not in (0, _LOST):
        raise OSError(f"the probe failed with exit code {code}")
    return code == 0


def _main(act: str, host: str, port: int) -> None:
    try:
        if act == "connect":
            socket.create_connection((host, port), WAIT_SECONDS).close()
            return
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            if act == "send":
                datagrams.sendto(b"probe", (host, port))
                return
            datagrams.settimeout(WAIT_SECONDS)
            datagrams.bind((host, port))
            print("listening", flush=True)
            datagrams.recv(16)
    except TimeoutError:
        sys.exit(_LOST)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
