"""Addresses of a cluster, and what is refused."""

from __future__ import annotations

import pytest

from kvbus.client.url import Endpoint, parse_addresses, parse_url
from kvbus.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "addresses", "keyspace"),
    [
        ("kvbus://db1:7400,db2:7401/ledger", ("tcp://db1:7400", "tcp://db2:7401"), "ledger"),
        ("kvbus://db1", ("tcp://db1:7400",), "default"),
        ("kvbus://db1:1/", ("tcp://db1:1",), "default"),
        ("kvbus://[::1]:7400/a%20b", ("tcp://[::1]:7400",), "a b"),
        ("kvbus://[::1]", ("tcp://[::1]:7400",), "default"),
    ],
)
def test_a_url_names_nodes_and_keyspace(url: str, addresses: tuple[str, ...], keyspace: str) -> None:
    assert parse_url(url) == Endpoint(addresses, keyspace)


@pytest.mark.parametrize(
    "url",
    [
        "http://db1:7400/x",
        "kvbus://",
        "kvbus:///ledger",
        "kvbus://db1:0",
        "kvbus://db1:65536",
        "kvbus://db1:",
        "kvbus://db1:x",
        "kvbus://db1,,db2",
        "kvbus://::1:7400",
        "kvbus://[::1/x",
        "kvbus://db1/a/b",
        "kvbus://db1/a?w=2",
        "kvbus://me@db1/a",
    ],
)
def test_another_form_is_refused_with_the_mend(url: str) -> None:
    with pytest.raises(ConfigError, match="kvbus://host:port"):
        parse_url(url)


def test_addresses_may_be_a_list_or_a_text_with_commas() -> None:
    expected = ("tcp://db1:7400", "tcp://db2:7402")
    assert parse_addresses(["tcp://db1:7400", "db2:7402", "db1"]) == expected
    assert parse_addresses("tcp://db1:7400, tcp://db2:7402") == expected


@pytest.mark.parametrize("addresses", [[], "", "udp://db1:7400", "kvbus://db1:7400"])
def test_no_address_and_other_transports_are_refused(addresses: str | list[str]) -> None:
    with pytest.raises(ConfigError):
        parse_addresses(addresses)
