"""Known histories with known verdicts, judged by the checker and by a judge that tries every order."""

from __future__ import annotations

import pytest

from kvbus.testing import History, linearizability
from tests.unit.exhaustive_judge import is_linearizable
from tests.unit.register_notation import Drawn, drawn_histories

DRAWN = drawn_histories()


def by_name(drawn: Drawn) -> str:
    return drawn.name


def test_there_are_enough_of_both_verdicts() -> None:
    assert sum(drawn.legal for drawn in DRAWN) >= 30
    assert sum(not drawn.legal for drawn in DRAWN) >= 30
    assert len({drawn.name for drawn in DRAWN}) == len(DRAWN)


@pytest.mark.parametrize("drawn", DRAWN, ids=by_name)
def test_the_verdict_is_the_known_one(drawn: Drawn) -> None:
    verdict = linearizability(drawn.history)
    assert verdict.ok is drawn.legal, verdict.reason


@pytest.mark.parametrize("drawn", DRAWN, ids=by_name)
def test_trying_every_order_comes_to_the_same_verdict(drawn: Drawn) -> None:
    keys = drawn.history.by_key(("put", "get", "delete", "cas")).values()
    assert all(is_linearizable(operations) for operations in keys) is drawn.legal


@pytest.mark.parametrize("drawn", [drawn for drawn in DRAWN if not drawn.legal], ids=by_name)
def test_the_answer_that_does_not_fit_is_named(drawn: Drawn) -> None:
    assert drawn.culprit is not None
    reason = linearizability(drawn.history).reason
    assert reason.startswith(f'key "{drawn.culprit.key}": ')
    assert drawn.culprit.describe() in reason


@pytest.mark.parametrize("drawn", DRAWN, ids=by_name)
def test_the_order_of_the_lines_means_nothing(drawn: Drawn) -> None:
    turned = History(tuple(reversed(drawn.history.operations)))
    assert linearizability(turned).ok is drawn.legal
