"""The simulated network: connections come, are lost in silence or with a goodbye, and carry messages in order."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from kvbus.sim.network import SILENCE_SECONDS, Connection, Network, Rule
from kvbus.sim.timeline import Timeline


class Pair:
    """Ends 0 and 1 and the connection that 0 keeps to 1; ``told`` holds what its near end was told, ``got`` numbers."""

    def __init__(self, seed: int = 1) -> None:
        self.timeline = Timeline()
        self.network = Network(self.timeline, Random(seed))
        self.told: list[bool] = []
        self.got: list[int] = []
        self.welcomes = True
        self.connection: Connection = self.network.connect(
            0, 1, greet=lambda: self.welcomes, on_change=self.told.append
        )
        self.network.appear(0)
        self.network.appear(1)
        self.timeline.run(1.0)

    def send(self, *numbers: int, forth: bool = True) -> list[bool]:
        def arrival(number: int) -> Callable[[], object]:
            return lambda: self.got.append(number)

        return [self.network.send(self.connection, forth, arrival(number)) for number in numbers]


def test_a_connection_comes_when_both_ends_are_there() -> None:
    pair = Pair()
    assert pair.told == [True]
    pair.send(*range(50))
    pair.timeline.run(0.1)
    assert pair.got == list(range(50))


def test_an_end_that_is_refused_tries_again() -> None:
    pair = Pair()
    pair.welcomes = False
    pair.network.vanish(1, says_goodbye=True)
    pair.network.appear(1)
    pair.timeline.run(2.0)
    assert pair.told == [True, False]
    pair.welcomes = True
    pair.timeline.run(1.0)
    assert pair.told == [True, False, True]


@pytest.mark.parametrize(("says_goodbye", "least", "most"), [(True, 0.0005, 0.01), (False, SILENCE_SECONDS, 2.1)])
def test_a_killed_process_says_goodbye_and_a_machine_without_power_falls_silent(
    says_goodbye: bool, least: float, most: float
) -> None:
    pair = Pair()
    begun = pair.timeline.now
    pair.network.vanish(1, says_goodbye=says_goodbye)
    pair.timeline.run(10.0, until=lambda: pair.told == [True, False])
    assert least <= pair.timeline.now - begun <= most


def test_a_cut_one_way_ends_the_connection_after_the_silence_and_loses_what_was_under_way() -> None:
    pair = Pair()
    pair.network.cut([(0, 1)])
    assert pair.send(1) == [True]
    pair.timeline.run(SILENCE_SECONDS + 1)
    assert pair.told == [True, False]
    assert pair.send(2) == [False]
    pair.network.heal()
    pair.timeline.run(1.0)
    assert (pair.told, pair.got) == ([True, False, True], [])


def test_what_a_short_cut_held_arrives_late_and_in_order_as_tcp_repeats_it() -> None:
    pair = Pair()
    pair.send(1)
    pair.network.cut([(0, 1), (1, 0)])
    pair.send(2, 3)
    pair.timeline.run(0.5)
    assert pair.got == []
    pair.network.heal()
    pair.send(4)
    pair.timeline.run(0.1)
    assert pair.got == []
    pair.timeline.run(1.0)
    assert (pair.told, pair.got) == ([True], [1, 2, 3, 4])


def test_a_cut_holds_on_both_ways_of_the_answer_but_only_loses_its_own_direction() -> None:
    pair = Pair()
    pair.network.cut([(0, 1)])
    pair.send(1)
    pair.send(2, forth=False)
    pair.timeline.run(0.5)
    assert pair.got == [2]


def test_a_pause_longer_than_the_silence_ends_the_connection_and_a_shorter_one_does_not() -> None:
    for seconds, told in ((1.0, [True]), (3.0, [True, False])):
        pair = Pair()
        pair.network.pause(1)
        pair.timeline.run(seconds)
        assert pair.told == told
        pair.network.resume(1)
        pair.timeline.run(1.0)
        assert pair.told[-1]


def test_a_seated_end_shares_the_cuts_of_its_node_and_one_of_its_own_is_never_cut_off() -> None:
    for seat, arrives in ((5, False), (None, True)):
        pair = Pair()
        pair.network.seat(0, seat)
        pair.network.cut([(5, 1)])
        pair.send(7)
        pair.timeline.run(0.5)
        assert (pair.got == [7]) is arrives


@pytest.mark.parametrize(
    ("rule", "seen"),
    [
        (Rule(loss=0.5), lambda got: 50 < len(got) < 150 and got == sorted(got)),
        (Rule(duplicate=0.5), lambda got: 250 < len(got) < 350 and set(got) == set(range(200))),
        (Rule(overtake=0.5), lambda got: len(got) == 200 and got != sorted(got)),
        (Rule(delay=0.5), lambda got: got == []),
    ],
    ids=["loss", "duplicate", "overtake", "delay"],
)
def test_rules_are_worse_than_any_tcp(rule: Rule, seen: Callable[[list[int]], bool]) -> None:
    pair = Pair()
    pair.network.rule([(0, 1)], rule)
    pair.send(*range(200))
    pair.timeline.run(0.4)
    assert seen(pair.got)


def test_a_clogged_way_stays_up_and_lets_all_through_in_order_after_the_heal() -> None:
    pair = Pair()
    pair.network.rule([(0, 1)], Rule(clog=True))
    pair.send(*range(20))
    pair.timeline.run(10.0)
    assert (pair.told, pair.got) == ([True], [])
    pair.network.heal()
    pair.timeline.run(1.0)
    assert pair.got == list(range(20))


def test_nothing_arrives_on_a_connection_that_was_given_up() -> None:
    pair = Pair()
    pair.send(1)
    pair.network.disconnect(pair.connection)
    pair.timeline.run(3.0)
    assert (pair.got, pair.send(2)) == ([], [False])
