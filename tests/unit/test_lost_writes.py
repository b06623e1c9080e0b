"""Sets: what was acknowledged is there in the end, what was removed is not, and nothing comes from nowhere."""

from __future__ import annotations

import pytest

from kvbus.testing import History, lost_writes
from tests.unit.set_notation import set_history

RIGHT = {
    "a remove takes away all that it had seen": "1 add x 0 1\n 1 add y 0 1\n 2 remove x x,y 4 5\n 9 read* - 6 7",
    "an acknowledged element is there": "1 add x 0 1\n 9 read* x 5 6",
    "an element that was never acknowledged may be there": "1 add x 0 ?\n 9 read* x 5 6",
    "an element that was never acknowledged may be missing": "1 add x 0 ?\n 9 read* - 5 6",
    "a refused element is missing": "1 !add x 0 1\n 9 read* - 5 6",
    "a refused element was added again": "1 !add x 0 1\n 1 add x 2 3\n 9 read* x 5 6",
    "reads on the way may miss anything": "1 add x 0 1\n 2 read - 2 3\n 9 read* x 5 6",
    "a final read that began before the answer may miss it": "1 add x 0 4\n 9 read* - 3 6\n 9 read* x 7 8",
    "a removed element is gone": "1 add x 0 1\n 1 remove x 2 3\n 9 read* - 5 6",
    "a remove without an answer may have happened": "1 add x 0 1\n 2 remove x 2 ?\n 9 read* - 5 6",
    "a remove without an answer may not have happened": "1 add x 0 1\n 2 remove x x 2 ?\n 9 read* x 5 6",
    "a remove that was given up may happen later": "2 remove x 0 1?\n 1 add x 2 3\n 9 read* - 5 6",
    "a refused remove changes nothing": "1 add x 0 1\n 1 !remove x 2 3\n 9 read* x 5 6",
    "a remove that had not seen the add lets it be": "1 add x 0 1\n 2 remove x - 2 3\n 9 read* x 5 6",
    "a remove by a client that was never told of it lets it be": "1 add x 0 1\n 2 remove x 2 3\n 9 read* x 5 6",
    "a remove beside the add may have met it": "1 add x 0 3\n 2 remove x 2 4\n 9 read* - 5 6",
    "a remove beside the add may have missed it": "1 add x 0 3\n 2 remove x x 2 4\n 9 read* x 5 6",
    "what was added twice may outlive a remove": "1 add x 0 1\n 2 add x 1 2\n 1 remove x x 3 4\n 9 read* x 5 6",
    "a final read beside the remove may show it": "1 add x 0 1\n 1 remove x 2 5\n 9 read* x 4 6\n 9 read* - 7 8",
    "a read may show what is being added": "1 add x 0 9\n 2 read x 1 2\n 9 read* x 10 11",
    "sets are apart": "a: 1 add x 0 1\n b: 1 add y 0 1\n a: 9 read* x 5 6\n b: 9 read* y 5 6",
}
WRONG = {
    "an acknowledged element is missing": (
        "1 add x 0 1\n 9 read* - 5 6",
        'lost 1 of 1 acknowledged element: "x"',
    ),
    "one replica of two misses it": (
        "1 add x 0 1\n 9 read* x 5 6 n1\n 9 read* - 5 6 n2",
        'lost 1 of 1 acknowledged element: "x"',
    ),
    "a final read after it was there misses it": (
        "1 add x 0 1\n 1 add y 0 1\n 9 read* x,y 5 6\n 9 read* y 7 8",
        'lost 1 of 2 acknowledged elements: "x"',
    ),
    "a refused remove is no excuse": (
        "1 add x 0 1\n 1 !remove x 2 3\n 9 read* - 5 6",
        'lost 1 of 1 acknowledged element: "x"',
    ),
    "a remove that ended before the add began is no excuse": (
        "2 remove x - 0 1\n 1 add x 2 3\n 9 read* - 5 6",
        'lost 1 of 1 acknowledged element: "x"',
    ),
    "a remove that began after the read is no excuse": (
        "1 add x 0 1\n 9 read* - 5 6\n 1 remove x 7 8",
        'lost 1 of 1 acknowledged element: "x"',
    ),
    "a removed element is back, its remover had added it": (
        "1 add x 0 1\n 1 remove x 2 3\n 9 read* x 5 6",
        'resurrected 1 of 1 removed element: "x"',
    ),
    "it is lost, and a remove says that it had not seen it": (
        "1 add x 0 1\n 2 remove x y 4 5\n 9 read* - 6 7",
        'lost 1 of 1 acknowledged element: "x"',
    ),
    "a removed element is back, its remover had read it": (
        "1 add x 0 1\n 2 read x 2 3\n 2 remove x 4 5\n 9 read* x 6 7",
        'resurrected 1 of 1 removed element: "x"',
    ),
    "a removed element is back, the remove says that it saw it": (
        "1 add x 0 1\n 2 remove x x,y 4 5\n 9 read* x 6 7",
        'resurrected 1 of 1 removed element: "x"',
    ),
    "a removed element is back after it was gone": (
        "1 add x 0 1\n 1 remove x 2 3\n 9 read* - 4 5\n 9 read* x 6 7",
        'resurrected 1 of 1 removed element: "x"',
    ),
    "nobody added it": ("1 add x 0 1\n 9 read* x,z 5 6", 'invented 1 element: "z"'),
    "nobody had added it yet": ("2 read x 0 1\n 1 add x 2 3\n 9 read* x 5 6", 'invented 1 element: "x"'),
    "it was refused": ("1 !add x 0 1\n 9 read* x 5 6", 'invented 1 element: "x"'),
    "it was invented on the way and is gone in the end": ("2 read z 0 1\n 9 read* - 5 6", 'invented 1 element: "z"'),
    "it was added to another set": ("a: 1 add x 0 1\n b: 9 read* x 5 6\n a: 9 read* x 5 6", 'invented 1 element: "x"'),
    "all three": (
        "1 add a 0 1\n 1 add b 0 1\n 1 remove b 2 3\n 9 read* b,c 5 6",
        'lost 1 of 2 acknowledged elements: "a"; resurrected 1 of 1 removed element: "b"; invented 1 element: "c"',
    ),
}


@pytest.mark.parametrize("text", RIGHT.values(), ids=RIGHT)
def test_what_may_happen_passes(text: str) -> None:
    verdict = lost_writes(set_history(text))
    assert verdict.ok is True, verdict.reason


@pytest.mark.parametrize(("text", "reason"), WRONG.values(), ids=WRONG)
def test_what_must_not_happen_is_told_with_its_elements(text: str, reason: str) -> None:
    verdict = lost_writes(set_history(text))
    assert verdict.ok is False
    assert verdict.reason == reason


def test_no_final_read_is_undecided() -> None:
    verdict = lost_writes(set_history("1 add x 0 1\n 2 read x 2 3\n 9 !read* 5 6"))
    assert verdict.ok is None
    assert verdict.reason == 'there is no final read of "s"; read when all is repaired and mark the read final'


def test_a_set_that_nobody_read_in_the_end_is_undecided_though_others_pass() -> None:
    verdict = lost_writes(set_history("a: 1 add x 0 1\n b: 1 add y 0 1\n a: 9 read* x 5 6"))
    assert verdict.ok is None
    assert '"b"' in verdict.reason


def test_only_removals_that_were_acknowledged_and_had_seen_are_counted() -> None:
    adds = "1 add x 0 1\n 1 add y 0 1\n 1 add z 0 1\n"
    verdict = lost_writes(set_history(f"{adds} 1 remove x 2 3\n 1 remove y 2 3?\n 2 remove z 2 3\n 9 read* y,z 5 6"))
    assert verdict.reason == "3 acknowledged elements, 1 removal: 1 final read as promised"
    assert verdict.counters["removed"] == 1


def test_a_fault_outweighs_what_is_undecided() -> None:
    assert lost_writes(set_history("a: 1 add x 0 1\n b: 1 add y 0 1\n a: 9 read* - 5 6")).ok is False


def test_nothing_to_judge_is_no_success() -> None:
    verdict = lost_writes(History(()))
    assert (verdict.ok, verdict.judged) == (None, 0)


def test_each_lost_element_is_told_with_its_add_and_the_read_that_misses_it() -> None:
    adds = "\n".join(f"{n} add {'abcdefghijkl'[n]} 0 1" for n in range(12))
    verdict = lost_writes(set_history(f"{adds}\n 20 read* i,j,k,l 5 6 n2"))
    assert verdict.reason == 'lost 8 of 12 acknowledged elements: "a", "b", "c", "d", "e", "f" and 2 more'
    assert verdict.details[0] == (
        'lost "a" of key "s": client 0 add "a": ok, 0 to 1 s; not in it: '
        'client 20 read at n2 found "i", "j", "k", "l", 5 to 6 s'
    )
    assert verdict.counters["acknowledged"] == 12
    assert verdict.counters["lost"] == len(verdict.details) == 8


def test_a_resurrected_element_is_told_with_its_remove() -> None:
    (line,) = lost_writes(set_history("1 add x 0 1\n 1 remove x 2 3\n 9 read* x 5 6")).details
    assert 'client 1 add "x": ok, 0 to 1 s; client 1 remove "x": ok, 2 to 3 s; in it: client 9' in line


def test_what_is_not_shown_is_counted() -> None:
    adds = "\n ".join(f"1 add {letter} 0 1" for letter in "abcdefghijklmnopqrstuvwxy")
    details = lost_writes(set_history(f"{adds}\n 9 read* - 5 6")).details
    assert (len(details), details[-1]) == (21, "and 5 more")
