"""The clusters that many tests share, each with keys of its own.

One is for tests that stop, kill and hang nodes: it is mended for the next test. The other is for tests under which no
node may even stumble: its processes are the same from the first test to the last.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.local_cluster import LocalCluster, local_cluster


@pytest.fixture(scope="session")
def standing_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Run three nodes for as long as there are tests that use them."""
    with local_cluster(tmp_path_factory.mktemp("standing") / "cluster") as running:
        yield running


@pytest.fixture(scope="session")
def unharmed_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Run three nodes that nobody stops; in the end each must still be the process that was started."""
    with local_cluster(tmp_path_factory.mktemp("unharmed") / "cluster") as running:
        pids = running.pids
        yield running
        running.assert_unharmed(pids)


@pytest.fixture
def cluster(standing_cluster: LocalCluster) -> LocalCluster:
    """Give the shared cluster, whole: all three nodes serve and see each other."""
    standing_cluster.restore()
    return standing_cluster
