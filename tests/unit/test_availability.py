"""How many operations were answered, and that a minority refuses all of them in time."""

from __future__ import annotations

import pytest

from kvbus.testing import History, Operation, Outcome, availability, refusal


def told(start: float, outcome: Outcome, *, lasts: float | None = 0.5, node: str = "n1", error: str = "") -> Operation:
    """Return a delete that began at ``start`` and was told this after ``lasts`` seconds."""
    end = None if lasts is None else start + lasts
    return Operation(
        client=1, op="delete", key="k", start=start, end=end, outcome=outcome, node=node, error=error or None
    )


def answered(count: int, of: int) -> History:
    return History(tuple(told(n, "ok" if n < count else "unknown") for n in range(of)))


@pytest.mark.parametrize(("count", "ok"), [(1000, True), (999, True), (998, False), (0, False)])
def test_999_of_1000_must_be_answered(count: int, ok: bool) -> None:
    assert availability(answered(count, of=1000)).ok is ok


def test_a_share_that_is_not_whole_does_not_look_whole() -> None:
    assert availability(answered(1_000, of=1_000)).reason.startswith("100 % of 1,000 operations answered")
    assert availability(answered(199_999, of=200_000)).reason.startswith("99.9995 % of 200,000 operations answered")


def test_the_share_that_is_asked_for_can_be_another_one() -> None:
    assert availability(answered(1, of=2), at_least=0.5).ok is True
    assert availability(answered(1, of=2), at_least=0.51).ok is False


def test_a_conflict_is_an_answer_and_so_no_refusal() -> None:
    conflict = Operation(client=1, op="cas", key="k", start=0, end=1, outcome="failed", expected=1, error="conflict")
    assert availability(History((conflict,))).ok is True
    assert refusal(History((conflict,)), deadline_s=5).ok is False


def test_only_the_window_and_the_nodes_are_judged() -> None:
    history = History(
        (
            told(1, "unknown"),
            told(2, "ok"),
            told(3, "ok", node="n2"),
            told(3.5, "failed", node="n3"),
            told(4, "unknown"),
        )
    )
    assert availability(history).ok is False
    assert availability(history, since=2, until=4, nodes=("n1", "n2")).ok is True
    assert availability(history, since=2, until=4).ok is False
    assert refusal(history, deadline_s=1, since=3, nodes=("n1", "n3")).ok is True
    assert refusal(history, deadline_s=1, since=2, nodes=("n1", "n3")).ok is False


def test_every_way_of_refusing_in_time_is_one() -> None:
    history = History((told(0, "failed", error="no_quorum"), told(1, "unknown", error="timeout")))
    verdict = refusal(history, deadline_s=0.5)
    assert verdict.ok is True
    assert verdict.reason == "all of 2 operations refused within 0.5 s"


def test_silence_and_lateness_are_no_refusal() -> None:
    history = History((told(0, "failed"), told(1, "unknown", lasts=None), told(2, "failed", lasts=3)))
    verdict = refusal(history, deadline_s=1)
    assert verdict.ok is False
    assert verdict.counters == {"answered": 0, "late": 2}
    assert len(verdict.details) == 2


def test_one_answer_breaks_a_refusal_and_is_told() -> None:
    verdict = refusal(History((told(0, "failed"), told(1, "ok"))), deadline_s=1)
    assert verdict.reason == "of 2 operations that should be refused within 1 s 1 answered and 0 not told in time"
    assert verdict.details == ('key "k": client 1 delete at n1: ok, 1 to 1.5 s',)


def test_an_empty_window_is_no_success() -> None:
    history = answered(10, of=10)
    for verdict in (availability(history, since=50), refusal(history, deadline_s=1, nodes=("n9",))):
        assert (verdict.ok, verdict.judged) == (None, 0)


def test_many_that_had_no_answer_are_counted_and_some_told() -> None:
    verdict = availability(answered(0, of=20))
    assert verdict.counters["unknown"] == 20
    assert verdict.details[-1] == "and 12 more"
