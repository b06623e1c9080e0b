"""What reading a stored format may meet."""

from __future__ import annotations


class FormatError(ValueError):
    """The bytes are not what FORMATS.md says."""


class VersionError(ValueError):
    """The bytes are whole and were written by a newer kvbus."""
