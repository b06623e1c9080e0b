"""A client in virtual time: the client machine, unchanged, on simulated connections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from kvbus.client.blocking import BlockingOperations
from kvbus.client.links import LinkState
from kvbus.client.machine import SWEEP_SECONDS, ClientMachine, Routing
from kvbus.client.operation import Operation
from kvbus.client.options import PLAIN, Terms
from kvbus.client.url import DEFAULT_KEYSPACE
from kvbus.sim.network import Connection, Network
from kvbus.sim.timeline import Timeline


class Port(Protocol):
    """The nodes as a client's shell sees them."""

    def index_of(self, address: str) -> int:
        """Return the node's end in the network."""
        ...

    def deliver(self, node: int, client: int, life: int, body: bytes) -> None:
        """Hand one request to the node; replies come to :meth:`ClientShell.take_reply` with the same ``life``."""
        ...


class ClientShell:
    """One client: what the socket shells do, without sockets.

    ``end`` is its number in the network, ``beside`` the node whose cuts it shares (None: it is never cut off).
    """

    def __init__(
        self,
        end: int,
        addresses: Sequence[str],
        timeline: Timeline,
        network: Network,
        port: Port,
        *,
        routing: Routing = "direct",
        beside: int | None = None,
        first_home: int = 0,
    ) -> None:
        self.machine = ClientMachine(addresses, routing=routing, client_name="kvbus-python/sim", first_home=first_home)
        self.end = end
        self._timeline = timeline
        self._network = network
        self._port = port
        self._connections: dict[str, Connection] = {}
        self._flush_planned = self._sweep_planned = False
        network.seat(end, beside)
        network.appear(end)
        self._follow()

    def submit(self, operation: Operation) -> None:
        """Take an operation; what is submitted at one instant shares frames."""
        self.machine.submit(operation)
        self._plan()

    def take_reply(self, address: str, life: int, body: bytes) -> None:
        """Send a node's reply on its way to this client, over the connection that brought the request or not at all."""
        connection = self._connections.get(address)
        if connection is not None and connection.lives == life:
            self._network.send(connection, False, partial(self._received, address, body))

    def close(self) -> None:
        """Settle what is open and give the connections up."""
        self.machine.close()
        for connection in self._connections.values():
            self._network.disconnect(connection)
        self._connections.clear()
        self._network.vanish(self.end, says_goodbye=True)

    def _follow(self) -> None:
        links = self.machine.links
        if not links.changed:
            return
        links.changed = False
        for address in [known for known in self._connections if known not in links.addresses]:
            self._network.disconnect(self._connections.pop(address))
        for address in links.addresses:
            if address not in self._connections:
                self._connections[address] = self._network.connect(
                    self.end,
                    self._port.index_of(address),
                    greet=lambda: True,
                    on_change=partial(self._link_changed, address),
                )

    def _link_changed(self, address: str, is_up: bool) -> None:
        self.machine.link_changed(address, LinkState.UP if is_up else LinkState.DOWN, self._timeline.now)
        self._plan()

    def _received(self, address: str, body: bytes) -> None:
        self.machine.received(address, body, self._timeline.now)
        self._follow()
        self._plan()

    def _plan(self) -> None:
        if self.machine.sendable and not self._flush_planned:
            self._flush_planned = True
            self._timeline.at(self._timeline.now, self._flush)
        if self.machine.busy and not self._sweep_planned:
            self._sweep_planned = True
            self._timeline.at(self._timeline.now + SWEEP_SECONDS, self._sweep)

    def _flush(self) -> None:
        self._flush_planned = False
        now = self._timeline.now
        for address, request_id, body in self.machine.flush(now):
            connection = self._connections[address]
            arrive = partial(self._port.deliver, connection.far, self.end, connection.lives, body)
            if not self._network.send(connection, True, arrive):
                self.machine.not_sent(request_id, now)
        self._plan()

    def _sweep(self) -> None:
        self._sweep_planned = False
        self.machine.sweep(self._timeline.now)
        self._plan()


class SimClient(BlockingOperations):
    """The blocking client of a simulated world: each call lets virtual time pass until its reply."""

    def __init__(
        self,
        shell: ClientShell,
        pass_time: Callable[[Callable[[], bool]], object],
        *,
        keyspace: str = DEFAULT_KEYSPACE,
        deadline_ms: int = 5000,
    ) -> None:
        super().__init__(Terms(keyspace, deadline_ms, PLAIN))
        self._shell = shell
        self._pass_time = pass_time
        self._closed = False

    def close(self) -> None:
        """Close every connection; the client cannot be used afterwards."""
        if not self._closed:
            self._closed = True
            self._shell.close()

    def _run(self, operations: Sequence[Operation]) -> None:
        if self._closed:
            raise RuntimeError("the client is closed; open a new one")
        for operation in operations:
            self._shell.submit(operation)
        self._pass_time(lambda: all(operation.outcome is not None for operation in operations))
