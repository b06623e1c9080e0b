"""The blocking shell: send, poll, receive. No thread, no event loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import getrandbits
from threading import Lock
from time import monotonic
from typing import Self

import zmq

from kvbus.client.blocking import CLIENT_NAME, BlockingOperations
from kvbus.client.connection import Connection
from kvbus.client.machine import SWEEP_SECONDS, ClientMachine, Routing
from kvbus.client.operation import Operation
from kvbus.client.options import PLAIN, Terms
from kvbus.client.url import DEFAULT_KEYSPACE, parse_addresses, parse_url
from kvbus.client.wiring import Wiring

_SWEEP_MS = int(SWEEP_SECONDS * 1000)


class Client(BlockingOperations):
    """A blocking client of one cluster; safe to share between threads, which then take turns.

    ``addresses``: one or more nodes, ``tcp://host:port``; the others are learnt from them. ``keyspace``: used where an
    operation names none. ``deadline_ms``: how long an operation may take where it says nothing else. ``routing``:
    "topology" sends each request to a replica, "direct" all to the first address that can be reached. ``packing``:
    whether operations that are issued together share frames.

    ::

        with Client(["tcp://127.0.0.1:7400"]) as client:
            reply = client.put(b"cart", b"apple")
            client.put(b"cart", b"apple,pear", ctx=reply.ctx)
            client.get(b"cart").value  # b"apple,pear"

    Every operation raises a :class:`kvbus.errors.ClientError`; its ``definite`` tells whether surely nothing was
    applied.
    """

    def __init__(
        self,
        addresses: str | Sequence[str],
        *,
        keyspace: str = DEFAULT_KEYSPACE,
        deadline_ms: int = 5000,
        routing: Routing = "topology",
        packing: bool = True,
    ) -> None:
        super().__init__(Terms(keyspace, deadline_ms, PLAIN))
        self._machine = ClientMachine(
            parse_addresses(addresses),
            routing=routing,
            packing=packing,
            client_name=CLIENT_NAME,
            first_home=getrandbits(16),
        )
        self._poller = zmq.Poller()
        self._takers: dict[zmq.Socket[bytes], tuple[Callable[[Connection], None], Connection]] = {}
        self._wiring = Wiring(self._machine, self._watch, self._unwatch)
        self._lock = Lock()
        self._closed = False

    @classmethod
    def from_url(
        cls, url: str, *, deadline_ms: int = 5000, routing: Routing = "topology", packing: bool = True
    ) -> Self:
        """Open a client of the cluster at ``kvbus://host:port,host:port/keyspace``.

        Raises:
            ConfigError: the URL has another form.
        """
        addresses, keyspace = parse_url(url)
        return cls(addresses, keyspace=keyspace, deadline_ms=deadline_ms, routing=routing, packing=packing)

    def close(self) -> None:
        """Close every connection; the client cannot be used afterwards."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._wiring.close()

    def _run(self, operations: Sequence[Operation]) -> None:
        """Submit the operations and turn until all are settled."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed; open a new one")
            # What happened to the connections since the last call decides where requests go.
            self._turn(0)
            for operation in operations:
                self._machine.submit(operation)
            for operation in operations:
                while operation.outcome is None:
                    self._wiring.transmit()
                    self._turn(_SWEEP_MS)

    def _turn(self, wait_ms: int) -> None:
        self._wiring.follow()
        for socket, _ in self._poller.poll(wait_ms):
            take, connection = self._takers[socket]
            take(connection)
        self._machine.sweep(monotonic())

    def _watch(self, connection: Connection) -> None:
        for socket, take in (
            (connection.socket, self._wiring.take_replies),
            (connection.monitor, self._wiring.take_changes),
        ):
            self._takers[socket] = (take, connection)
            self._poller.register(socket, zmq.POLLIN)

    def _unwatch(self, connection: Connection) -> None:
        for socket in (connection.socket, connection.monitor):
            del self._takers[socket]
            self._poller.unregister(socket)
