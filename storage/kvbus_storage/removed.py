"""The mark that stands in place of a record where a key was removed."""

from __future__ import annotations

from typing import Final

REMOVED: Final = bytes(bytearray(b"\0kvbus removed\0"))
"""Told apart by identity alone, so a record of the same bytes is a record; made at run time, so no literal is it."""
