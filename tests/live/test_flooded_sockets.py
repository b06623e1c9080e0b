"""A socket that nobody reads, flooded by a peer that then goes away, does not end its process.

ZeroMQ 4.3.5 stops reading a connection whose queue is at its high-water mark; when the peer is lost meanwhile, the next
heartbeat fails an assertion and aborts.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

_HEAD = """
import time
import zmq

MESSAGES = 30_000
own, other = zmq.Context(), zmq.Context()

def flood_and_go(sender, address=()):
    for _ in range(MESSAGES):
        sender.send_multipart([*address, bytes(100)])
    time.sleep(0.3)
    sender.close(0)
    other.term()
    time.sleep(1.2)  # two heartbeats
"""
_SERVER = """
from kvbus.runtime.sockets import SocketSettings, open_socket

router = open_socket(own, zmq.ROUTER, SocketSettings())
port = router.bind_to_random_port("tcp://127.0.0.1")
dealer = other.socket(zmq.DEALER)
dealer.set_hwm(0)
dealer.connect(f"tcp://127.0.0.1:{port}")
flood_and_go(dealer)
"""
_CLIENT = """
from kvbus.client.connection import Connection

router = other.socket(zmq.ROUTER)
router.set_hwm(0)
port = router.bind_to_random_port("tcp://127.0.0.1")
connection = Connection(own, f"tcp://127.0.0.1:{port}")
connection.monitor.poll(5000)
connection.socket.send(b"here I am")
name, _ = router.recv_multipart()
flood_and_go(router, [name])
"""


@pytest.mark.parametrize("side", [_SERVER, _CLIENT], ids=["node", "client"])
def test_a_flood_from_a_peer_that_goes_does_not_end_the_process(side: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", f"{_HEAD}{side}print('alive')"], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stdout.strip()) == (0, "alive"), ended.stderr
