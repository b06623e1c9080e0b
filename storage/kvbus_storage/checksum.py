"""CRC32C: the one place that touches google-crc32c, whose functions have no annotations.

Source: RFC 3720, appendix B.4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import google_crc32c

extend = cast("Callable[[int, bytes], int]", google_crc32c.extend)  # pyright: ignore[reportUnknownMemberType]
"""Return the CRC32C of ``a + b`` from that of ``a`` and the bytes ``b`` (no views); that of nothing is 0."""
