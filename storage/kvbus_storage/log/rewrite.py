"""Keep the log bounded: append the live records once more and let the segments before them go.

Source: FORMATS.md, "Log base".
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import chain

from kvbus.core.columns import pack_column
from kvbus.ports.disk import Disk
from kvbus_storage.log.commit_log import CommitLog
from kvbus_storage.log.format import BASE_NAME, Kind, encode_base, segment_name
from kvbus_storage.log.recovery import LogTail
from kvbus_storage.room import is_lack_of_room

logger = logging.getLogger(__name__)

_BATCH_BYTES = 1 << 20


def rewrite_log(
    disk: Disk,
    tail: LogTail,
    live: Iterable[tuple[bytes, bytes]],
    others: Iterable[tuple[Kind, bytes]],
    *,
    segment_bytes: int,
) -> LogTail:
    """Rewrite the log that ends at ``tail`` as the ``live`` records and ``others``; return where it ends now.

    On a full disk the old log stays as it is.

    Raises:
        OSError: the disk failed.
    """
    log = CommitLog(disk, tail, fill_step_bytes=0)
    first = tail.segment + 1
    try:
        for kind, payload in chain(((Kind.RECORD, batch) for batch in _batches(live)), others):
            log.append([kind], [payload])
            if log.segment_bytes >= segment_bytes:
                log.seal()
        log.seal()
    except OSError as error:
        if not is_lack_of_room(error):
            raise
        logger.warning("the disk is too full to rewrite the log of %d bytes; it stays as it is", tail.log_bytes)
        log.release()
        _remove_from(disk, first, log.tail.segment + 1)
        return tail
    try:
        disk.replace(BASE_NAME, encode_base(first))
    except OSError as error:
        if not is_lack_of_room(error):
            raise
        logger.warning(
            "the disk is too full to shorten the log of %d bytes; the next start tries again", log.tail.log_bytes
        )
        return log.tail
    for segment in range(tail.segment - tail.segment_count + 1, first):
        disk.remove(segment_name(segment))
    log.forget(first)
    logger.info("rewrote the log: %d bytes became %d", tail.log_bytes, log.tail.log_bytes)
    return log.tail


def _batches(live: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    keys: list[bytes] = []
    records: list[bytes] = []
    size = 0
    for key, record in live:
        keys.append(key)
        records.append(record)
        size += len(key) + len(record)
        if size >= _BATCH_BYTES:
            yield pack_column(keys) + pack_column(records)
            keys, records, size = [], [], 0
    if keys:
        yield pack_column(keys) + pack_column(records)


def _remove_from(disk: Disk, first: int, last: int) -> None:
    """Remove the newest segments first, so that a crash in between leaves a log without a gap."""
    for segment in range(last, first - 1, -1):
        try:
            disk.remove(segment_name(segment))
        except FileNotFoundError:
            continue
        disk.sync_folder()
