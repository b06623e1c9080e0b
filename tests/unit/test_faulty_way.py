"""One direction under rules: what is lost, late, doubled or held, and in which order it arrives."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvbus.core.faults import KINDS, PARTITION, FaultyWay, Rule
from kvbus.errors import ConfigError


def rule(kind: str, *, chance: float = 1.0, ms: int = 0, jitter_ms: int = 0) -> Rule:
    return Rule(kind=kind, sides="n1 -> n2", chance=chance, ms=ms, jitter_ms=jitter_ms)


def way(*rules: Rule, seed: int = 1, room_bytes: int = 1 << 20) -> FaultyWay:
    made = FaultyWay(Random(seed), room_bytes)
    for each in rules:
        made.add(each)
    return made


def frames(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def test_without_rules_everything_passes_at_once() -> None:
    assert [way().take(frame, 0.0) for frame in frames(3)] == [[b"0"], [b"1"], [b"2"]]


@pytest.mark.parametrize("cut", [rule(PARTITION), rule("drop")])
def test_a_cut_loses_everything_and_counts_it(cut: Rule) -> None:
    made = way(cut)
    assert [made.take(frame, 0.0) for frame in frames(5)] == [[]] * 5
    assert (made.is_cut, made.lost, made.arrivals(1e9)) == (True, 5, [])


def test_a_chance_loses_its_share() -> None:
    made = way(rule("drop", chance=0.3))
    passed = sum(len(made.take(frame, 0.0)) for frame in frames(10_000))
    assert 0.67 < passed / 10_000 < 0.73
    assert made.lost == 10_000 - passed
    assert not made.is_cut


def test_a_chance_doubles_its_share() -> None:
    made = way(rule("duplicate", chance=0.25))
    taken = [made.take(frame, 0.0) for frame in frames(10_000)]
    assert all(each in ([frame], [frame] * 2) for frame, each in zip(frames(10_000), taken, strict=True))
    assert 0.22 < sum(len(each) - 1 for each in taken) / 10_000 < 0.28


def test_the_same_seed_loses_the_same_frames() -> None:
    runs = [[way(rule("drop", chance=0.5), seed=7).take(frame, 0.0) for frame in frames(50)] for _ in range(2)]
    assert runs[0] == runs[1]


def test_a_delayed_frame_arrives_at_its_time_and_not_before() -> None:
    made = way(rule("delay", ms=100))
    assert made.take(b"a", 5.0) == []
    assert made.due_at == pytest.approx(5.1)
    assert made.arrivals(5.099) == []
    assert made.arrivals(5.101) == [b"a"]
    assert made.due_at is None


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(0, 60), st.integers(0, 60), st.integers(0, 99))
def test_jitter_never_lets_one_frame_overtake_another(gaps_ms: list[int], ms: int, jitter_ms: int, seed: int) -> None:
    made = way(rule("delay", ms=ms + 1, jitter_ms=jitter_ms), seed=seed)
    now, arrived = 0.0, list[bytes]()
    for number, gap_ms in enumerate(gaps_ms):
        now += gap_ms / 1000
        arrived += made.arrivals(now) + made.take(b"%d" % number, now)
    latest = now + (ms + 1 + jitter_ms) / 1000 + 1e-9
    assert arrived + made.arrivals(latest) == frames(len(gaps_ms))


def test_jitter_delays_by_no_more_than_it_says() -> None:
    delays: list[float] = []
    for seed in range(300):
        made = way(rule("delay", ms=100, jitter_ms=50), seed=seed)
        made.take(b"a", 0.0)
        delays.append(made.due_at or 0.0)
    assert 0.1 <= min(delays) < 0.105
    assert 0.145 < max(delays) <= 0.15


def test_a_shorter_delay_waits_behind_the_frames_of_a_longer_one() -> None:
    made = way(rule("delay", ms=1000))
    made.take(b"a", 0.0)
    made.add(rule("delay", ms=1))
    made.take(b"b", 0.0)
    assert made.arrivals(0.5) == []
    assert made.arrivals(1.1) == [b"a", b"b"]


def test_a_clog_holds_until_the_heal_and_then_lets_go_in_order() -> None:
    made = way(rule("clog"))
    assert [made.take(frame, 0.0) for frame in frames(3)] == [[]] * 3
    assert (made.arrivals(1e9), made.due_at) == ([], None)
    made.heal()
    assert made.take(b"after", 1.0) == [], "it waits for its turn"
    assert made.arrivals(1.0) == [*frames(3), b"after"]
    assert (made.is_idle, made.held_bytes) == (True, 0)


@pytest.mark.parametrize("holding", [rule("clog"), rule("delay", ms=60_000)])
def test_what_finds_no_room_is_lost_and_the_rest_is_kept(holding: Rule) -> None:
    made = way(holding, room_bytes=1000)
    for _ in range(100):
        made.take(bytes(36), 0.0)
    assert (made.lost, made.held_bytes) == (90, 1000)
    made.heal()
    assert len(made.arrivals(0.0)) == 10


def test_a_cut_loses_what_is_under_way() -> None:
    made = way(rule("delay", ms=10))
    made.take(b"a", 0.0)
    made.add(rule(PARTITION))
    made.heal()
    assert (made.arrivals(1.0), made.lost) == ([], 1)


def test_a_lost_connection_loses_what_was_under_way_on_it() -> None:
    made = way(rule("clog"))
    made.take(b"a", 0.0)
    made.forget()
    made.heal()
    assert (made.arrivals(0.0), made.lost, made.held_bytes) == ([], 1, 0)


def test_a_doubled_frame_is_delayed_twice_in_a_row() -> None:
    made = way(rule("duplicate"), rule("delay", ms=10))
    for frame in frames(2):
        made.take(frame, 0.0)
    assert made.arrivals(1.0) == [b"0", b"0", b"1", b"1"]


def test_a_rule_replaces_the_one_of_its_kind() -> None:
    made = way(rule("drop"), rule("drop", chance=1e-9))
    assert not made.is_cut
    assert made.take(b"a", 0.0) == [b"a"]


@pytest.mark.parametrize(
    ("wrong", "mend"),
    [
        ({"kind": "maim"}, "drop, delay, duplicate, clog"), ({"kind": "drop", "chance": 0.0}, "above 0"),
        ({"kind": "drop", "chance": 1.01}, "at most 1"), ({"kind": "drop", "chance": float("nan")}, "above 0"),
        ({"kind": "clog", "chance": 0.5}, "no chance"), ({"kind": "delay", "ms": 5, "chance": 0.5}, "no chance"),
        ({"kind": "drop", "ms": 5}, "no ms"), ({"kind": "clog", "jitter_ms": 5}, "no ms"),
        ({"kind": "delay"}, "needs ms"), ({"kind": "delay", "ms": -1}, "from 0"),
        ({"kind": "delay", "ms": 60_001}, "60000"), ({"kind": PARTITION, "chance": 0.5}, "no chance"),
    ],
)  # fmt: skip
def test_a_rule_that_makes_no_sense_is_refused_with_its_mend(wrong: dict[str, Any], mend: str) -> None:
    with pytest.raises(ConfigError, match=mend):
        Rule(sides="n1 -> n2", **wrong)


def test_every_kind_has_a_rule() -> None:
    assert [rule(kind, ms=5 if kind == "delay" else 0).kind for kind in KINDS] == [*KINDS]
