"""Ports for temporary clusters: each has blocks of its own, also among those of other processes."""

from __future__ import annotations

import socket

from kvbus.local.folder import HOST, PORTS_A_NODE

_FIRST_PORT = 17_400
_BLOCK_PORTS = 100
_BLOCKS = 100


class PortBlock:
    """Free ports from ``base`` on, for ``nodes`` nodes, until it is closed or its process ends.

    The last port of each hundred is bound by the owner: that claims them all among owners of such blocks.

    Raises:
        OSError: no block is free.
    """

    def __init__(self, nodes: int) -> None:
        blocks = -(-(nodes * PORTS_A_NODE + 1) // _BLOCK_PORTS)
        for number in range(_BLOCKS):
            self.base = _FIRST_PORT + number * _BLOCK_PORTS
            self._claims: list[socket.socket] = []
            if self._claim(blocks) and self._is_free(nodes):
                return
            self.close()
        raise OSError(f"no {nodes * PORTS_A_NODE} free ports above {_FIRST_PORT}")

    def close(self) -> None:
        """Let others have the ports."""
        for claim in self._claims:
            claim.close()

    def _claim(self, blocks: int) -> bool:
        for number in range(1, blocks + 1):
            claim = socket.socket()
            self._claims.append(claim)
            try:
                claim.bind((HOST, self.base + number * _BLOCK_PORTS - 1))
            except OSError:
                return False
        return True

    def _is_free(self, nodes: int) -> bool:
        return all(_can_be_bound(self.base + offset) for offset in range(nodes * PORTS_A_NODE))


def _can_be_bound(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
