"""Which versions a client was told of, put by put: none may be given twice at one key."""

from __future__ import annotations

from kvbus.plugins import token_dots

Dot = tuple[int, int, int]


class ToldVersions:
    """Each key's dots (server, epoch, counter) and the value that each stands for, by the contexts of its puts."""

    def __init__(self) -> None:
        self._values: dict[tuple[bytes, Dot], bytes] = {}

    def __len__(self) -> int:
        return len(self._values)

    def note(self, key: bytes, value: bytes, before: bytes | None, after: bytes | None) -> None:
        """Take a put's own contexts: ``after``, the reply's, covers one dot more than ``before``, the request's."""
        fresh = _dots(after) - _dots(before)
        assert len(fresh) == 1, f"the reply's context covers {sorted(fresh)} beyond the request's"
        (dot,) = fresh
        earlier = self._values.setdefault((key, dot), value)
        assert earlier == value, f"{dot} at {key!r} stands for {earlier!r} and for {value!r}"


def _dots(ctx: bytes | None) -> set[Dot]:
    runs = token_dots("ap", ctx) if ctx else []
    return {(server, epoch, counter) for server, epoch, first, last in runs for counter in range(first, last + 1)}
