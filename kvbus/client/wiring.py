"""The sockets that a machine wants: opened, closed, written and read on its behalf."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from weakref import finalize

import zmq

from kvbus.client.connection import Connection
from kvbus.client.machine import ClientMachine

OnConnection = Callable[[Connection], None]


def _close_all(context: zmq.Context[zmq.Socket[bytes]], connections: dict[str, Connection]) -> None:
    for connection in connections.values():
        connection.close()
    context.term()


class Wiring:
    """One connection a node. ``on_open`` and ``on_close`` let the shell watch a connection's descriptors."""

    def __init__(self, machine: ClientMachine, on_open: OnConnection, on_close: OnConnection) -> None:
        self.machine = machine
        self.connections: dict[str, Connection] = {}
        self._on_open = on_open
        self._on_close = on_close
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        # A client that nobody closed must not hold up the end of its process: a context waits for its open sockets.
        self._end = finalize(self, _close_all, self._context, self.connections)

    def follow(self) -> None:
        """Open and close connections until they are those that the machine wants."""
        links = self.machine.links
        if not links.changed:
            return
        links.changed = False
        wanted = links.addresses
        for address in [known for known in self.connections if known not in wanted]:
            self._drop(self.connections.pop(address))
        for address in wanted:
            if address not in self.connections:
                connection = self.connections[address] = Connection(self._context, address)
                self._on_open(connection)

    def transmit(self) -> list[Connection]:
        """Send all that can be sent; return the connections that were used, also in vain."""
        now = monotonic()
        used: dict[str, Connection] = {}
        for address, request_id, body in self.machine.flush(now):
            connection = used[address] = self.connections[address]
            if not connection.send(body):
                self.machine.not_sent(request_id, now)
        return list(used.values())

    def take_replies(self, connection: Connection) -> None:
        """Hand the replies that wait to the machine."""
        received, address, now = self.machine.received, connection.address, monotonic()
        for body in connection.receive():
            received(address, body, now)

    def take_changes(self, connection: Connection) -> None:
        """Tell the machine what became of the connection; the replies that came before go first."""
        for state in connection.changes():
            self.take_replies(connection)
            self.machine.link_changed(connection.address, state, monotonic())

    def close(self) -> None:
        """Settle what is open and close every socket."""
        self.machine.close()
        for connection in self.connections.values():
            self._drop(connection)
        self.connections.clear()
        self._end()

    def _drop(self, connection: Connection) -> None:
        self._on_close(connection)
        connection.close()
