"""The cluster that the clients in other languages talk to, and those clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.interop.foreign_client import ForeignClient
from tests.interop.toolchains import c_command, node_command
from tests.live.local_cluster import LocalCluster, local_cluster

LANGUAGES = ("node", "c")
SOCKETS = ("dealer", "framed-dealer", "req")
TWO_KEYSPACES = '[keyspaces.default]\nmode = "ap"\n[keyspaces.ledger]\nmode = "ap"\n'

OpenClient = Callable[[str, str], ForeignClient]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Run three nodes for as long as there are tests that use them; whoever harms one mends it."""
    with local_cluster(tmp_path_factory.mktemp("interop") / "cluster", settings=TWO_KEYSPACES) as running:
        yield running


@pytest.fixture(scope="session")
def node_program() -> list[str]:
    """Give the Node client's command."""
    return node_command()


@pytest.fixture(scope="session")
def c_program(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Give the C client's command."""
    return c_command(tmp_path_factory.mktemp("c_client"))


# The clients come before the cluster: where they cannot be made, none is started for nothing.
@pytest.fixture(scope="session", params=[f"{language}-{socket}" for language in LANGUAGES for socket in SOCKETS])
def client(request: pytest.FixtureRequest) -> Iterator[ForeignClient]:
    """Give a client of each language on each kind of socket, connected to the first node."""
    language, _, socket = request.param.partition("-")
    command: list[str] = request.getfixturevalue(f"{language}_program")
    cluster: LocalCluster = request.getfixturevalue("cluster")
    client = ForeignClient(command, cluster.node("n1").client, socket)
    yield client
    client.close()


@pytest.fixture(scope="module")
def open_client(request: pytest.FixtureRequest) -> Iterator[OpenClient]:
    """Open a DEALER of a language to a node, both given by name, for the tests of one file."""
    opened: dict[tuple[str, str], ForeignClient] = {}

    def open_it(language: str, node: str) -> ForeignClient:
        if (language, node) not in opened:
            command: list[str] = request.getfixturevalue(f"{language}_program")
            cluster: LocalCluster = request.getfixturevalue("cluster")
            opened[language, node] = ForeignClient(command, cluster.node(node).client)
        return opened[language, node]

    yield open_it
    for client in opened.values():
        client.close()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> bytes:
    """Give a key that no other test uses; others may begin with it."""
    return f"{request.node.name} ".encode()
