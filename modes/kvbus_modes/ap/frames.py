"""The AP mode's peer frames. Source: PEER_PROTOCOL.md, "AP frames"."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from struct import error as struct_error
from struct import pack, unpack_from

import mmh3

from kvbus.core.columns import ColumnError, pack_column, unpack_column, unpack_full_column
from kvbus.core.keyspace import ENGINE_HEAD_BYTES, partition_of_key
from kvbus.errors import ClientError, PeerProtocolError
from kvbus.wire.cbor import decode_map
from kvbus.wire.peer_frames import HEAD_BYTES

FRAME_KINDS = range(0x10, 0x20)

WRITE = 0x10
WRITE_ACK = 0x11
READ = 0x12
READ_ANSWER = 0x13
SCAN = 0x14
SCAN_ANSWER = 0x15
FORWARD = 0x16
FORWARD_ANSWER = 0x17

EXPLAIN = 1
"""Flag of READ and READ_ANSWER: the way of the first key's read is asked for, or follows the records."""
REPAIR = 2
"""Flag of READ: the sender repairs its own copies; a damaged one that this meets is not repaired because of it."""
EXHAUSTED = 1
"""Flag of SCAN_ANSWER: the answer reaches to the end of the asked range."""
READ_ANSWER_BYTES = 8 << 20
"""How many bytes of records a READ_ANSWER holds, or one record: far below what a frame may have."""
MAX_PREFIX_BYTES = 1024
MAX_SCAN_PARTITIONS = 256
"""How many partitions one SCAN may span: empty ones take time, too."""


WRITE_HEAD_BYTES = HEAD_BYTES + 16
"""A WRITE has a digest in front of its columns."""
NO_DIGEST = bytes(WRITE_HEAD_BYTES - HEAD_BYTES)


def judged_digest(payload: bytes, replaced: Sequence[bytes | None]) -> bytes:
    """Digest a WRITE's columns and the records that its sender had at its keys.

    A replica that has the same records comes to the same merged ones, whatever they hold, and need not look at them.
    """
    # No sound record begins with a zero byte, and each tells its own length: no two lists of them give the same bytes.
    return mmh3.mmh3_x64_128_digest(b"".join([payload, *[record or b"\0" for record in replaced]]))


def write_payload(keys: list[bytes], records: list[bytes]) -> bytes:
    """Encode a WRITE's columns; the same bytes go to the commit log."""
    return pack_column(keys) + pack_column(records)


def read_write(frame: bytes, begin: int = HEAD_BYTES) -> tuple[list[bytes], list[bytes]]:
    """Decode the keys and records at ``begin`` of a WRITE or SCAN_ANSWER; the records are not checked."""
    try:
        keys, offset = unpack_full_column(frame, begin)
        records, end = unpack_full_column(frame, offset)
    except ColumnError as error:
        raise PeerProtocolError(str(error)) from error
    if end != len(frame) or len(keys) != len(records):
        raise PeerProtocolError(f"{len(keys)} keys, {len(records)} records, {len(frame) - end} bytes behind them")
    if keys and min(map(len, keys)) <= ENGINE_HEAD_BYTES:
        raise PeerProtocolError("an engine key without a user key")
    return keys, records


def read_keys(frame: bytes) -> list[bytes]:
    """Decode the keys of a READ."""
    try:
        keys, end = unpack_full_column(frame, HEAD_BYTES)
    except ColumnError as error:
        raise PeerProtocolError(str(error)) from error
    if end != len(frame):
        raise PeerProtocolError("bytes behind the keys of a READ")
    if keys and min(map(len, keys)) <= ENGINE_HEAD_BYTES:
        raise PeerProtocolError("an engine key without a user key")
    return keys


def read_records(frame: bytes, flags: int = 0) -> tuple[list[bytes | None], bytes]:
    """Decode a READ_ANSWER: its records, not checked, an absent one None; and the read path, empty without EXPLAIN."""
    path = b""
    try:
        records, end = unpack_column(frame, HEAD_BYTES)
        if flags & EXPLAIN:
            (path,), end = unpack_full_column(frame, end)
    except (ColumnError, ValueError) as error:
        raise PeerProtocolError(str(error)) from error
    if end != len(frame):
        raise PeerProtocolError("bytes behind the records of a READ_ANSWER")
    return records, path


def read_path(encoded: bytes) -> dict[str, object]:
    """Decode the read path in a READ_ANSWER."""
    try:
        return decode_map(encoded)
    except ClientError as error:
        raise PeerProtocolError(f"a READ_ANSWER's read path: {error}") from error


def that_fit(records: list[bytes | None]) -> list[bytes | None]:
    """Return the first of ``records``, as many as an answer holds and at least one; what is left out did not fit."""
    if len(records) < 2 or sum(map(len, filter(None, records))) <= READ_ANSWER_BYTES:
        return records
    ends = list(accumulate(len(record or b"") for record in records))
    return records[: max(1, bisect_right(ends, READ_ANSWER_BYTES))]


def ack_payload(failed: list[int]) -> bytes:
    """Encode a WRITE_ACK's list of the operations that were not stored."""
    return pack(f"<{len(failed) + 1}I", len(failed), *failed)


def read_ack(frame: bytes) -> tuple[int, ...]:
    """Decode the indices of a WRITE_ACK that were not stored."""
    if len(frame) < HEAD_BYTES + 4:
        raise PeerProtocolError("a WRITE_ACK is cut short")
    (count,) = unpack_from("<I", frame, HEAD_BYTES)
    if len(frame) != HEAD_BYTES + 4 + 4 * count:
        raise PeerProtocolError(f"a WRITE_ACK of {count} failures has {len(frame)} bytes")
    return unpack_from(f"<{count}I", frame, HEAD_BYTES + 4)


def scan_payload(start: bytes, end: bytes, prefix: bytes, limit: int) -> bytes:
    """Encode a SCAN: engine keys from ``start`` up to ``end`` whose user key has ``prefix``, at most ``limit``."""
    return pack("<I", limit) + pack_column([start, end, prefix])


def read_scan(frame: bytes) -> tuple[bytes, bytes, bytes, int]:
    """Decode a SCAN: start, end, prefix, limit."""
    try:
        (limit,) = unpack_from("<I", frame, HEAD_BYTES)
        items, end = unpack_full_column(frame, HEAD_BYTES + 4)
    except (ColumnError, struct_error) as error:
        raise PeerProtocolError(str(error)) from error
    if end != len(frame) or len(items) != 3 or len(items[0]) < ENGINE_HEAD_BYTES or len(items[1]) < ENGINE_HEAD_BYTES:
        raise PeerProtocolError("a SCAN holds a limit, a start, an end and a prefix")
    if len(items[2]) > MAX_PREFIX_BYTES:
        raise PeerProtocolError(f"a SCAN's prefix has at most {MAX_PREFIX_BYTES} bytes, as a key has")
    if partition_of_key(items[1]) - partition_of_key(items[0]) >= MAX_SCAN_PARTITIONS:
        raise PeerProtocolError(f"a SCAN spans at most {MAX_SCAN_PARTITIONS} partitions")
    return items[0], items[1], items[2], limit
