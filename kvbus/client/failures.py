"""What can fail in the client itself, beside the protocol's errors."""

from __future__ import annotations

from collections.abc import Sequence

from kvbus.errors import ClientError, KvbusError


class Siblings(KvbusError):
    """The key holds several values that no write has reconciled; merge ``values`` and write with ``ctx``.

    ``values`` are the siblings, ``ctx`` the context that covers them all.
    """

    def __init__(self, values: Sequence[bytes], ctx: bytes | None) -> None:
        super().__init__(f"{len(values)} siblings; merge .values and put the result with ctx=.ctx, or use modify()")
        self.values = list(values)
        self.ctx = ctx


class Unreachable(ClientError):
    """No node took the request before its deadline: none could be reached, or too many others went before it."""

    code = "unreachable"
