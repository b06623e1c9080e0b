"""The rules of a coordinator: which dot a put is given, which contexts and puts it refuses."""

from __future__ import annotations

import pytest

from kvbus.errors import BadRequest, TooManySiblings
from kvbus_modes.ap.causality import EMPTY, ENTRY, VECTOR_OF_ONE, Context, Dot, join_all
from kvbus_modes.ap.record import Sibling, decode_record, encode_record
from kvbus_modes.ap.siblings import EpochsUsedUp, Hold, coordinate, merge, read, sibling_count

CAP = 100
NOW_MS = 1_000
SX, SY = 1, 2


def put(
    current: bytes | None, hold: Hold, context: bytes | None = None, value: bytes | None = b"v", cap: int = CAP
) -> tuple[bytes, bytes]:
    return coordinate(current, context, value, None, 5, hold, cap)


def context_of(*dots: Dot) -> bytes:
    return join_all((), dots).to_bytes()


def dots_in(record: bytes) -> list[Dot]:
    return [sibling.dot for sibling in decode_record(record)]


def test_an_absent_key_starts_a_new_epoch() -> None:
    hold = Hold(SX, 5, 9)
    assert dots_in(put(None, hold)[0]) == [((SX, 5), 1)]
    assert dots_in(put(None, hold)[0]) == [((SX, 6), 1)]


def test_an_epoch_is_continued_within_its_hold_only() -> None:
    hold = Hold(SX, 5, 9)
    record, context = put(None, hold)
    record, context = put(record, hold, context)
    assert dots_in(record) == [((SX, 5), 2)]
    hold.end()
    record, context = put(record, hold, context)
    assert dots_in(record) == [((SX, 6), 1)]
    record, context = put(record, hold, context)
    assert dots_in(record) == [((SX, 6), 2)]
    assert Context.from_bytes(context).clock() == {SX: 4}


def test_a_hold_after_a_restart_does_not_continue_an_epoch_of_the_last_one() -> None:
    record, context = put(None, Hold(SX, 5, 9))
    assert dots_in(put(record, Hold(SX, 10, 19), context)[0]) == [((SX, 10), 1)]


def test_an_epoch_is_continued_after_a_lease_of_the_next_block() -> None:
    hold = Hold(SX, 5, 5)
    record, context = put(None, hold)
    hold.lease(50, 59)
    assert dots_in(put(record, hold, context)[0]) == [((SX, 5), 2)]
    assert dots_in(put(None, hold)[0]) == [((SX, 50), 1)]


def test_a_used_up_block_of_epochs_is_an_error_that_issues_nothing() -> None:
    hold = Hold(SX, 5, 5)
    record, context = put(None, hold)
    with pytest.raises(EpochsUsedUp, match="lease"):
        put(None, hold)
    assert hold.next_epoch == 6
    put(record, hold, context)


def test_the_newest_epoch_of_the_hold_is_continued_at_its_largest_counter() -> None:
    hold = Hold(SX, 8, 9)
    hold.floor = 5
    seen = join_all((), [((SX, 7), n) for n in (1, 2, 4)])
    current = encode_record([Sibling(((SX, 6), 9), seen, 5, None, b"v"), Sibling(((SX, 7), 3), seen, 5, None, b"w")])
    record, _ = put(current, hold)
    assert ((SX, 7), 5) in dots_in(record)


def test_dots_that_the_overwritten_sibling_claims_to_have_seen_are_not_given() -> None:
    mine = (SX, 5)
    request = context_of((mine, 1), (mine, 2), (mine, 3))
    for claimed, given in (((mine, 5), (mine, 6)), (((SX, 6), 3), ((SX, 6), 4))):
        hold = Hold(SX, 7, 9)
        hold.floor = 5
        current = encode_record([Sibling((mine, 3), join_all((), [(mine, 1), claimed]), 5, None, b"v")])
        assert dots_in(put(current, hold, request)[0]) == [given]


def test_a_dot_that_the_request_claims_to_have_seen_is_not_given() -> None:
    hold = Hold(SX, 5, 9)
    record, _ = put(None, hold)
    record, _ = put(record, hold, context_of(((SX, 5), 1), ((SX, 5), 2)), b"w")
    assert dots_in(record) == [((SX, 6), 1)]
    assert read(record, NOW_MS)[0] == [b"w"]


def test_a_forged_dot_that_another_coordinator_took_is_not_given() -> None:
    sx, sy = Hold(SX, 5, 9), Hold(SY, 1, 9)
    taken, _ = put(None, sy, context_of(((SX, 5), 1), ((SX, 6), 1), ((SX, 8), 1)), b"forged")
    record, _ = put(taken, sx, None, b"honest")
    assert dots_in(record) == [((SX, 7), 1), ((SY, 1), 1)]
    assert read(record, NOW_MS)[0] == [b"honest", b"forged"]


def test_a_counter_at_its_end_starts_a_new_epoch() -> None:
    hold = Hold(SX, 5, 9)
    record, context = put(None, hold)
    end = encode_record([Sibling(((SX, 5), 2**64 - 1), EMPTY, 5, None, b"v")])
    assert dots_in(put(end, hold, context)[0]) == [((SX, 5), 2**64 - 1), ((SX, 6), 1)]
    full = VECTOR_OF_ONE + ENTRY.pack(SX, 5, 2**64 - 1)
    assert dots_in(put(end, hold, full)[0]) == [((SX, 7), 1)]
    assert dots_in(put(record, hold, full)[0]) == [((SX, 8), 1)]


def test_a_context_with_an_epoch_never_issued_is_refused_as_forged() -> None:
    hold = Hold(SX, 5, 9)
    record, _ = put(None, hold)
    for current in (None, record):
        with pytest.raises(BadRequest, match="never issued"):
            put(current, hold, context_of(((SX, 6), 1)))
    put(record, hold, context_of(((SY, 600), 1)))
    put(record, hold, context_of(((SX, 4), 7)))


@pytest.mark.parametrize("context", [b"x", VECTOR_OF_ONE, VECTOR_OF_ONE + bytes(20), b"\x01\x00\x00\x00\x00"])
def test_a_malformed_context_is_refused(context: bytes) -> None:
    record, _ = put(None, Hold(SX, 5, 9))
    for current in (None, record, b"\x01\x00\x00"):
        with pytest.raises(BadRequest, match="malformed context"):
            put(current, Hold(SX, 5, 9), context)


def test_a_delete_with_a_time_to_live_is_refused() -> None:
    with pytest.raises(BadRequest, match="ttl_ms"):
        coordinate(None, None, None, 5, 5, Hold(SX, 5, 9), CAP)


def test_the_cap_refuses_only_puts_that_add_a_sibling_over_it() -> None:
    sx, sy = Hold(SX, 1, 99), Hold(SY, 1, 99)
    record, own = put(None, sx, cap=3)
    for _ in range(2):
        record, own = put(record, sx, cap=3)
    assert sibling_count(record) == 3
    with pytest.raises(TooManySiblings, match="context") as refused:
        put(record, sx, cap=3)
    assert refused.value.details == {"siblings": 4, "cap": 3}
    assert refused.value.definite

    other, _ = put(None, sy)
    over, _ = put(merge(record, other), sx, own, cap=3)
    assert sibling_count(over) == 4, "merge never refuses, and replacing a sibling adds none"
    resolved, _ = put(over, sx, read(over, NOW_MS)[1], b"resolved", cap=3)
    assert sibling_count(resolved) == 1
