"""Three languages on three nodes share keys, siblings and contexts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Protocol

import pytest

from kvbus import Client
from tests.interop.conftest import OpenClient
from tests.live.local_cluster import LocalCluster


class Speaker(Protocol):
    """A client of any language."""

    def put(self, key: bytes, value: bytes, ctx: bytes | None = None) -> bytes:
        """Write a value; return the context of the write."""
        ...

    def get(self, key: bytes) -> tuple[list[bytes], bytes]:
        """Return the sorted siblings and their context."""
        ...


class PythonSpeaker:
    """The project's own client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def put(self, key: bytes, value: bytes, ctx: bytes | None = None) -> bytes:
        """Write a value; return the context of the write."""
        written = self._client.put(key, value, ctx=ctx).ctx
        assert written is not None
        return written

    def get(self, key: bytes) -> tuple[list[bytes], bytes]:
        """Return the sorted siblings and their context."""
        reply = self._client.get(key)
        assert reply.ctx is not None
        return sorted(reply.values), reply.ctx


@pytest.fixture(scope="module")
def python(cluster: LocalCluster) -> Iterator[Speaker]:
    """Give the project's own client, connected to the third node."""
    with Client(cluster.node("n3").client, routing="direct") as client:
        yield PythonSpeaker(client)


@pytest.fixture(params=permutations(("node", "c", "python")), ids="-".join)
def speakers(request: pytest.FixtureRequest, open_client: OpenClient) -> tuple[Speaker, ...]:
    """Give a client of each language, each at a node of its own, in every order."""
    known: dict[str, Speaker] = {"node": open_client("node", "n1"), "c": open_client("c", "n2")}
    known["python"] = request.getfixturevalue("python")
    return tuple(known[language] for language in request.param)


def test_what_one_language_writes_all_others_read(speakers: tuple[Speaker, ...], key: bytes) -> None:
    writer, *readers = speakers
    value = bytes(range(256))
    ctx = writer.put(key, value)
    for reader in readers:
        assert reader.get(key) == ([value], ctx)


def test_siblings_of_two_languages_are_resolved_by_the_third(speakers: tuple[Speaker, ...], key: bytes) -> None:
    one, other, third = speakers
    one.put(key, b"one")
    other.put(key, b"other")
    values, ctx = third.get(key)
    assert values == [b"one", b"other"]
    third.put(key, b"both", ctx)
    for speaker in speakers:
        assert speaker.get(key)[0] == [b"both"]


def test_a_context_that_one_language_got_serves_another(speakers: tuple[Speaker, ...], key: bytes) -> None:
    reader, other, writer = speakers
    writer.put(key, b"seen")
    _, ctx = reader.get(key)
    own = other.put(key, b"unseen")
    writer.put(key, b"new", ctx)
    assert other.get(key)[0] == [b"new", b"unseen"]
    reader.put(key, b"newest", own)
    assert other.get(key)[0] == [b"new", b"newest"]
