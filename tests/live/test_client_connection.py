"""One connection to one node: nothing waits in it for a node that is not there."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic, sleep

import pytest
import zmq

from kvbus.client.connection import Connection
from kvbus.client.links import LinkState
from tests.live.ports import free_base_port

Context = zmq.Context[zmq.Socket[bytes]]


@pytest.fixture
def context() -> Iterator[Context]:
    context: Context = zmq.Context()
    yield context
    context.destroy(0)


@pytest.fixture
def address() -> str:
    """Give an address at which nobody listens yet."""
    return f"tcp://127.0.0.1:{free_base_port(1)}"


@pytest.fixture
def connection(context: Context, address: str) -> Iterator[Connection]:
    connection = Connection(context, address)
    yield connection
    connection.close()


def node_at(context: Context, address: str) -> zmq.Socket[bytes]:
    """Listen as a node does."""
    node = context.socket(zmq.ROUTER)
    node.setsockopt(zmq.LINGER, 0)
    node.bind(address)
    return node


def wait_for(connection: Connection, state: LinkState) -> None:
    give_up = monotonic() + 10
    while state not in connection.changes():
        assert monotonic() < give_up, f"the connection did not become {state}"
        sleep(0.005)


def heard(node: zmq.Socket[bytes]) -> list[bytes]:
    """Return what arrived, as soon as something did and nothing more comes."""
    bodies: list[bytes] = []
    while node.poll(5000 if not bodies else 100):
        bodies.append(node.recv_multipart()[-1])
    return bodies


def test_a_request_to_a_node_that_never_came_is_refused_and_never_sent(
    context: Context, address: str, connection: Connection
) -> None:
    assert [connection.send(b"early %d" % number) for number in range(3)] == [False] * 3
    with node_at(context, address) as node:
        wait_for(connection, LinkState.UP)
        assert connection.send(b"now")
        assert heard(node) == [b"now"]


def test_a_request_to_a_node_that_went_is_refused_and_never_sent_to_the_one_that_returns(
    context: Context, address: str, connection: Connection
) -> None:
    with node_at(context, address) as node:
        wait_for(connection, LinkState.UP)
        assert connection.send(b"before")
        assert heard(node) == [b"before"]
    wait_for(connection, LinkState.DOWN)
    assert [connection.send(b"between %d" % number) for number in range(3)] == [False] * 3
    with node_at(context, address) as node:
        wait_for(connection, LinkState.UP)
        assert connection.send(b"after")
        assert heard(node) == [b"after"]
