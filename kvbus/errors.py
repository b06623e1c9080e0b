"""The one exception tree of kvbus.

::

    KvbusError
    ├── ConfigError                     a setting or a data directory is wrong; the message names the mend
    ├── CorruptionError                 stored bytes fail their checks (path, offset)
    ├── PeerProtocolError               a peer sent bytes that PEER_PROTOCOL.md does not allow
    ├── WorkerDied                      the process beside a node ended in the middle of a job
    ├── HistoryError                    a recorded history breaks its format (docs/HISTORIES.md)
    └── ClientError                     an operation failed (code, definite, details)
        ├── BadRequest, TooLarge, UnknownOp, UnknownKeyspace, Unsupported, Unauthorized
        ├── NoQuorum                    required, alive
        ├── RequestTimeout              cause; never definite
        ├── Conflict, SessionExpired, TooManySiblings, StaleEpoch
        ├── Overloaded                  retry_after_ms
        ├── ReadOnly, Corrupt, ShuttingDown, Internal
        └── Unreachable                 no node could be reached; never sent (kvbus.client)

``definite`` is true when nothing was applied and nothing will be; false when the outcome is unknown.
Source: PROTOCOL.md, "Error codes".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self


class KvbusError(Exception):
    """Base of everything that kvbus raises on purpose."""


class ConfigError(KvbusError):
    """A setting, a command-line argument or a data directory is wrong; the message names the mend."""


class CorruptionError(KvbusError):
    """Stored bytes fail their checks.

    ``path`` names the file, ``offset`` the byte at which the damage was found.
    """

    def __init__(self, message: str, path: str, offset: int) -> None:
        super().__init__(f"{path} at byte {offset}: {message}")
        self._message = message
        self.path = path
        self.offset = offset

    def __reduce__(self) -> tuple[type[CorruptionError], tuple[str, str, int]]:
        """Let it be told from one process to another: an exception is made again out of its arguments."""
        return type(self), (self._message, self.path, self.offset)


class PeerProtocolError(KvbusError):
    """A peer sent bytes that PEER_PROTOCOL.md does not allow."""


class WorkerDied(KvbusError):
    """The process that works beside a node ended in the middle of a job; how far it came is unknown."""


class HistoryError(KvbusError):
    """A recorded history breaks its format (docs/HISTORIES.md); the message names the line and the mend."""


class ClientError(KvbusError):
    """An operation failed with one of the protocol's error codes.

    ``details`` holds the further fields of the protocol's error map (``required``, ``alive``, ``cause`` …).
    """

    code: ClassVar[str] = "internal"
    definite_by_default: ClassVar[bool] = True

    def __init__(
        self, message: str, *, definite: bool | None = None, details: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.definite = self.definite_by_default if definite is None else definite
        self.details: dict[str, object] = dict(details or {})

    def as_answer(self) -> Self:
        """Return it as an answer to be kept: without the frames it was raised in.

        They hold all that came in the same turn, and among it what the answer is kept in: a cycle.
        """
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self


class BadRequest(ClientError):
    """The request breaks the protocol; correct it and send it again."""

    code = "bad_request"


class TooLarge(ClientError):
    """A key, value, batch or reply is over its limit (see ``limits`` in the reply to ``hello``)."""

    code = "too_large"


class UnknownOp(ClientError):
    """The node does not know this operation."""

    code = "unknown_op"


class UnknownKeyspace(ClientError):
    """No keyspace of this name is configured."""

    code = "unknown_keyspace"


class Unsupported(ClientError):
    """The keyspace's mode does not have this operation or option."""

    code = "unsupported"


class Unauthorized(ClientError):
    """The client key's role does not allow this operation."""

    code = "unauthorized"


class NoQuorum(ClientError):
    """Too few replicas can be reached for what was demanded (``required``, ``alive``)."""

    code = "no_quorum"


class RequestTimeout(ClientError):
    """No outcome within the deadline; a write may still have been or be applied (``cause``)."""

    code = "timeout"
    definite_by_default = False


class Conflict(ClientError):
    """The revision differs from the expected one (``rev``)."""

    code = "conflict"


class SessionExpired(ClientError):
    """The session is unknown or its sequence number is below the window."""

    code = "session_expired"


class TooManySiblings(ClientError):
    """The put would leave more siblings than the cap; read, resolve and write with the context."""

    code = "too_many_siblings"


class Overloaded(ClientError):
    """The node sheds load; try again after ``retry_after_ms``."""

    code = "overloaded"


class StaleEpoch(ClientError):
    """The request was routed by a topology older than the receiver's."""

    code = "stale_epoch"


class ReadOnly(ClientError):
    """The node takes no writes because there is no room: most often its disk is full."""

    code = "read_only"


class Corrupt(ClientError):
    """The stored record is damaged on every replica that was asked."""

    code = "corrupt"


class ShuttingDown(ClientError):
    """The node is stopping; ask another one."""

    code = "shutting_down"


class Internal(ClientError):
    """The node failed in a way it did not foresee; the outcome is unknown."""

    code = "internal"
    definite_by_default = False


_BY_CODE: dict[str, type[ClientError]] = {kind.code: kind for kind in ClientError.__subclasses__()}


def error_from_map(error: Mapping[str, object]) -> ClientError:
    """Build the typed error from a protocol error map ``{code, message, definite, …}``.

    An unknown code becomes :class:`ClientError` itself, so that a newer server does not break an older client.
    """
    code = str(error.get("code", "internal"))
    details = {name: value for name, value in error.items() if name not in ("code", "message", "definite")}
    kind = _BY_CODE.get(code, ClientError)
    return kind(
        str(error.get("message", code)), definite=bool(error.get("definite", False)), details={"code": code, **details}
    )
