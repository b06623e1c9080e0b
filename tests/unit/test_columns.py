"""Columns: every list of byte strings has one encoding, and no other bytes are taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvbus.core.columns import ColumnError, pack_column, unpack_column, unpack_full_column

columns = st.lists(st.none() | st.binary(max_size=20), max_size=8)


@given(columns, st.binary(max_size=9), st.binary(max_size=9))
def test_columns_round_trip_wherever_they_lie(items: list[bytes | None], before: bytes, behind: bytes) -> None:
    packed = pack_column(items)
    assert unpack_column(before + packed + behind, len(before)) == (items, len(before) + len(packed))


@given(columns, st.data())
def test_a_cut_column_is_refused(items: list[bytes | None], data: st.DataObject) -> None:
    packed = pack_column(items)
    with pytest.raises(ColumnError):
        unpack_column(packed[: data.draw(st.integers(0, len(packed) - 1))])


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_refused_or_a_column(data: bytes) -> None:
    try:
        items, end = unpack_column(data)
    except ColumnError:
        return
    assert pack_column(items) == data[:end]


@given(columns)
def test_a_full_column_has_no_absent_item(items: list[bytes | None]) -> None:
    packed = pack_column(items)
    if None in items:
        with pytest.raises(ColumnError, match="absent"):
            unpack_full_column(packed)
    else:
        assert unpack_full_column(packed) == (items, len(packed))


def test_the_layout_is_count_lengths_bytes() -> None:
    assert pack_column([b"ab", None, b""]).hex() == "0300000002000000ffffffff000000006162"
