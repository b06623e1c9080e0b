"""ZeroMQ sockets with the settings that the defaults get wrong.

LINGER 0: a close never hangs. IMMEDIATE 1 on DEALER: nothing queues for a peer that is not there. ROUTER_MANDATORY:
a lost receiver is an error, not a silent drop. Heartbeats on both sides: a one-sided one black-holes a returning
peer. MAXMSGSIZE and a small high-water mark for what is to be sent bound memory. There is none for what comes in:
ZeroMQ 4.3.5 stops reading at it, and when the peer goes away then, the next heartbeat fails an assertion and ends the
process. The port that clients reach has a budget of its own instead. CONNECT_TIMEOUT, HANDSHAKE_IVL and
RECONNECT_IVL_MAX bound how long a half-open connection can pretend.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import zmq

from kvbus.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class SocketSettings:
    """Times in ms, sizes in bytes, high-water mark (of what waits to be sent to one peer) in messages."""

    heartbeat_ms: int = 500
    heartbeat_timeout_ms: int = 1500
    reconnect_ms: int = 100
    reconnect_max_ms: int = 2000
    connect_timeout_ms: int = 2000
    handshake_ms: int = 5000
    message_bytes: int = 16 << 20
    high_water: int = 4096
    client_backlog: int = 1024


def open_socket(context: zmq.Context[zmq.Socket[bytes]], kind: int, settings: SocketSettings) -> zmq.Socket[bytes]:
    """Create a socket of ``kind`` with every bound set."""
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, settings.high_water)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.IPV6, 1)
    socket.setsockopt(zmq.MAXMSGSIZE, settings.message_bytes)
    socket.setsockopt(zmq.HEARTBEAT_IVL, settings.heartbeat_ms)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, settings.heartbeat_timeout_ms)
    socket.setsockopt(zmq.HEARTBEAT_TTL, settings.heartbeat_timeout_ms)
    socket.setsockopt(zmq.HANDSHAKE_IVL, settings.handshake_ms)
    socket.setsockopt(zmq.BACKLOG, settings.client_backlog)
    if kind == zmq.ROUTER:
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    if kind in (zmq.DEALER, zmq.SUB):
        socket.setsockopt(zmq.RECONNECT_IVL, settings.reconnect_ms)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, settings.reconnect_max_ms)
        socket.setsockopt(zmq.CONNECT_TIMEOUT, settings.connect_timeout_ms)
    if kind == zmq.DEALER:
        socket.setsockopt(zmq.IMMEDIATE, 1)
    return socket


def bind(socket: zmq.Socket[bytes], address: str, setting: str) -> None:
    """Bind to ``address``.

    Raises:
        ConfigError: the address is taken or is none of this machine's; the message names ``setting``.
    """
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            reason = "is taken by another process; stop it or choose another port"
        else:
            reason = f"cannot be bound ({error}); give an address of this machine"
        raise ConfigError(f"[listen] {setting} = {address!r} {reason}") from error


def check_addresses(addresses: Mapping[str, str]) -> None:
    """See that each address, by the name of its setting, can be bound.

    Raises:
        ConfigError: one cannot; the message names its setting.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        for setting, address in addresses.items():
            bind(open_socket(context, zmq.ROUTER, SocketSettings()), address, setting)
    finally:
        context.destroy(0)
