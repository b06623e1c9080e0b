"""Which blocks stay in memory: a cache with a byte budget that a scan cannot wash out.

Blocks enter by a small queue and leave it unless they were asked for again; those that were go to the main queue, which
gives each block that was used another round. A block that comes back soon after it left the small queue goes to the
main one at once.

Source: Yang et al., "FIFO queues are all you need for cache eviction" (SOSP 2023), S3-FIFO.
"""

from __future__ import annotations

from collections import deque

_SMALL_SHARE = 10
_MOST_USES = 3
_MOST_SPARED = 64
"""How many used blocks are given another round for one that goes."""
_ENTRY_BYTES = 240
"""What an entry takes besides its block: the bytes' head, the entry, its places in the dict and in a queue."""


class Entry:
    """A cached block; ``uses`` counts how often it was found here since it came, or last had another round."""

    __slots__ = ("block", "uses")

    def __init__(self, block: bytes) -> None:
        self.block = block
        self.uses = 0


class BlockCache:
    """Blocks by their place, an integer that names the table and the block in it."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        # A reader that finds an entry here counts its use.
        self.entries: dict[int, Entry] = {}
        self._small: deque[int] = deque()
        self._main: deque[int] = deque()
        self._small_bytes = self._main_bytes = 0
        # Places whose blocks left the small queue unused, oldest first.
        self._ghosts: dict[int, None] = {}
        self.misses = 0

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def used_bytes(self) -> int:
        """Memory that the cached blocks take."""
        return self._small_bytes + self._main_bytes

    def resize(self, budget_bytes: int) -> None:
        """Keep at most ``budget_bytes`` from now on."""
        self._budget_bytes = budget_bytes
        self._make_room()

    def put(self, place: int, block: bytes) -> None:
        """Keep ``block``, which was missed, as long as the budget allows."""
        self.misses += 1
        self.entries[place] = Entry(block)
        size = len(block) + _ENTRY_BYTES
        if place in self._ghosts:
            del self._ghosts[place]
            self._main.append(place)
            self._main_bytes += size
        else:
            self._small.append(place)
            self._small_bytes += size
        self._make_room()

    def _make_room(self) -> None:
        spared = 0
        while self._small_bytes + self._main_bytes > self._budget_bytes and self.entries:
            # All that come first may be in use: then one goes all the same, and not all of the queue passes by.
            may_spare = spared < _MOST_SPARED
            if self._small and (self._small_bytes * _SMALL_SHARE > self._budget_bytes or not self._main):
                goes = self._leave_small(may_spare)
            else:
                goes = self._leave_main(may_spare)
            spared = 0 if goes else spared + 1

    def _leave_small(self, may_spare: bool) -> bool:
        """Take the first block out of the small queue; say whether it went, or else was used and is in the main one."""
        place = self._small.popleft()
        entry = self.entries[place]
        size = len(entry.block) + _ENTRY_BYTES
        self._small_bytes -= size
        if entry.uses and may_spare:
            entry.uses = 0
            self._main.append(place)
            self._main_bytes += size
            return False
        del self.entries[place]
        self._ghosts[place] = None
        if len(self._ghosts) > len(self.entries):
            del self._ghosts[next(iter(self._ghosts))]
        return True

    def _leave_main(self, may_spare: bool) -> bool:
        """Take the first block out of the main queue; say whether it went, or else was used and gets another round."""
        place = self._main.popleft()
        entry = self.entries[place]
        if entry.uses and may_spare:
            entry.uses = min(entry.uses, _MOST_USES) - 1
            self._main.append(place)
            return False
        self._main_bytes -= len(entry.block) + _ENTRY_BYTES
        del self.entries[place]
        return True
