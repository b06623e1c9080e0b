"""What every order to nodes does: tell all that it concerns at once, and account for those that took it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, cast

from kvbus.cli.connection import connected, is_refused, listens
from kvbus.cli.options import DEFAULT_KEYSPACE
from kvbus.errors import ClientError

_DEADLINE_MS = 2000
_AT_ONCE = 16
_SILENT = ("timeout", "unreachable")


class Answer(NamedTuple):
    """What one node said: its reply, or why it did not take the order.

    ``is_gone``: nobody listens at its address, so there is no process that could have rules.
    """

    node: str
    reply: Mapping[str, object] = MappingProxyType({})
    error: ClientError | None = None
    is_gone: bool = False

    @property
    def rules(self) -> Sequence[Mapping[str, object]]:
        """The fault rules in force there; none where it did not take the order."""
        return cast("Sequence[Mapping[str, object]]", self.reply.get("rules", ()))

    @property
    def is_silent(self) -> bool:
        """Whether the node did not answer at all, rather than refuse."""
        return self.error is not None and self.error.code in _SILENT


def members(folder: Path | None, connect: str | None) -> dict[str, str]:
    """Return the client addresses of all nodes, running or not, by name, as the first one that answers knows them.

    Raises:
        Unreachable: none does.
    """
    with connected(folder, connect, DEFAULT_KEYSPACE) as link:
        return {node.name: node.client for node in link.nodes}


def tell(nodes: Mapping[str, str], operation: str, fields: Mapping[str, object]) -> list[Answer]:
    """Send ``admin.OPERATION`` to ``nodes`` (addresses by name) at the same time; return their answers in order."""
    from concurrent.futures import ThreadPoolExecutor

    if not nodes:
        return []
    with ThreadPoolExecutor(min(_AT_ONCE, len(nodes))) as pool:
        return list(pool.map(partial(_ask, operation, fields), nodes, nodes.values()))


def _ask(operation: str, fields: Mapping[str, object], name: str, address: str) -> Answer:
    from kvbus.client import Client, Unreachable

    if not listens(address):
        is_gone = is_refused(address)
        why = "is not running" if is_gone else f"cannot be reached at {address}"
        return Answer(name, error=Unreachable(f"{name} {why}"), is_gone=is_gone)
    try:
        with Client(address, routing="direct", deadline_ms=_DEADLINE_MS) as client:
            reply = client.admin(operation, fields)
    except ClientError as error:
        if error.code in _SILENT:
            message = f"{name} does not answer within {_DEADLINE_MS // 1000} s (is it paused?)"
            error = type(error)(message, definite=error.definite)
        return Answer(name, error=error)
    return Answer(name, reply)


def accept(answers: Sequence[Answer]) -> list[str]:
    """Return the names of the nodes that took an order.

    Raises:
        ClientError: none did; the error of the first one that said why, if any did.
    """
    took = [answer.node for answer in answers if answer.error is None]
    errors = [answer.error for answer in answers if answer.error is not None]
    if errors and not took:
        raise next((error for error in errors if error.code not in _SILENT), errors[0])
    return took


def failures(answers: Sequence[Answer]) -> list[dict[str, str]]:
    """Return the nodes that did not take an order and why, for JSON."""
    return [
        {"node": answer.node, "code": answer.error.code, "message": answer.error.message}
        for answer in answers
        if answer.error is not None
    ]


def described(rules: Sequence[Mapping[str, object]]) -> list[str]:
    """Return one line for each fault as it was ordered, such as ``partition: n1 | n2,n3``."""
    lines = [f"{fault_text(rule)}: {rule['sides']}" for rule in rules]
    return list(dict.fromkeys(lines))


def fault_text(rule: Mapping[str, object]) -> str:
    """Return what a rule does, such as ``drop 30 %`` or ``delay 100 ms + 0 to 20``."""
    kind, chance = str(rule["kind"]), cast("float", rule["chance"])
    if kind == "delay":
        jitter = f" + 0 to {rule['jitter_ms']}" if rule["jitter_ms"] else ""
        return f"{kind} {rule['ms']} ms{jitter}"
    return kind if chance >= 1 else f"{kind} {chance * 100:g} %"
