"""Client frames to columns: parse, check every limit, group what shares kind, keyspace and options.

Source: PROTOCOL.md, "Request fields" and "Limits and safety".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple, cast

from kvbus.core.request import (
    DEADLINE_SHARE,
    DEFAULT_KEYSPACE,
    DEFAULT_OPTIONS,
    MAX_DEADLINE_MS,
    Call,
    ClientOrigin,
    NodeRequest,
    Options,
    PeerOrigin,
    RequestColumns,
    ScanRequest,
)
from kvbus.core.tick import Tick
from kvbus.errors import BadRequest, ClientError, Overloaded, TooLarge, UnknownKeyspace, UnknownOp, Unsupported
from kvbus.ports.mode import Limits
from kvbus.wire import fault_requests, request_fields
from kvbus.wire.cbor import CborError, decode_map

MAX_TTL_MS = 1 << 46
RETRY_AFTER_MS = 100
# Waiting counts in steps, so that requests still share columns.
_WAIT_STEP_MS = 50
# A longer body that is to be shed is not decoded for its id.
_DECODED_SHED_BYTES = 1 << 18

_ADMIN_OPS = ("admin.flush", "admin.compact", "admin.digests")
_NODE_OPS = frozenset({"hello", "ping", "topology", "stats", *_ADMIN_OPS, *fault_requests.FIELDS})
_COMMON = frozenset({"id", "op", "ks", "deadline_ms"})
_READ_OPTIONS = frozenset({"r", "pr", "cl", "stale", "receipt"})
_WRITE_OPTIONS = frozenset({"w", "pw", "cl", "session", "seq", "rev", "receipt"})
_FIELDS: Mapping[str, frozenset[str]] = {
    "get": _COMMON | _READ_OPTIONS | {"key", "explain"},
    "mget": _COMMON | _READ_OPTIONS | {"keys"},
    "put": _COMMON | _WRITE_OPTIONS | {"key", "value", "ctx", "ttl_ms"},
    "mput": _COMMON | _WRITE_OPTIONS | {"keys", "values", "ctxs", "ttl_ms"},
    "delete": _COMMON | _WRITE_OPTIONS | {"key", "ctx"},
    "scan": _COMMON | _READ_OPTIONS | {"prefix", "limit", "cursor", "with_values"},
    "hello": _COMMON | {"v", "client"},
    "ping": _COMMON,
    "topology": _COMMON | {"epoch"},
    "stats": _COMMON,
    **dict.fromkeys(_ADMIN_OPS, _COMMON),
    **{op: _COMMON | names for op, names in fault_requests.FIELDS.items()},
}
_PLAIN: Mapping[str, frozenset[str]] = {
    "get": frozenset({"id", "op", "ks", "key"}),
    "mget": frozenset({"id", "op", "ks", "keys"}),
    "put": frozenset({"id", "op", "ks", "key", "value"}),
    "mput": frozenset({"id", "op", "ks", "keys", "values"}),
    "delete": frozenset({"id", "op", "ks", "key"}),
    "scan": frozenset({"id", "op", "ks"}),
}
"""The fields with which a request asks for nothing beyond its operation, in every mode."""
_WITH_CONTEXT = {op: names | _FIELDS[op] & {"ctx", "ctxs"} for op, names in _PLAIN.items()}
_EVERY_MODES = frozenset(
    {"id", "op", "ks", "key", "value", "keys", "values", "prefix", "limit", "cursor", "with_values"}
)
_UNSERVED = frozenset({"cas", "update"})
_KIND_OF = {"get": "get", "mget": "get", "put": "put", "mput": "put", "delete": "delete", "scan": "scan"}


class ServedKeyspace(NamedTuple):
    """What the intake must know of a keyspace: its mode's name, version token and requests."""

    mode: str
    token_name: str
    operations: Mapping[str, frozenset[str]]


class Intake:
    """Collects client frames of one tick.

    ``refused`` holds the calls that failed before any node code ran, ``operations`` counts the reads and writes taken.
    """

    def __init__(self, keyspaces: Mapping[str, ServedKeyspace], limits: Limits) -> None:
        self._keyspaces = keyspaces
        self._limits = limits
        self._columns: dict[tuple[str, str, Options], RequestColumns] = {}
        self._alone: list[RequestColumns] = []
        self._scans: list[ScanRequest] = []
        self._node_requests: list[NodeRequest] = []
        self.refused: list[Call] = []
        self.operations = 0
        self._parsers: Mapping[str, Callable[[ClientOrigin | PeerOrigin, int | bytes, dict[str, object]], None]] = {
            "get": self._single,
            "put": self._single,
            "delete": self._single,
            "mget": self._batch,
            "mput": self._batch,
            "scan": self._scan,
            **dict.fromkeys(_NODE_OPS, self._node_request),
        }

    def add(self, origin: ClientOrigin | PeerOrigin, body: bytes, waited_ms: int = 0) -> None:
        """Parse one frame's body into this tick's columns, or refuse it with a coded error.

        One that has waited for its turn until its deadline is not begun any more.
        """
        request_id: int | bytes | None = None
        op = "?"
        try:
            if len(body) > self._limits.request_bytes:
                raise TooLarge(f"a request body may have {self._limits.request_bytes} bytes, this one has {len(body)}")
            fields = decode_map(body)
            request_id = request_fields.request_id(fields)
            named = fields.get("op")
            if type(named) is not str:
                raise BadRequest("op must be text")
            op = named
            parser = self._parsers.get(op)
            if parser is None:
                raise self._unknown(op, fields)
            if waited_ms >= _WAIT_STEP_MS:
                _take_off_deadline(fields, waited_ms)
            parser(origin, request_id, fields)
        except CborError as error:
            self._refuse(origin, None, op, BadRequest(f"not a strict CBOR map: {error}"))
        except ClientError as error:
            self._refuse(origin, request_id, op, error)

    def shed(self, origin: ClientOrigin, body: bytes) -> None:
        """Refuse a request because too many wait; nothing but its id is looked at."""
        request_id = request_fields.leading_id(body)
        if request_id is None and len(body) <= _DECODED_SHED_BYTES:
            with suppress(CborError, ClientError):
                request_id = request_fields.request_id(decode_map(body))
        error = Overloaded(
            "too many requests wait at this node; send it fewer at a time, or ask another one",
            details={"retry_after_ms": RETRY_AFTER_MS},
        )
        self._refuse(origin, request_id, "?", error)

    def refuse_frames(self, origin: ClientOrigin, count: int) -> None:
        """Refuse a message that has neither one frame nor an empty delimiter and one frame."""
        self._refuse(origin, None, "?", BadRequest(f"a request is one frame (REQ: behind an empty one), not {count}"))

    def hand_over(self, tick: Tick) -> list[Call]:
        """Move what was collected into ``tick``; return the refused calls."""
        refused = self.refused
        self.operations = 0
        if self._columns or self._alone:
            tick.requests = [*self._columns.values(), *self._alone]
            self._columns, self._alone = {}, []
        if self._scans:
            tick.scans, self._scans = self._scans, []
        if self._node_requests:
            tick.node_requests, self._node_requests = self._node_requests, []
        if refused:
            self.refused = []
        return refused

    def _refuse(
        self, origin: ClientOrigin | PeerOrigin, request_id: int | bytes | None, op: str, error: ClientError
    ) -> None:
        call = Call(origin, request_id, op, "", 0, False)
        call.fail(error)
        self.refused.append(call)

    def _unknown(self, op: str, fields: Mapping[str, object]) -> ClientError:
        if op in _UNSERVED:
            name = fields.get("ks", DEFAULT_KEYSPACE)
            keyspace = self._keyspaces.get(name) if isinstance(name, str) else None
            if keyspace is None:
                return UnknownKeyspace(
                    f"no keyspace {request_fields.clipped(name)}; there are: {', '.join(self._keyspaces)}"
                )
            return Unsupported(f"{op} is not served by keyspaces of mode {keyspace.mode}")
        if op.startswith("admin."):
            return Unsupported(f"{request_fields.clipped(op)} is not served by this version")
        return UnknownOp(f"no operation {request_fields.clipped(op)}")

    def _single(self, origin: ClientOrigin | PeerOrigin, request_id: int | bytes, fields: dict[str, object]) -> None:
        op = cast("str", fields["op"])
        keyspace = self._keyspace(fields, op)
        options = self._options(fields, op, keyspace)
        key = request_fields.key(fields.get("key"), self._limits)
        if op == "get":
            columns = self._column("get", fields, options)
        else:
            value = request_fields.value(fields.get("value"), self._limits) if op == "put" else None
            context = request_fields.context(fields.get("ctx"))
            columns = self._column(op, fields, options)
            columns.values.append(value)
            columns.contexts.append(context)
        self.operations += 1
        columns.calls.append(Call(origin, request_id, op, op, 1, False, keyspace.token_name))
        columns.slots.append(0)
        columns.keys.append(key)

    def _batch(self, origin: ClientOrigin | PeerOrigin, request_id: int | bytes, fields: dict[str, object]) -> None:
        op = cast("str", fields["op"])
        keyspace = self._keyspace(fields, op)
        options = self._options(fields, op, keyspace)
        keys = request_fields.keys(fields.get("keys"), self._limits)
        count = len(keys)
        if op == "mget":
            columns = self._column("get", fields, options)
        else:
            if len(set(keys)) != count and not isinstance(origin, PeerOrigin):
                raise BadRequest("a key stands twice in the batch; send one operation a key")
            values = request_fields.values(
                fields.get("values"), count, self._limits, from_peer=isinstance(origin, PeerOrigin)
            )
            contexts = request_fields.contexts(fields.get("ctxs"), count)
            room = self._limits.reply_bytes // 2
            if sum(map(len, filter(None, contexts))) > room:
                raise TooLarge(f"the contexts of a batch may have {room} bytes together; send fewer keys")
            columns = self._column("put", fields, options)
            columns.values += values
            columns.contexts += contexts
        self.operations += count
        call = Call(origin, request_id, op, columns.kind, count, True, keyspace.token_name)
        columns.calls += [call] * count
        columns.slots += range(count)
        columns.keys += keys

    def _scan(self, origin: ClientOrigin | PeerOrigin, request_id: int | bytes, fields: dict[str, object]) -> None:
        keyspace = self._keyspace(fields, "scan")
        options = self._options(fields, "scan", keyspace)
        prefix = fields.get("prefix", b"")
        if type(prefix) is not bytes:
            raise BadRequest("prefix must be bytes")
        if len(prefix) > self._limits.key_bytes:
            raise TooLarge(f"prefix may have {self._limits.key_bytes} bytes, as a key may")
        most = self._limits.scan_keys
        limit = request_fields.uint(fields, "limit", 1, most) or most
        cursor = fields.get("cursor")
        if cursor is not None and type(cursor) is not bytes:
            raise BadRequest("cursor must be the bytes of an earlier reply")
        with_values = request_fields.flag(fields, "with_values")
        call = Call(origin, request_id, "scan", "scan", 1, False)
        name = cast("str", fields.get("ks", DEFAULT_KEYSPACE))
        self._scans.append(ScanRequest(call, name, options, prefix, limit, cursor, with_values))

    def _node_request(
        self, origin: ClientOrigin | PeerOrigin, request_id: int | bytes, fields: dict[str, object]
    ) -> None:
        op = cast("str", fields["op"])
        _check_names(fields, op)
        if type(fields.get("ks", DEFAULT_KEYSPACE)) is not str:
            raise BadRequest("ks must be text")
        if type(fields.get("v", 0)) is not int:
            raise BadRequest("v must be an unsigned integer")
        if type(fields.get("client", "")) is not str:
            raise BadRequest("client must be text")
        request_fields.uint(fields, "deadline_ms", 1, MAX_DEADLINE_MS)
        request_fields.uint(fields, "epoch", 0, request_fields.MAX_ID - 1)
        call = Call(origin, request_id, op, op, 1, False)
        self._node_requests.append(NodeRequest(call, fields))

    def _column(self, kind: str, fields: Mapping[str, object], options: Options) -> RequestColumns:
        name = cast("str", fields.get("ks", DEFAULT_KEYSPACE))
        if options.explain:
            # What is told of a batch must be about this one key.
            self._alone.append(RequestColumns(kind, name, options))
            return self._alone[-1]
        columns = self._columns.get((kind, name, options))
        if columns is None:
            columns = self._columns[(kind, name, options)] = RequestColumns(kind, name, options)
        return columns

    def _keyspace(self, fields: Mapping[str, object], op: str) -> ServedKeyspace:
        name = fields.get("ks", DEFAULT_KEYSPACE)
        keyspace = self._keyspaces.get(name) if type(name) is str else None
        if keyspace is None:
            if type(name) is not str:
                raise BadRequest("ks must be text")
            raise UnknownKeyspace(
                f"no keyspace {request_fields.clipped(name)}; there are: {', '.join(self._keyspaces)}"
            )
        if _KIND_OF[op] not in keyspace.operations:
            raise Unsupported(f"{op} is not served by keyspaces of mode {keyspace.mode}")
        return keyspace

    def _options(self, fields: Mapping[str, object], op: str, keyspace: ServedKeyspace) -> Options:
        served = keyspace.operations[_KIND_OF[op]]
        if fields.keys() <= (_WITH_CONTEXT if "ctx" in served else _PLAIN)[op]:
            return DEFAULT_OPTIONS
        plain = True
        for name in fields:
            if name not in _EVERY_MODES:
                option = "ctx" if name == "ctxs" else name
                plain = plain and option == "ctx"
                # A flag that is false and an absent token ask for nothing.
                asks = fields[name] is not None and fields[name] is not False
                if asks and name != "deadline_ms" and name in _FIELDS[op] and option not in served:
                    raise Unsupported(f"{op} has no {name} in keyspaces of mode {keyspace.mode}; send it without")
        if not fields.keys() <= _FIELDS[op]:
            _check_names(fields, op)
        if plain:
            return DEFAULT_OPTIONS
        level = fields.get("cl")
        if level is not None and type(level) is not str:
            raise BadRequest("cl must be text")
        return Options(
            r=request_fields.uint(fields, "r", 1, 255),
            w=request_fields.uint(fields, "w", 1, 255),
            pr=request_fields.uint(fields, "pr", 1, 255),
            pw=request_fields.uint(fields, "pw", 1, 255),
            cl=level,
            ttl_ms=request_fields.uint(fields, "ttl_ms", 1, MAX_TTL_MS),
            deadline_ms=request_fields.uint(fields, "deadline_ms", 1, MAX_DEADLINE_MS) or DEFAULT_OPTIONS.deadline_ms,
            receipt=request_fields.flag(fields, "receipt"),
            explain=request_fields.flag(fields, "explain"),
        )


def _take_off_deadline(fields: dict[str, object], waited_ms: int) -> None:
    """Leave the request the time that its wait has left it.

    Raises:
        Overloaded: that is too little to begin.
    """
    asked_ms = request_fields.uint(fields, "deadline_ms", 1, MAX_DEADLINE_MS) or DEFAULT_OPTIONS.deadline_ms
    if waited_ms >= asked_ms * DEADLINE_SHARE:
        raise Overloaded(
            f"it waited {waited_ms} ms for its turn and its deadline is {asked_ms} ms; send fewer at a time",
            details={"retry_after_ms": RETRY_AFTER_MS},
        )
    fields["deadline_ms"] = asked_ms - waited_ms // _WAIT_STEP_MS * _WAIT_STEP_MS


def _check_names(fields: Mapping[str, object], op: str) -> None:
    for name in sorted(fields):
        if name not in _FIELDS[op]:
            raise BadRequest(f"{op} has no field {request_fields.clipped(name)}")
