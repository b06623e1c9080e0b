"""The record codec: one encoding for one list of siblings, and no other bytes are taken."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvbus_modes.ap.causality import EMPTY, Context, Dot, join_all
from kvbus_modes.ap.record import Sibling, decode_record, encode_one, encode_record, spans

X, Y = (1, 7), (2, 7)
U64 = 2**64 - 1

dots: st.SearchStrategy[Dot] = st.tuples(
    st.tuples(st.sampled_from([0, 1, 2, 2**32 - 1]), st.sampled_from([0, 1, 255, 256, U64])), st.integers(1, 4)
)


@st.composite
def sibling_lists(draw: st.DrawFn) -> list[Sibling]:
    """Siblings with distinct dots, none of them obsolete, in any order."""
    own = draw(st.lists(dots, unique=True, max_size=5))
    seen = draw(st.lists(dots.filter(lambda dot: dot not in own), max_size=6))
    siblings: list[Sibling] = []
    for dot in own:
        known = join_all((), [other for other in seen if draw(st.booleans())])
        value = draw(st.none() | st.binary(max_size=12))
        expiry_ms = None if value is None else draw(st.none() | st.integers(0, U64))
        siblings.append(Sibling(dot, known, draw(st.integers(0, U64)), expiry_ms, value))
    return siblings


def value_at(dot: Dot, context: Context = EMPTY, value: bytes | None = b"v", expiry_ms: int | None = None) -> Sibling:
    return Sibling(dot, context, 5, expiry_ms, value)


def by_dot(sibling: Sibling) -> Dot:
    return sibling.dot


@settings(deadline=None)
@given(sibling_lists())
def test_records_round_trip(siblings: list[Sibling]) -> None:
    assert decode_record(encode_record(siblings)) == sorted(siblings, key=by_dot)


@settings(deadline=None)
@given(sibling_lists())
def test_the_order_given_does_not_matter(siblings: list[Sibling]) -> None:
    for permuted in itertools.islice(itertools.permutations(siblings), 24):
        assert encode_record(permuted) == encode_record(siblings)


@settings(deadline=None)
@given(sibling_lists(), sibling_lists())
def test_equal_records_are_equal_bytes(a: list[Sibling], b: list[Sibling]) -> None:
    assert (encode_record(a) == encode_record(b)) == (sorted(a, key=by_dot) == sorted(b, key=by_dot))


@settings(deadline=None)
@given(sibling_lists(), st.data())
def test_damaged_records_are_refused_or_canonical(siblings: list[Sibling], data: st.DataObject) -> None:
    good = encode_record(siblings)
    place = data.draw(st.integers(0, len(good) - 1))
    flip = data.draw(st.integers(1, 255))
    for damaged in (good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :], good[:place], good + good[place:]):
        try:
            decoded = decode_record(damaged)
        except ValueError:
            continue
        assert encode_record(decoded) == damaged


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_or_canonical(data: bytes) -> None:
    for candidate in (data, b"\x01\x01\x00" + data):
        try:
            decoded = decode_record(candidate)
        except ValueError:
            continue
        assert encode_record(decoded) == candidate


def test_the_worked_example_of_the_format_page() -> None:
    record = encode_record([value_at(((7, 9), 1), value=b"hi")])
    assert record.hex() == (
        "010100" "07000000" "0900000000000000" "0100000000000000" "0500000000000000" "00" "00000000" "02000000" "6869"
    )  # fmt: skip


def test_a_small_record_costs_40_bytes_besides_its_value() -> None:
    assert len(encode_record([value_at((X, 1), value=bytes(100))])) == 140
    assert len(encode_record([value_at((X, 2), join_all((), [(X, 1)]), bytes(100))])) == 165
    assert len(encode_record([value_at((X, 1), value=bytes(100), expiry_ms=1)])) == 148


def test_an_empty_value_is_not_a_tombstone() -> None:
    empty, tombstone = encode_record([value_at((X, 1), value=b"")]), encode_record([value_at((X, 1), value=None)])
    assert empty != tombstone
    assert decode_record(empty)[0].value == b""
    assert decode_record(tombstone)[0].value is None


def test_a_record_of_no_siblings_is_legal() -> None:
    assert encode_record([]) == b"\x01\x00\x00"
    assert decode_record(b"\x01\x00\x00") == []


def test_spans_point_into_the_record() -> None:
    seen = join_all((), [(Y, 1)])
    record = encode_record([value_at((Y, 2), seen, b"second", 9), value_at((X, 1), seen, b"first")])
    first, second = spans(record)
    assert record[first.value_begin : first.end] == b"first"
    assert record[second.value_begin : second.end] == b"second"
    assert record[second.context_begin : second.value_begin] == seen.to_bytes()
    assert (second.begin, second.end) == (first.end, len(record))


@pytest.mark.parametrize(
    ("siblings", "reason"),
    [
        ([value_at((X, 1)), value_at((X, 1), value=b"w")], "same dot"),
        ([value_at((X, 0))], "below 1"),
        ([value_at((X, 1), join_all((), [(X, 1)]))], "obsolete"),
        ([value_at((X, 1)), value_at((Y, 1), join_all((), [(X, 1)]))], "obsolete"),
        ([value_at((X, 1), value=None, expiry_ms=5)], "tombstone"),
        ([value_at((X, 1), expiry_ms=U64 + 1)], "limit"),
        ([value_at((X, 1))._replace(timestamp=-1)], "limit"),
        ([value_at(((2**32, 1), 1))], "limits"),
        ([value_at((X, U64 + 1))], "limits"),
        ([value_at((X, counter)) for counter in range(1, 0x10001)], "siblings"),
    ],
)
def test_siblings_that_are_no_record_are_not_encoded(siblings: list[Sibling], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        encode_record(siblings)


ONE = encode_record([value_at((X, 1))])
TWO = encode_record([value_at((X, 1)), value_at((Y, 1))])
SIBLING = len(ONE) - 3


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cut short"),
        (b"\x02" + ONE[1:], "version"),
        (TWO[:-1], "cut short"),
        (TWO[: 3 + SIBLING], "cut short"),
        (ONE + b"\x00", "follow"),
        (ONE[:1] + b"\x00\x00" + ONE[3:], "follow"),
        (TWO[:3] + TWO[3 + SIBLING :] + TWO[3 : 3 + SIBLING], "out of order"),
        (TWO[:3] + ONE[3:] + ONE[3:], "out of order"),
        (encode_one(ONE[3:15] + bytes(8), b"", 5, None, b"v"), "counters start at 1"),
        (ONE[:31] + b"\x03" + ONE[32:], "flags 3"),
        (ONE[:31] + b"\x01" + ONE[32:], "flags 1"),
        (encode_one(ONE[3:23], b"\x01\x00\x00\x00\x00", 5, None, b"v"), "context"),
        (encode_one(ONE[3:23], b"\x01\x01\x00\x00\x00" + ONE[3:23], 5, None, b"v"), "obsolete"),
    ],
)
def test_records_that_break_a_rule_are_not_decoded(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_record(data)
