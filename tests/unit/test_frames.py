"""Peer frames: heads and AP bodies round trip, and nothing else is taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvbus.core.columns import pack_column
from kvbus.core.keyspace import ENGINE_HEAD_BYTES
from kvbus.core.types import Epoch
from kvbus.errors import PeerProtocolError
from kvbus.wire.peer_frames import HEAD_BYTES, Head, pack_head, unpack_head
from kvbus_modes.ap.acceptance import accept, all_sound
from kvbus_modes.ap.causality import VECTOR_OF_ONE
from kvbus_modes.ap.frames import (
    EXPLAIN,
    FRAME_KINDS,
    MAX_PREFIX_BYTES,
    MAX_SCAN_PARTITIONS,
    NO_DIGEST,
    READ_ANSWER,
    READ_ANSWER_BYTES,
    WRITE,
    WRITE_HEAD_BYTES,
    ack_payload,
    judged_digest,
    read_ack,
    read_keys,
    read_records,
    read_scan,
    read_write,
    scan_payload,
    that_fit,
    write_payload,
)
from kvbus_modes.ap.overwrites import all_usual
from kvbus_modes.ap.record import decode_record, encode_one
from kvbus_modes.ap.siblings import merge

HEAD = pack_head(WRITE, space=7, batch=9, epoch=Epoch(3))
DECODERS: list[Callable[[bytes], object]] = [read_ack, read_keys, read_records, read_scan, read_write]
engine_keys = st.lists(st.binary(min_size=ENGINE_HEAD_BYTES + 1, max_size=20), max_size=6)


def entry(server: int, epoch: int, counter: int) -> bytes:
    return server.to_bytes(4, "little") + epoch.to_bytes(8, "little") + counter.to_bytes(8, "little")


def records(count: int) -> list[bytes]:
    return [encode_one(entry(1, 5, number + 1), b"", 5, None, b"v%d" % number) for number in range(count)]


@given(
    st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(0, 9)
)
def test_heads_round_trip(kind: int, flags: int, space: int, batch: int, epoch: int) -> None:
    frame = pack_head(kind, space=space, batch=batch, epoch=Epoch(epoch), flags=flags)
    assert unpack_head(frame + b"body") == Head(kind, flags, space, batch, epoch)
    assert (len(frame), frame[0]) == (HEAD_BYTES, kind)


def test_a_short_head_and_reserved_bytes_are_refused() -> None:
    for frame in (b"", HEAD[:-1], HEAD[:2] + b"\1" + HEAD[3:]):
        with pytest.raises(PeerProtocolError):
            unpack_head(frame)


@given(engine_keys)
def test_writes_round_trip(names: list[bytes]) -> None:
    found = records(len(names))
    assert read_write(HEAD + write_payload(names, found)) == (names, found)


@given(st.lists(st.none() | st.integers(0, 3), max_size=5), st.lists(st.none() | st.integers(0, 3), max_size=5))
def test_a_digest_tells_lists_of_records_apart(some: list[int | None], others: list[int | None]) -> None:
    had = [[None if which is None else records(4)[which] for which in chosen] for chosen in (some, others)]
    payloads = [write_payload([b"space.k"] * len(had[0]), records(len(had[0]))), b""]
    assert (judged_digest(payloads[0], had[0]) == judged_digest(payloads[0], had[1])) == (some == others)
    assert judged_digest(payloads[0], had[0]) != judged_digest(payloads[1], had[0])
    assert len(judged_digest(payloads[0], had[0])) == len(NO_DIGEST) == WRITE_HEAD_BYTES - HEAD_BYTES


@given(engine_keys)
def test_reads_round_trip(names: list[bytes]) -> None:
    assert read_keys(HEAD + pack_column(names)) == names


@given(st.lists(st.booleans(), max_size=6))
def test_answers_round_trip(present: list[bool]) -> None:
    found = [record if here else None for record, here in zip(records(len(present)), present, strict=True)]
    assert read_records(HEAD + pack_column(found)) == (found, b"")
    assert read_records(HEAD + pack_column(found) + pack_column([b"path"]), EXPLAIN) == (found, b"path")


@given(st.lists(st.integers(0, 2**32 - 1), max_size=6))
def test_acks_round_trip(failed: list[int]) -> None:
    assert read_ack(HEAD + ack_payload(failed)) == tuple(failed)


@given(
    st.binary(min_size=6, max_size=9), st.binary(min_size=1, max_size=4), st.binary(max_size=9), st.integers(1, 2**31)
)
def test_scans_round_trip(start: bytes, tail: bytes, prefix: bytes, limit: int) -> None:
    end = start[:5] + tail
    assert read_scan(HEAD + scan_payload(start, end, prefix, limit)) == (start, end, prefix, limit)


def test_questions_longer_than_keys_are_refused() -> None:
    start, end = bytes(6), bytes(6) + b"\xff"
    assert read_scan(HEAD + scan_payload(start, end, bytes(MAX_PREFIX_BYTES), 1))
    with pytest.raises(PeerProtocolError, match="prefix"):
        read_scan(HEAD + scan_payload(start, end, bytes(MAX_PREFIX_BYTES + 1), 1))
    with pytest.raises(PeerProtocolError, match="user key"):
        read_keys(HEAD + pack_column([bytes(ENGINE_HEAD_BYTES)]))


@pytest.mark.parametrize("decode", DECODERS)
@given(st.binary(max_size=80))
def test_arbitrary_bodies_are_refused_or_taken_whole(decode: Callable[[bytes], object], body: bytes) -> None:
    try:
        decode(HEAD + body)
    except PeerProtocolError:
        return
    with pytest.raises(PeerProtocolError):
        decode(HEAD + body + b"\0")


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(PeerProtocolError, match="2 keys, 1 records"):
        read_write(HEAD + pack_column([b"a", b"b"]) + pack_column(records(1)))


PLAIN = encode_one(entry(1, 5, 3), VECTOR_OF_ONE + entry(1, 5, 2), 5, None, b"v")
SHAPES = [
    PLAIN,
    encode_one(entry(1, 5, 1), b"", 5, None, b""),
    encode_one(entry(1, 5, 3), VECTOR_OF_ONE + entry(2, 5, 9), 5, None, None),
    encode_one(entry(1, 5, 3), VECTOR_OF_ONE + entry(1, 5, 2), 5, 77, b"v"),
    merge(*records(2)),
]


@given(
    st.sampled_from(SHAPES),
    st.none() | st.sampled_from(SHAPES),
    st.lists(st.tuples(st.integers(0, 999), st.integers(0, 255)), max_size=3),
)
@example(PLAIN, None, [(58, 3)])
@example(PLAIN, SHAPES[0], [(58, 3)])
def test_a_record_is_accepted_exactly_where_it_is_canonical(
    record: bytes, present: bytes | None, damage: list[tuple[int, int]]
) -> None:
    damaged = bytearray(record)
    for place, value in damage:
        damaged[place % len(damaged)] = value
    candidate = bytes(damaged)
    try:
        decode_record(candidate)
    except ValueError:
        assert not all_sound([None, candidate])
        assert not all_usual([PLAIN, candidate, PLAIN])
        with pytest.raises(ValueError, match=r"record|sibling|context|dot|bytes"):
            accept(candidate, present)
    else:
        assert all_sound([candidate, None])
        assert accept(candidate, present) == (candidate if present is None else merge(candidate, present))


@given(st.lists(st.none() | st.integers(0, READ_ANSWER_BYTES + 5), min_size=1, max_size=6))
@example([READ_ANSWER_BYTES, 0, None, 1])
@example([READ_ANSWER_BYTES + 1, 0])
@example([None, READ_ANSWER_BYTES + 1])
def test_an_answer_holds_the_first_records_up_to_its_bytes_and_at_least_one(sizes: list[int | None]) -> None:
    records = [None if size is None else bytes(size) for size in sizes]
    fit = that_fit(records)
    assert fit == records[: len(fit)]
    lengths = [size or 0 for size in sizes]
    assert len(fit) == 1 or sum(lengths[: len(fit)]) <= READ_ANSWER_BYTES
    assert len(fit) == len(records) or sum(lengths[: len(fit) + 1]) > READ_ANSWER_BYTES


def test_a_scan_of_too_many_partitions_is_refused() -> None:
    for last, refused in ((5 + MAX_SCAN_PARTITIONS - 1, False), (5 + MAX_SCAN_PARTITIONS, True)):
        start, end = bytes(4) + (5).to_bytes(2, "big"), bytes(4) + last.to_bytes(2, "big") + b"\xff"
        frame = HEAD + scan_payload(start, end, b"", 1)
        if refused:
            with pytest.raises(PeerProtocolError, match="partitions"):
                read_scan(frame)
        else:
            assert read_scan(frame) == (start, end, b"", 1)


def test_every_kind_lies_in_the_modes_range() -> None:
    assert WRITE in FRAME_KINDS
    assert READ_ANSWER in FRAME_KINDS
