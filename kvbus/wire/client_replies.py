"""Finished calls to reply bodies. Source: PROTOCOL.md, "Reply"."""

from __future__ import annotations

from itertools import chain

from kvbus.core.request import Call
from kvbus.errors import ClientError, TooLarge
from kvbus.wire.cbor import dumps, with_lists_of_one

_ITEM_OVERHEAD_BYTES = 16
_ERROR_BYTES = 160


def error_map(error: ClientError) -> dict[str, object]:
    """Return the protocol's error map of ``error``."""
    return {"code": error.code, "message": error.message, "definite": error.definite, **error.details}


def encode_reply(call: Call, reply_bytes: int) -> bytes:
    """Encode the reply to a finished call.

    A batch whose values do not fit into ``reply_bytes`` gets ``too_large`` for each key that no longer does.
    """
    if call.error is not None:
        return dumps({"id": call.id, "ok": False, "error": error_map(call.error)})
    reply: dict[str, object] = {"id": call.id, "ok": True}
    if call.packed:
        _fill_batch(reply, call, reply_bytes)
    elif call.errors:
        return dumps({"id": call.id, "ok": False, "error": error_map(call.errors[0][1])})
    elif call.kind in ("get", "put", "delete"):
        if call.kind == "get":
            reply["values"] = call.values[0]
        if call.tokens[0] is not None:
            reply[call.token_name] = call.tokens[0]
    if call.fields is not None:
        reply.update(call.fields)
    if call.degraded:
        reply["degraded"] = True
        reply["acks"] = call.acks
    if call.receipt is not None:
        reply["receipt"] = call.receipt._asdict()
    if call.explain is not None:
        reply["explain"] = call.explain
    if call.packed and call.kind == "get":
        return with_lists_of_one(reply, "values", call.values)
    return dumps(reply)


def _fill_batch(reply: dict[str, object], call: Call, reply_bytes: int) -> None:
    if call.kind == "get":
        _cut_to_size(call, reply_bytes)
    reply[call.token_name + "s"] = call.tokens
    if call.errors:
        call.errors.sort(key=_index_of)
    reply["errors"] = [[index, error_map(error)] for index, error in call.errors]


def _index_of(entry: tuple[int, ClientError]) -> int:
    return entry[0]


def _cut_to_size(call: Call, reply_bytes: int) -> None:
    values = call.values
    token_bytes = sum([len(token) for token in call.tokens if type(token) is bytes])
    if sum(map(len, chain.from_iterable(values))) + token_bytes + len(values) * 64 < reply_bytes // 2:
        return
    room = reply_bytes - len(values) * _ERROR_BYTES
    for index, found in enumerate(values):
        token = call.tokens[index]
        size = sum(map(len, found)) + _ITEM_OVERHEAD_BYTES * (len(found) + 2)
        size += len(token) if isinstance(token, bytes) else 0
        if size > room:
            values[index] = []
            call.tokens[index] = None
            message = f"the reply is full at {reply_bytes} bytes; ask for this key again by itself"
            call.errors.append((index, TooLarge(message)))
        else:
            room -= size
