"""The pytest plugin: a test that asks for ``kvbus_cluster`` gets a cluster of its own, and may break it.

::

    @pytest.mark.kvbus(nodes=5, mode="sim", keyspaces={"carts": {"mode": "ap", "r": 1}})
    def test_the_cart_survives(kvbus_cluster):
        with kvbus_cluster.partition("n1 | n2,n3,n4,n5"):
            ...

There is always a keyspace "default". Options of the command line are for tests whose marker says nothing.
Source: docs/TESTING.md.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from kvbus.core.keyspace import Keyspace
    from kvbus.testing.harness.cluster import Cluster

MODES = ("real", "sim")
_DEFAULT_NODES = 3
_MOST_NODES = 100
_REPLICAS = 3
_KNOWN = ("nodes", "mode", "keyspaces", "seed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("kvbus", "kvbus clusters under test")
    group.addoption("--kvbus-mode", choices=MODES, default="real", help="real processes, or the simulated world")
    group.addoption("--kvbus-nodes", type=int, default=_DEFAULT_NODES, metavar="N", help="nodes of a cluster")
    group.addoption("--kvbus-seed", type=int, default=0, metavar="SEED", help="what happens in a simulated world")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers", "kvbus(nodes=3, mode='real', keyspaces={...}, seed=0): what the fixture kvbus_cluster gives"
    )


@pytest.fixture
def kvbus_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Give a cluster of this test's own; it is gone after the test."""
    asked = _asked(request)
    nodes = cast("int", asked.get("nodes", request.config.getoption("--kvbus-nodes")))
    mode = asked.get("mode", request.config.getoption("--kvbus-mode"))
    seed = cast("int", asked.get("seed", request.config.getoption("--kvbus-seed")))
    keyspaces = {"default": "ap", **cast("Mapping[str, Any]", asked.get("keyspaces", {}))}
    if mode not in MODES:
        raise pytest.UsageError(f"kvbus mode {mode!r}: choose one of {', '.join(MODES)}")
    if type(nodes) is not int or not 1 <= nodes <= _MOST_NODES:
        raise pytest.UsageError(f"a kvbus cluster has at least one node and at most {_MOST_NODES}, not {nodes!r}")
    cluster = _simulated(nodes, keyspaces, seed) if mode == "sim" else _real(nodes, keyspaces)
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell below a failure how to have the same simulated run again."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("kvbus_cluster")
    seed = getattr(cluster, "seed", None)
    if report.failed and seed is not None:
        report.sections.append(("kvbus_cluster", f"repeat with: --kvbus-mode sim --kvbus-seed {seed}"))
    return report


def _asked(request: pytest.FixtureRequest) -> dict[str, object]:
    marker = request.node.get_closest_marker("kvbus")
    if marker is None:
        return {}
    unknown = [name for name in marker.kwargs if name not in _KNOWN]
    if unknown or marker.args:
        what = unknown[0] if unknown else marker.args[0]
        raise pytest.UsageError(f"the marker kvbus knows no {what!r}; write kvbus({'=…, '.join(_KNOWN)}=…)")
    return dict(marker.kwargs)


def _simulated(nodes: int, keyspaces: Mapping[str, Any], seed: int) -> Cluster:
    from kvbus.testing.harness.simulated import SimulatedCluster

    return SimulatedCluster(nodes, {name: _keyspace(name, said, nodes) for name, said in keyspaces.items()}, seed=seed)


def _real(nodes: int, keyspaces: Mapping[str, Any]) -> Cluster:
    from kvbus.testing.harness.real import RealCluster

    return RealCluster(nodes, {name: _settings(name, said) for name, said in keyspaces.items()})


def _settings(name: str, said: object) -> dict[str, object]:
    """Return a keyspace's settings, as the configuration has them; a mode's name alone is enough."""
    if isinstance(said, str):
        return {"mode": said}
    if isinstance(said, Mapping):
        return dict(cast("Mapping[str, object]", said))
    raise pytest.UsageError(f"keyspaces[{name!r}] is a mode's name or a table of settings, not {said!r}")


def _keyspace(name: str, said: object, nodes: int) -> Keyspace:
    from pydantic import ValidationError

    from kvbus.core.keyspace import Keyspace
    from kvbus.settings import KeyspaceSection

    try:
        section = KeyspaceSection.model_validate(_settings(name, said))
    except ValidationError as error:
        first = error.errors()[0]
        where = " ".join(str(part) for part in first["loc"])
        raise pytest.UsageError(f"keyspaces[{name!r}] {where}: {first['msg']}") from None
    n = min(_REPLICAS, nodes)
    r, w = (min(2, n) if size is None else size for size in (section.r, section.w))
    return Keyspace(name=name, mode=section.mode, n=n, r=r, w=w, availability=section.availability)
