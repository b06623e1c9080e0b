"""Engine keys as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvbus.core.key_text import engine_key_text, escaped
from kvbus.core.keyspace import Keyspace


@pytest.mark.parametrize(
    ("rest", "text"),
    [
        (b"user:1", "user:1"),
        ("né".encode(), "né"),
        (b"a\xffb", "a\\xffb"),
        (b"tab\there", "tab\\there"),
        (b"back\\slash", "back\\\\slash"),
        ("\u202e".encode(), "\\u202e"),
        (b"\x1b[31m", "\\x1b[31m"),
        (b"", ""),
    ],
)
def test_space_partition_and_key_stand_beside_each_other(rest: bytes, text: str) -> None:
    keyspace = Keyspace(name="default")
    assert engine_key_text(keyspace.engine_head(12) + rest) == f"{keyspace.space:08x}/12/{text}"


def test_what_ends_inside_the_head_is_hexadecimal() -> None:
    assert engine_key_text(b"\x00\x01") == "0x0001"
    assert engine_key_text(b"") == "0x"


def test_a_long_key_is_cut_where_that_is_asked_for() -> None:
    key = bytes(6) + b"k" * 100
    assert engine_key_text(key, 20) == "00000000/0/kkkkkkkk…"
    assert len(engine_key_text(key)) == len("00000000/0/") + 100


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_texts_are_equal_only_for_equal_bytes(one: bytes, other: bytes) -> None:
    assert (escaped(one) == escaped(other)) == (one == other)
    assert escaped(one).isprintable()
