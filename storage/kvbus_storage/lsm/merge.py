"""Merging sorted runs a chunk at a time: memory for the chunks, not for the runs. No input or output."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

Chunk = tuple[list[bytes], list[bytes]]
"""Ascending keys, and what stands at them."""


class _Source:
    """A run of which the chunk at hand has entries from ``at`` on."""

    __slots__ = ("at", "chunks", "keys", "records")

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self.chunks = chunks
        self.keys: list[bytes] = []
        self.records: list[bytes] = []
        self.at = 0

    def has_entries(self) -> bool:
        """Fetch the next chunk where this one is used up; say whether there is anything left."""
        while self.at >= len(self.keys):
            chunk = next(self.chunks, None)
            if chunk is None:
                return False
            self.keys, self.records = chunk
            self.at = 0
        return True

    def take(self, bound: bytes) -> Chunk:
        """Give up the entries with keys up to ``bound``."""
        begin = self.at
        self.at = end = bisect_right(self.keys, bound, begin)
        return self.keys[begin:end], self.records[begin:end]


def merge(runs: Sequence[Iterable[Chunk]]) -> Iterator[Chunk]:
    """Merge ``runs``, the newest first: of equal keys the newest run's stays. What comes out is never empty."""
    sources = [_Source(iter(run)) for run in runs]
    while sources := [source for source in sources if source.has_entries()]:
        bound = min(source.keys[-1] for source in sources)
        parts = [source.take(bound) for source in sources if source.keys[source.at] <= bound]
        if len(parts) == 1:
            yield parts[0]
            continue
        found: dict[bytes, bytes] = {}
        for keys, records in reversed(parts):
            found.update(zip(keys, records, strict=True))
        merged = sorted(found)
        yield merged, list(map(found.__getitem__, merged))
