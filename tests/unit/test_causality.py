"""Contexts are exact sets of dots: held against plain Python sets, and strict about their bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvbus_modes.ap.causality import EMPTY, ENTRY, VECTOR_OF_ONE, Actor, Context, Dot, covers, join_all

ACTORS: list[Actor] = [(1, 1), (1, 2), (2, 1), (0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF)]
actors = st.sampled_from(ACTORS)
dots: st.SearchStrategy[Dot] = st.tuples(actors, st.integers(1, 9))
dot_sets: st.SearchStrategy[frozenset[Dot]] = st.frozensets(dots, max_size=20)
X, Y, Z = (1, 7), (2, 7), (3, 7)


def context_of(*given_dots: Dot) -> Context:
    return join_all((), given_dots)


def entry(actor: Actor, counter: int) -> bytes:
    return ENTRY.pack(*actor, counter)


def encoded(vector: list[tuple[Actor, int]], singles: list[tuple[Actor, int]]) -> bytes:
    return b"\x01" + len(vector).to_bytes(4, "little") + b"".join(entry(*item) for item in vector + singles)


@settings(deadline=None)
@given(dot_sets, dot_sets)
def test_join_is_the_union_of_the_sets(a: frozenset[Dot], b: frozenset[Dot]) -> None:
    assert context_of(*a).join(context_of(*b)) == context_of(*(a | b))


@settings(deadline=None)
@given(dot_sets)
def test_a_context_contains_its_dots_and_no_others(members: frozenset[Dot]) -> None:
    context = context_of(*members)
    for actor in ACTORS:
        for counter in range(1, 12):
            assert context.contains((actor, counter)) == ((actor, counter) in members)


@settings(deadline=None)
@given(dot_sets)
def test_encoded_containment_equals_decoded_containment(members: frozenset[Dot]) -> None:
    data = context_of(*members).to_bytes()
    framed = b"before" + data + entry((1, 1), 5)
    for actor in ACTORS:
        for counter in range(1, 12):
            found = covers(framed, 6, 6 + len(data), entry(actor, 0)[:12], counter)
            assert found == ((actor, counter) in members)


def test_encoded_containment_is_not_deceived_by_misaligned_bytes() -> None:
    # Three zero bytes of the counter, then the next entry, read like an entry of actor (0, …).
    data = encoded([((0x0100_0000, 0), 1), ((0x0100_0000, 1), 1)], [])
    for shift in range(1, len(data) - 20):
        actor = data[5 + shift : 17 + shift]
        server, epoch, _ = ENTRY.unpack(actor + bytes(8))
        for counter in (1, 2, 256):
            expected = Context.from_bytes(data).contains(((server, epoch), counter))
            assert covers(data, 0, len(data), actor, counter) == expected


@settings(deadline=None)
@given(dot_sets, dots)
def test_with_dot_adds_exactly_that_dot(members: frozenset[Dot], dot: Dot) -> None:
    before = context_of(*members)
    assert before.with_dot(dot) == context_of(*members, dot)
    assert before == context_of(*members)


@settings(deadline=None)
@given(dot_sets)
def test_bytes_round_trip(members: frozenset[Dot]) -> None:
    context = context_of(*members)
    assert Context.from_bytes(context.to_bytes()) == context


@settings(deadline=None)
@given(dot_sets, dot_sets)
def test_equal_contexts_are_equal_bytes(a: frozenset[Dot], b: frozenset[Dot]) -> None:
    assert (context_of(*a).to_bytes() == context_of(*b).to_bytes()) == (a == b)
    assert (context_of(*a) == context_of(*b)) == (a == b)


@settings(deadline=None)
@given(st.lists(dots, max_size=20))
def test_order_and_repetition_of_dots_do_not_matter(members: list[Dot]) -> None:
    one_by_one = EMPTY
    for dot in reversed(members):
        one_by_one = one_by_one.with_dot(dot)
    assert one_by_one.to_bytes() == context_of(*members).to_bytes()
    assert hash(one_by_one) == hash(context_of(*members))


def test_a_single_dot_folds_only_when_contiguous() -> None:
    assert context_of((X, 1)).to_bytes() == VECTOR_OF_ONE + entry(X, 1)
    assert context_of((X, 2)).to_bytes() == encoded([], [(X, 2)])
    assert context_of((X, 1), (X, 3)).to_bytes() == encoded([(X, 1)], [(X, 3)])
    assert context_of((X, 3), (X, 1), (X, 2)).to_bytes() == encoded([(X, 3)], [])


def test_the_empty_context_is_the_empty_string() -> None:
    assert EMPTY.to_bytes() == b""
    assert Context.from_bytes(b"") is EMPTY


def test_the_clock_sums_epochs_and_counts_a_single_dot_once() -> None:
    context = context_of((Y, 5), ((1, 8), 1), ((1, 8), 2), (X, 1), (X, 2), (X, 4))
    assert context.clock() == {1: 5, 2: 1}
    assert list(context.clock()) == [1, 2]


def test_dots_lists_runs_with_their_epochs() -> None:
    context = context_of(((1, 8), 9), (X, 1), (X, 2), (X, 4))
    assert context.dots() == [(X, 1, 2), (X, 4, 4), ((1, 8), 9, 9)]
    assert repr(context) == f"Context({context.dots()})"


def test_latest_gives_the_largest_counter_of_each_actor() -> None:
    assert sorted(context_of((X, 1), (X, 4), (Y, 1)).latest()) == [(X, 4), (Y, 1)]


def test_a_vector_of_2_to_the_64_events_costs_one_entry() -> None:
    data = encoded([(X, 2**64 - 1)], [])
    context = Context.from_bytes(data)
    assert context.contains((X, 2**63))
    assert context.with_dot((X, 5)).to_bytes() == data


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x01", id="no entries' count"),
        pytest.param(b"\x01\x00\x00\x00\x00", id="no entry"),
        pytest.param(b"\x02" + encoded([(X, 1)], [])[1:], id="unknown version"),
        pytest.param(encoded([(X, 1)], [])[:-1], id="cut short"),
        pytest.param(encoded([(X, 1)], []) + b"\x00", id="trailing byte"),
        pytest.param(b"\x01\x02\x00\x00\x00" + entry(X, 1), id="vector longer than the entries"),
        pytest.param(b"\x01\xff\xff\xff\xff" + entry(X, 1), id="vector far longer than the entries"),
        pytest.param(encoded([(X, 0)], []), id="vector counter 0"),
        pytest.param(encoded([(Y, 1), (X, 1)], []), id="vector out of order"),
        pytest.param(encoded([(X, 1), (X, 2)], []), id="actor twice in the vector"),
        pytest.param(encoded([], [(X, 0)]), id="single dot 0"),
        pytest.param(encoded([], [(X, 1)]), id="single dot contiguous with nothing"),
        pytest.param(encoded([(X, 3)], [(X, 4)]), id="single dot contiguous with the vector"),
        pytest.param(encoded([(X, 3)], [(X, 2)]), id="single dot inside the vector"),
        pytest.param(encoded([], [(X, 5), (X, 3)]), id="single dots out of order"),
        pytest.param(encoded([], [(Y, 3), (X, 3)]), id="single dots' actors out of order"),
        pytest.param(encoded([], [(X, 3), (X, 3)]), id="single dot twice"),
        pytest.param(encoded([], [(X, counter) for counter in range(2, 0x10003)]), id="too many entries"),
    ],
)
def test_bytes_that_are_not_canonical_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="context"):
        Context.from_bytes(data)


def test_the_most_entries_that_are_allowed_decode() -> None:
    data = encoded([], [(X, counter) for counter in range(2, 0x10001)])
    assert Context.from_bytes(data).to_bytes() == data


@settings(deadline=None)
@given(dot_sets.filter(bool), st.data())
def test_damaged_bytes_are_refused_or_canonical(members: frozenset[Dot], data: st.DataObject) -> None:
    good = context_of(*members).to_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    flip = data.draw(st.integers(1, 255))
    for damaged in (good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :], good[:place], good[place:]):
        try:
            decoded = Context.from_bytes(damaged)
        except ValueError:
            continue
        assert decoded.to_bytes() == damaged


@settings(deadline=None)
@given(st.binary(max_size=120))
def test_arbitrary_bytes_are_refused_or_canonical(data: bytes) -> None:
    try:
        decoded = Context.from_bytes(data)
    except ValueError:
        return
    assert decoded.to_bytes() == data
