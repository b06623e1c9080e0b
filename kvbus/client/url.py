"""Where a cluster is: ``kvbus://host:port[,host:port…][/keyspace]``, or a list of node addresses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote

from kvbus.errors import ConfigError

DEFAULT_KEYSPACE = "default"
DEFAULT_PORT = 7400
_SCHEME = "kvbus://"
_EXAMPLE = "write it as kvbus://host:port,host:port/keyspace"


class Endpoint(NamedTuple):
    """``addresses`` in ZeroMQ's form (``tcp://host:port``), and the keyspace to use."""

    addresses: tuple[str, ...]
    keyspace: str


def parse_url(url: str) -> Endpoint:
    """Parse a cluster's URL; the port is 7400 and the keyspace ``default`` where they are left out.

    >>> parse_url("kvbus://db1:7400,db2/ledger")
    Endpoint(addresses=('tcp://db1:7400', 'tcp://db2:7400'), keyspace='ledger')

    Raises:
        ConfigError: it is no such URL; the message shows the form.
    """
    if not url.startswith(_SCHEME):
        raise ConfigError(f"{url!r} does not start with {_SCHEME}; {_EXAMPLE}")
    hosts, _, path = url.removeprefix(_SCHEME).partition("/")
    if "/" in path or "?" in url or "#" in url or "@" in hosts:
        raise ConfigError(f"{url!r} has more parts than nodes and a keyspace; {_EXAMPLE}")
    addresses = tuple(f"tcp://{_host_and_port(part.strip(), url)}" for part in hosts.split(","))
    return Endpoint(addresses, unquote(path) or DEFAULT_KEYSPACE)


def parse_addresses(addresses: str | Sequence[str]) -> tuple[str, ...]:
    """Return node addresses in ZeroMQ's form, without repetitions; a string may list several, separated by commas.

    >>> parse_addresses("tcp://db1:7400,db2")
    ('tcp://db1:7400', 'tcp://db2:7400')

    Raises:
        ConfigError: there is none, or one is not ``tcp://host:port``, ``host:port`` or ``ipc://path``.
    """
    parts = addresses.split(",") if isinstance(addresses, str) else addresses
    return tuple(dict.fromkeys(_address(part.strip()) for part in parts)) or _refuse_none()


def _refuse_none() -> tuple[str, ...]:
    raise ConfigError("no node address is given; give at least one, such as tcp://127.0.0.1:7400")


def _address(text: str) -> str:
    if text.startswith(("ipc://", "inproc://")):
        return text
    if "://" in text and not text.startswith("tcp://"):
        raise ConfigError(f"{text!r} is no node address; write it as tcp://host:port (URLs: from_url)")
    return f"tcp://{_host_and_port(text.removeprefix('tcp://'), text)}"


def _host_and_port(part: str, whole: str) -> str:
    if part.startswith("["):
        host, bracket, rest = part.partition("]")
        host += bracket
    else:
        host, colon, port = part.partition(":")
        rest = colon + port
    if not host.strip("[]") or (host[0] == "[" and host[-1] != "]") or "/" in host:
        raise ConfigError(f"{whole!r} has a node without a host; {_EXAMPLE}")
    number = rest[1:] if rest else str(DEFAULT_PORT)
    if (rest and rest[0] != ":") or not (number.isascii() and number.isdigit()) or not 0 < int(number) < 65_536:
        raise ConfigError(f"{whole!r} has a port that is not 1 to 65535 (IPv6 hosts stand in brackets); {_EXAMPLE}")
    return f"{host}:{number}"
