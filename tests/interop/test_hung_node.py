"""What clients of other languages are told when a node takes requests and answers none."""

from __future__ import annotations

import signal

import pytest

from tests.interop.conftest import LANGUAGES, OpenClient
from tests.interop.foreign_client import error_of, request_line
from tests.live.local_cluster import LocalCluster


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_write_whose_outcome_stays_unknown_holds_up_no_other_request(
    request: pytest.FixtureRequest, open_client: OpenClient, language: str, key: bytes
) -> None:
    client = open_client(language, "n1")
    cluster: LocalCluster = request.getfixturevalue("cluster")
    client.put(key, b"before")
    cluster.signal("n3", signal.SIGSTOP)
    try:
        write, ping = client.ask_all([request_line("put", key=key, value=b"v", w=3, deadline_ms=300), "ping"])
    finally:
        cluster.signal("n3", signal.SIGCONT)
        cluster.wait_until_whole()
    assert client.arrivals == [1, 0], "the ping's reply came first"
    assert ping["ok"] is True
    error = error_of(write)
    assert error.pop("cause")
    assert error == {"code": "timeout", "definite": False, "acks": 2}
    assert client.get(key)[0] == [b"before", b"v"]
