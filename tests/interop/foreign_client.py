"""A client in another language: a process that reads requests as lines and prints the replies it got.

A line is an operation and its fields: ``put key=6b value=00ff ctx=null w=2``. Bytes are hexadecimal, lists have commas;
``64:`` before bytes puts CBOR's tag 64 around them. ``null``, ``undefined``, ``true`` and ``false`` are CBOR's, and a
number with a point is a float. The client sends what it reads at once. At an empty line it waits for the replies that
it has not got yet, and prints all since the last empty line in the order in which they came, each as one line of JSON:
``[number of the request, reply]``, with ``{"hex": …}`` where the reply has bytes.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from typing import cast

Reply = dict[str, object]
Field = bytes | str | int | float | None | Sequence[bytes | str | None]


def tagged(data: bytes) -> str:
    """Return the text of bytes inside tag 64, as a typed array of JavaScript becomes."""
    return f"64:{data.hex()}"


def request_line(op: str, **fields: Field) -> str:
    """Return a request as a line. A ``str`` stands there as it is: a text, a constant, or tagged bytes."""
    return " ".join([op, *(f"{name}={_text(value)}" for name, value in fields.items())])


def _text(value: Field) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    return ",".join(map(_text, value))


def _bytes_again(found: dict[str, object]) -> object:
    return bytes.fromhex(cast("str", found["hex"])) if found.keys() == {"hex"} else found


class ForeignClient:
    """One client process and its one connection. ``arrivals`` are the last requests' numbers as their replies came."""

    def __init__(self, command: Sequence[str], address: str, socket: str = "dealer") -> None:
        self._process = subprocess.Popen(
            [*command, address, socket],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self.arrivals: list[int] = []

    def ask(self, op: str, **fields: Field) -> Reply:
        """Send one request and return its reply."""
        return self.ask_all([request_line(op, **fields)])[0]

    def ask_all(self, lines: Sequence[str]) -> list[Reply]:
        """Send requests without waiting in between; return their replies in the order of ``lines``."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write("".join(f"{line}\n" for line in [*lines, ""]))
        stdin.flush()
        answers = [self._parsed(stdout.readline()) for _ in lines]
        self.arrivals = [number for number, _ in answers]
        replies = dict(answers)
        assert len(replies) == len(lines)
        return [replies[number] for number in range(len(lines))]

    def _parsed(self, line: str) -> tuple[int, Reply]:
        if not line:
            assert self._process.stderr is not None
            raise AssertionError(f"the client has ended: {self._process.stderr.read()}")
        number, reply = json.loads(line, object_hook=_bytes_again)
        return number, reply

    def put(self, key: bytes, value: bytes, ctx: bytes | None = None) -> bytes:
        """Write a value; return the context of the write."""
        return bytes_of(self.ask("put", key=key, value=value, ctx=ctx), "ctx")

    def get(self, key: bytes) -> tuple[list[bytes], bytes]:
        """Return the sorted siblings and their context."""
        reply = self.ask("get", key=key)
        return values_of(reply), bytes_of(reply, "ctx")

    def close(self) -> None:
        """End the process; it must have met no fault."""
        with self._process, ExitStack() as unless_it_ends:
            unless_it_ends.callback(self._process.kill)
            _, complaint = self._process.communicate("", timeout=10)
        assert (self._process.returncode, complaint) == (0, "")


def bytes_of(reply: Reply, name: str) -> bytes:
    """Return a field that must hold bytes."""
    found = reply.get(name)
    assert isinstance(found, bytes), reply
    return found


def values_of(reply: Reply) -> list[bytes]:
    """Return the sorted siblings in the reply of a ``get``."""
    found = reply.get("values")
    assert isinstance(found, list), reply
    return sorted(cast("list[bytes]", found))


def error_of(reply: Reply) -> dict[str, object]:
    """Return a refusal's error without its message, which every refusal must have."""
    assert reply["ok"] is False, reply
    error = dict(cast("dict[str, object]", reply["error"]))
    assert isinstance(error.pop("message"), str)
    return error
