"""A scan: page after page until the cursor is null. Source: PROTOCOL.md, "Operations"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from kvbus.client.options import READ_OPTIONS, Options, Terms, bytes_only, terms
from kvbus.client.replies import Fields, ScanEntry
from kvbus.client.requests import Make, Request
from kvbus.errors import Internal


class Scan:
    """The keys with ``prefix``, partition by partition, each in key order.

    ``finished`` tells that there is no further page. The deadline holds for each page by itself.
    """

    def __init__(
        self, own: Terms, prefix: object, with_values: bool, page_keys: int | None, asked: Mapping[str, object]
    ) -> None:
        self._terms = terms(own, asked, READ_OPTIONS, "scan") if asked else own
        fixed: dict[str, object] = {"prefix": bytes_only(prefix, "prefix")}
        if with_values:
            fixed["with_values"] = True
        if page_keys is not None:
            fixed["limit"] = page_keys
        self._fixed: Options = tuple(fixed.items())
        self._cursor: bytes | None = None
        self.finished = False

    def next_page(self, make: Make[Request]) -> Request:
        """Return the request for the next page."""
        cursor: Options = () if self._cursor is None else (("cursor", self._cursor),)
        return make("scan", self._terms.beside((*self._fixed, *cursor)), None, None, None)

    def take(self, reply: Fields) -> list[ScanEntry]:
        """Return a page's entries and remember where to go on.

        Raises:
            Internal: the page is none.
        """
        keys, values, cursor = reply.get("keys"), reply.get("values"), reply.get("cursor")
        if type(keys) is not list or not (cursor is None or type(cursor) is bytes):
            raise Internal("a node sent a scan page that breaks the protocol", definite=True)
        self._cursor = cursor
        self.finished = cursor is None
        degraded = reply.get("degraded") is True
        found = cast("list[bytes]", keys)
        if type(values) is not list:
            return [ScanEntry(key, [], degraded) for key in found]
        columns = cast("list[list[bytes]]", values)
        return [ScanEntry(key, held, degraded) for key, held in zip(found, columns, strict=False)]
