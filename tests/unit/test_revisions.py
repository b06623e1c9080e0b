"""Revisions grow in real time."""

from __future__ import annotations

from random import Random

import pytest

from kvbus.testing import History, growing_revisions, linearizability
from tests.unit.exhaustive_judge import small_history
from tests.unit.large_histories import Load, legal_history, with_stale_read
from tests.unit.register_notation import drawn_history

RIGHT = {
    "a read repeats the write's revision": """
  1 put a@5      [--]
  2 get a@5           [--]""",
    "concurrent writes may end in any order": """
  1 put a@5      [------]
  2 put b@4        [--]""",
    "an unknown write has none": """
  1 put a@5      [--]
  2 put b             [--?
  1 put c@7                [--]""",
    "an absent key has none": """
  1 put a@5      [--]
  1 delete @6         [--]
  2 get -@0                [--]""",
    "keys are apart": """
  1 x: put a@5   [--]
  1 y: put b@4        [--]""",
    "operations that meet at one instant are concurrent": """
  1 put a@5      [--]
  2 put b@4         [--]""",
}
WRONG = {
    "a later write is smaller": (
        """
  1 put a@5      [--]
  2 put b@4           [--]""",
        "revision 4 after 5",
    ),
    "a later read is smaller": (
        """
  1 put a@5      [--]
  2 get b@4           [--]""",
        "revision 4 after 5",
    ),
    "a later conflict is smaller": (
        """
  1 put a@5      [--]
  2 cas 1 b@4         [--!""",
        "revision 4 after 5",
    ),
    "a later write repeats what was read": (
        """
  1 get a@5      [--]
  2 put b@5           [--]""",
        "revision 5 was written after it was there",
    ),
    "two concurrent writes have one": (
        """
  1 put a@5      [------]
  2 put b@5        [--]""",
        "revision 5 was written twice",
    ),
    "the greatest did not end last": (
        """
  1 put a@9      [--]
  2 put b@5      [----]
  1 get c@7             [--]""",
        "revision 7 after 9",
    ),
    "a read long ago was greater": (
        """
  1 get a@9      [--]
  2 get b@5        [-----------------]
  1 get b@5                  [--]""",
        "revision 5 after 9",
    ),
}


@pytest.mark.parametrize("text", RIGHT.values(), ids=RIGHT)
def test_revisions_that_grow_pass(text: str) -> None:
    verdict = growing_revisions(drawn_history(text))
    assert verdict.ok is True, verdict.reason


@pytest.mark.parametrize(("text", "reason"), WRONG.values(), ids=WRONG)
def test_revisions_that_do_not_grow_are_told(text: str, reason: str) -> None:
    verdict = growing_revisions(drawn_history(text))
    assert verdict.ok is False
    assert reason in verdict.reason


def test_no_revision_at_all_is_no_success() -> None:
    verdict = growing_revisions(drawn_history("  1 put a        [--]"))
    assert (verdict.ok, verdict.judged) == (None, 0)
    assert growing_revisions(History(())).ok is None


def test_a_linearizable_history_has_growing_revisions() -> None:
    told = 0
    for seed in range(2_000):
        history = small_history(Random(seed))
        if growing_revisions(history).ok is False:
            told += 1
            assert linearizability(history).ok is False, f"seed {seed}"
    assert told > 100


def test_ten_thousand_operations_are_judged_by_their_revisions_alone() -> None:
    history = legal_history(Load(), seed=4)
    assert growing_revisions(history).ok is True
    stale, read = with_stale_read(history, at_share=0.9)
    verdict = growing_revisions(stale)
    assert verdict.ok is False
    assert verdict.reason.endswith(f"then {read.describe()}")
