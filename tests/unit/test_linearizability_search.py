"""The search against a judge that tries every order, and on histories as large as real ones."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from kvbus.testing import History, Operation, linearizability
from kvbus.testing.register import entries
from kvbus.testing.wgl import search
from kvbus.testing.windows import windows
from tests.unit.exhaustive_judge import is_legal, is_linearizable, small_history
from tests.unit.large_histories import Load, legal_history, with_stale_read

SMALL_HISTORIES = 3_000
LOADS = {
    "revisions": Load(),
    "revisions and deletes": Load(kinds=("put", "get", "cas", "delete")),
    "no revisions": Load(revisions=False, kinds=("put", "get")),
    "no revisions, deletes": Load(revisions=False, kinds=("put", "put", "get", "get", "delete")),
    "mostly writes": Load(revisions=False, kinds=("put", "put", "put", "get")),
    "hardly any writes": Load(revisions=False, kinds=("put", "get", "get", "get", "get", "get")),
}
# One state an operation is what a search without a wrong turn visits; each of these has 10,000.
MOST_VISITED = 40_000


def test_every_small_history_gets_the_verdict_of_trying_all_orders() -> None:
    illegal = 0
    for seed in range(SMALL_HISTORIES):
        history = small_history(Random(seed))
        expected = is_linearizable(history.operations)
        assert linearizability(history).ok is expected, f"seed {seed}"
        illegal += not expected
    assert SMALL_HISTORIES // 5 < illegal < SMALL_HISTORIES * 4 // 5


def test_an_order_that_is_found_is_legal_and_keeps_to_the_times() -> None:
    for seed in range(SMALL_HISTORIES // 5):
        history = small_history(Random(seed))
        narrowed = windows(entries(list(history.operations)))
        order = search(narrowed, 10_000).order if narrowed else None
        if order is None:
            continue
        operations = [entry.operation for entry in order]
        assert is_legal(operations), f"seed {seed}"
        assert {each for each in history.operations if each.answered} <= set(operations)
        for place, later in enumerate(operations):
            assert not any(_ended_before(later, earlier) for earlier in operations[:place]), f"seed {seed}"


def _ended_before(one: Operation, other: Operation) -> bool:
    return one.answered and one.end is not None and one.end < other.start


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_ten_clients_with_a_thousand_operations_each_are_decided(load: Load) -> None:
    verdict = linearizability(legal_history(load, seed=1))
    assert verdict.ok is True, verdict.reason
    assert verdict.judged == 10_000
    assert verdict.counters["unknown"] == 10
    assert verdict.counters["visited"] < MOST_VISITED


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_one_stale_read_near_the_end_is_found_and_named(load: Load) -> None:
    fewer = load if load is LOADS["revisions"] else replace(load, operations=300)
    history, stale = with_stale_read(legal_history(fewer, seed=2), at_share=0.9)
    verdict = linearizability(history)
    assert verdict.ok is False
    assert verdict.reason.endswith(f"does not fit: {stale.describe()}")
    assert verdict.counters["visited"] < MOST_VISITED


def test_few_values_and_no_revisions_are_decided_too() -> None:
    load = Load(operations=100, kinds=("put", "get"), values=5, revisions=False, unknown=5)
    verdict = linearizability(legal_history(load, seed=3))
    assert verdict.ok is True, verdict.reason


def _hard_history() -> History:
    """Return many concurrent writes of two values, unknown or not, and reads that no order of them satisfies."""
    puts = [Operation(client=n, op="put", key="k", start=0, end=90, outcome="ok", value="ab"[n % 2]) for n in range(8)]
    values = "ababababa"
    gets = [
        Operation(client=20, op="get", key="k", start=5 * n + 1, end=5 * n + 2, outcome="ok", found=(value,))
        for n, value in enumerate(values)
    ]
    return History((*puts, *gets))


def test_a_search_that_its_budget_ends_is_undecided_which_is_a_failure() -> None:
    assert linearizability(_hard_history()).ok is False
    verdict = linearizability(_hard_history(), budget=20)
    assert verdict.ok is None
    assert not verdict.passed
    assert verdict.reason == (
        'undecided after 20 states for "k"; give it a larger budget, or record fewer unknown outcomes a key'
    )
    assert verdict.counters["visited"] == 20


def test_the_states_that_a_search_visited_are_the_budget_that_it_needs() -> None:
    needed = int(linearizability(_hard_history()).counters["visited"])
    verdict = linearizability(_hard_history(), budget=needed)
    assert verdict.ok is False
    assert "does not fit" in verdict.reason
    assert linearizability(_hard_history(), budget=needed - 1).ok is None


def test_a_violation_whose_place_the_budget_cannot_tell_is_told_with_its_time() -> None:
    calm = [
        Operation(client=30, op="put", key="k", start=n / 10, end=n / 10 + 0.05, outcome="ok", value=f"c{n}")
        for n in range(5)
    ]
    hard = [replace(each, start=each.start + 1, end=(each.end or 0) + 1) for each in _hard_history().operations]
    # The last read proves at once that there is no order; where the order ended before is a question for a search.
    late = Operation(client=31, op="get", key="k", start=99, end=99.5, outcome="ok", found=("never written",))
    verdict = linearizability(History((*calm, *hard, late)), budget=6)
    assert verdict.ok is False
    assert "not any more at" in verdict.reason
    assert verdict.reason.endswith("answers does not fit")


def test_nothing_to_judge_is_no_success() -> None:
    verdict = linearizability(History(()))
    assert (verdict.ok, verdict.judged) == (None, 0)


def test_a_violation_is_explained_with_the_longest_legal_beginning() -> None:
    def told(client: int, op: str, start: float, end: float, value: str) -> Operation:
        if op == "put":
            return Operation(client=client, op="put", key="k", start=start, end=end, outcome="ok", value=value)
        return Operation(client=client, op="get", key="k", start=start, end=end, outcome="ok", found=(value,))

    history = History((told(1, "put", 0, 1, "a"), told(1, "put", 2, 3, "b"), told(2, "get", 3.5, 4.25, "a")))
    verdict = linearizability(history)
    assert verdict.reason == ('key "k": linearizable until 3 s; does not fit: client 2 get found "a", 3.5 to 4.25 s')
    assert verdict.details == (
        'written by client 1 put "a": ok, 0 to 1 s',
        "a legal order of what was answered before:",
        '  client 1 put "a": ok, 0 to 1 s',
        '  client 1 put "b": ok, 2 to 3 s',
    )
