"""The pytest plugin as users have it: their own folder, the fixture real and simulated, and the pages' examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
pytest_plugins = ["pytester"]

NOT_CONVERGED = """
def test_replicas_become_equal(kvbus_cluster):
    with kvbus_cluster.partition("n1 | n2,n3"):
        kvbus_cluster.sleep(3)
        kvbus_cluster.client("n1").put(b"cart", b"beer")
    kvbus_cluster.wait_converged(timeout_s=3)
"""
NODES = """
import pytest
from kvbus.errors import ClientError, ConfigError


def test_a_node_is_killed_started_stopped_and_restarted(kvbus_cluster):
    client = kvbus_cluster.client("n2")
    client.put(b"k", b"v", cl="all")
    kvbus_cluster.kill("n1")
    assert not kvbus_cluster.is_up("n1")
    assert client.get(b"k").value == b"v"
    kvbus_cluster.start("n1")
    kvbus_cluster.wait_converged()
    assert kvbus_cluster.client("n1").get(b"k").value == b"v"
    kvbus_cluster.restart("n3")
    assert kvbus_cluster.client("n3").get(b"k").value == b"v"


def test_trouble_is_in_force_until_its_end(kvbus_cluster):
    client = kvbus_cluster.client("n2")
    with kvbus_cluster.pause("n1"):
        kvbus_cluster.sleep(3)
        with pytest.raises(ClientError):
            client.put(b"k", b"v", w=3, deadline_ms=1000)
    kvbus_cluster.wait_linked()
    assert not client.put(b"k", b"v", w=3).degraded
    outer = kvbus_cluster.partition("n1 | n2,n3")
    with kvbus_cluster.one_way("n2", "n3"):
        pass
    kvbus_cluster.sleep(3)
    assert kvbus_cluster.client("n1").put(b"k", b"v").degraded
    assert not client.put(b"l", b"v").degraded
    outer.end()
    kvbus_cluster.wait_linked()
    with pytest.raises(ConfigError, match="n9"):
        kvbus_cluster.partition("n9 | n1")
"""


def run(pytester: pytest.Pytester, text: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(text)
    return pytester.runpytest_subprocess("-q", "-W", "error", "-p", "no:cacheprovider", *arguments)


@pytest.mark.parametrize("mode", ["real", "sim"])
def test_replicas_that_stay_different_are_named(pytester: pytest.Pytester, mode: str) -> None:
    result = run(pytester, NOT_CONVERGED, "--kvbus-mode", mode)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*NotConverged: after 3 *partitions differ: partition *n1*"])


@pytest.mark.parametrize("mode", ["real", "sim"])
def test_nodes_may_be_killed_paused_stopped_and_cut(pytester: pytest.Pytester, mode: str) -> None:
    run(pytester, NODES, "--kvbus-mode", mode).assert_outcomes(passed=2)


def test_a_seed_repeats_a_simulated_test_and_another_one_does_not(pytester: pytest.Pytester) -> None:
    text = """
        from pathlib import Path

        def test_times(kvbus_cluster):
            client = kvbus_cluster.client()
            for number in range(20):
                client.put(b"k%d" % number, b"v")
            Path("time").write_text(repr(kvbus_cluster.now()))
    """
    found: list[str] = []
    for seed in ("1", "1", "2"):
        run(pytester, text, "--kvbus-mode", "sim", "--kvbus-seed", seed).assert_outcomes(passed=1)
        found.append(Path(pytester.path, "time").read_text())
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("mode", ["real", "sim"])
def test_the_marker_says_nodes_and_keyspaces(pytester: pytest.Pytester, mode: str) -> None:
    text = f"""
        import pytest

        @pytest.mark.kvbus(nodes=2, mode={mode!r}, keyspaces={{"carts": {{"mode": "ap", "w": 1}}, "plain": "ap"}})
        def test_keyspaces(kvbus_cluster):
            hello = kvbus_cluster.client("n2", keyspace="carts").hello()
            assert kvbus_cluster.names == ["n1", "n2"]
            assert sorted(hello["keyspaces"]) == ["carts", "default", "plain"]
            assert hello["keyspaces"]["carts"]["w"] == 1
    """
    run(pytester, text).assert_outcomes(passed=1)


@pytest.mark.parametrize("mode", ["real", "sim"])
def test_one_node_has_nobody_to_differ_from(pytester: pytest.Pytester, mode: str) -> None:
    text = """
        def test_it(kvbus_cluster):
            kvbus_cluster.client().put(b"k", b"v")
            kvbus_cluster.wait_converged()
    """
    run(pytester, text, "--kvbus-mode", mode, "--kvbus-nodes", "1").assert_outcomes(passed=1)


WRONG_MARKERS = {
    "nods=3": "knows no 'nods'",
    "mode='fake'": "choose one of real, sim",
    "nodes=0": "at least one node",
    "mode='sim', keyspaces={'k': {'mode': 'ap', 'r': 'two'}}": "keyspaces*k*integer",
    "mode='sim', keyspaces={'k': 3}": "keyspaces*k*mode's name",
}


def test_wrong_markers_are_refused_and_named(pytester: pytest.Pytester) -> None:
    tests = [
        f"@pytest.mark.kvbus({marker})\ndef test_{number}(kvbus_cluster): pass\n"
        for number, marker in enumerate(WRONG_MARKERS)
    ]
    result = run(pytester, "import pytest\n" + "\n".join(tests))
    result.assert_outcomes(errors=len(WRONG_MARKERS))
    for said in WRONG_MARKERS.values():
        result.stdout.fnmatch_lines([f"*{said}*"])


def test_the_simulated_cluster_says_that_it_has_no_sockets(pytester: pytest.Pytester) -> None:
    text = "def test_it(kvbus_cluster):\n    kvbus_cluster.addresses\n"
    run(pytester, text, "--kvbus-mode", "sim").stdout.fnmatch_lines(["*has no sockets*--kvbus-mode real*"])


@pytest.mark.parametrize("page", ["README.md", "docs/TESTING.md"])
def test_the_pages_examples_pass_real_and_simulated(pytester: pytest.Pytester, page: str) -> None:
    examples = [
        example
        for example in re.findall(r"```python\n(.*?)```", (CHECKOUT / page).read_text(encoding="utf-8"), re.DOTALL)
        if "def test_" in example
    ]
    assert examples
    for number, example in enumerate(examples):
        pytester.makepyfile(**{f"test_page_{number}": example})
    for mode in ("real", "sim"):
        result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", "--kvbus-mode", mode)
        assert result.ret == 0
