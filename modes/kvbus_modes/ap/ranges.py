"""Ranges of sorted keys: what one replica answers to a SCAN, and how much of it at once."""

from __future__ import annotations

from itertools import pairwise
from struct import pack
from typing import NamedTuple

from kvbus.core.keyspace import BEHIND_ALL, ENGINE_HEAD_BYTES, partition_of_key
from kvbus_modes.ap.acceptance import all_sound
from kvbus_modes.ap.record import ONE, ONE_BYTES, ONE_SIBLING, spans
from kvbus_modes.ap.replica import Replica

ANSWER_WORK = 1024
"""How much one answer may give its coordinator to do, in plain records; more than this many it never holds."""
_ANSWER_BYTES = 1 << 20
_CONTEXT_BYTES_A_RECORD = 16
_SIBLING_WORK = 4


class Range(NamedTuple):
    """One replica's answer: sorted engine keys, their records, and whether it reaches to the end of what was asked.

    ``work`` is what this node's own records take to read; 0 in a peer's answer.
    """

    keys: list[bytes]
    records: list[bytes]
    exhausted: bool
    work: int = 0

    def answers(self, start: bytes, end: bytes, prefix: bytes) -> bool:
        """Say whether a peer may answer this to what it was asked: ascending keys inside, with sound records."""
        keys = self.keys
        if not keys:
            return self.exhausted
        if len(keys) > ANSWER_WORK or not start <= keys[0] <= keys[-1] < end:
            return False
        if not all(key.startswith(prefix, ENGINE_HEAD_BYTES) for key in keys):
            return False
        return all(a < b for a, b in pairwise(keys)) and all_sound(self.records)


CANNOT_SAY = Range([], [], False)
"""The answer of a replica whose copy is damaged."""


def collect(replica: Replica, start: bytes, end: bytes, prefix: bytes, limit: int) -> Range:
    """Read the local copy between two engine keys of one space: up to ``limit`` records, and what one answer holds."""
    keys: list[bytes] = []
    records: list[bytes] = []
    size = work = 0
    space, first, last = start[:4], partition_of_key(start), partition_of_key(end)
    for partition in range(first, last + 1):
        low = space + pack(">H", partition) + prefix
        for key, record in replica.scan(max(start, low), min(end, low + BEHIND_ALL)):
            keys.append(key)
            records.append(record)
            size += len(key) + len(record)
            work += work_of(record)
            if len(keys) >= limit or work >= ANSWER_WORK or size >= _ANSWER_BYTES:
                return Range(keys, records, False, work)
    return Range(keys, records, True, work)


def work_of(record: bytes) -> int:
    """Estimate what checking, merging and reading ``record`` takes: contexts and siblings are parsed, values are not.

    A record of one sibling with the usual context counts 1 or 2: about 2 µs.
    """
    if record.startswith(ONE_SIBLING) and len(record) >= ONE_BYTES:
        context_bytes: int = ONE.unpack_from(record)[7]
        return 1 + context_bytes // _CONTEXT_BYTES_A_RECORD
    contexts = [span.value_begin - span.context_begin for span in spans(record)]
    return 1 + _SIBLING_WORK * len(contexts) + sum(contexts) // _CONTEXT_BYTES_A_RECORD
