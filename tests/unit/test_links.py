"""The state of links: down, up, silent; the order of candidates; the pace at which a read is hedged."""

from __future__ import annotations

import pytest

from kvbus.core.links import Links
from kvbus.core.quorum import ReplicaSet
from kvbus.core.types import NodeIndex

ME, A, B = NodeIndex(0), NodeIndex(1), NodeIndex(2)
ALL = ReplicaSet((ME, A, B), 0b111, {"dc1": 0b111})
PEERS = ReplicaSet((A, B), 0b110, {"dc1": 0b110})


@pytest.fixture
def links() -> Links:
    links = Links(ME, 3)
    links.set(A, True)
    links.set(B, True)
    return links


def test_at_the_start_only_this_node_can_be_reached() -> None:
    links = Links(ME, 3)
    assert (links.reachable(), links.responsive(0.0)) == (0b001, 0b001)
    assert links.states(0.0) == {ME: "up", A: "down", B: "down"}


def test_a_lost_link_is_down_and_counted_once(links: Links) -> None:
    links.set(B, False)
    links.set(B, False)
    assert (links.reachable(), links.lost_total) == (0b011, 1)
    assert links.states(0.0)[B] == "down"


def test_a_peer_that_owes_an_answer_too_long_is_silent_until_it_is_heard(links: Links) -> None:
    links.sent(A, 1.0)
    assert links.responsive(1.49) == 0b111
    assert links.responsive(1.5) == 0b101
    assert links.states(1.51)[A] == "silent"
    links.heard(A, 2.0)
    assert links.responsive(2.1) == 0b111
    assert links.responsive(2.51) == 0b101


def test_a_peer_that_owes_nothing_is_never_silent(links: Links) -> None:
    links.sent(A, 1.0)
    links.sent(A, 1.1)
    links.heard(A, 1.2)
    links.settled(A)
    assert links.responsive(1.71) == 0b101
    links.settled(A)
    assert links.responsive(99.0) == 0b111
    links.settled(A)
    assert links.responsive(99.0) == 0b111


def test_silence_outlasts_the_patience_of_those_who_waited(links: Links) -> None:
    links.sent(A, 1.0)
    links.forgiven(A)
    assert links.responsive(9.0) == 0b101
    links.heard(A, 9.0)
    assert links.responsive(99.0) == 0b111


def test_a_new_link_ends_silence(links: Links) -> None:
    links.sent(A, 1.0)
    links.set(A, True)
    assert links.responsive(9.0) == 0b111


def test_candidates_are_this_node_then_peers_in_turn(links: Links) -> None:
    assert [links.candidates(ALL, turn, 0.0) for turn in range(3)] == [[A, B, ME], [B, A, ME], [A, B, ME]]
    assert [links.candidates(PEERS, turn, 0.0)[-1] for turn in range(4)] == [B, A, B, A]


def test_silent_candidates_come_last_and_lost_ones_not_at_all(links: Links) -> None:
    links.sent(A, 0.0)
    assert [links.candidates(PEERS, turn, 9.0)[-1] for turn in range(4)] == [B] * 4
    links.set(B, False)
    assert links.candidates(ALL, 0, 9.0) == [A, ME]


def test_hedging_waits_for_the_99th_percentile_within_its_bounds(links: Links) -> None:
    assert links.hedge_after(A) == 0.05
    for _ in range(32):
        links.observe(A, 0.0001)
    assert links.hedge_after(A) == 0.005
    for number in range(128):
        links.observe(A, 0.01 + 0.001 * (number >= 126))
    assert links.hedge_after(A) == 0.011
    assert links.hedge_after(B) == 0.05


def test_a_peer_that_takes_bytes_and_says_nothing_gets_no_more_until_it_is_heard() -> None:
    links = Links(ME, 3, unheard_bytes=100)
    links.set(A, True)
    links.sent(A, 0.0, 100)
    assert links.writable() == 0b011
    links.sent(A, 0.0, 1)
    assert (links.writable(), links.reachable()) == (0b001, 0b011)
    links.heard(A, 1.0)
    assert links.writable() == 0b011
    links.sent(A, 2.0, 101)
    links.set(A, False)
    links.set(A, True)
    assert links.writable() == 0b011


def test_a_node_waits_for_its_own_disk_no_longer_than_for_the_quickest_peer(links: Links) -> None:
    assert links.hedge_after(ME) == 0.005
    assert links.hedge_after(A) == 0.05


def test_a_silence_is_told_once_and_the_next_one_in_time(links: Links) -> None:
    links.sent(A, 1.0)
    links.sent(B, 1.2)
    assert [links.look_ahead(now) for now in (1.4, 1.5, 1.6, 1.7, 9.0)] == [False, True, False, True, False]
    links.heard(A, 9.0)
    assert links.next_silence == 9.5
