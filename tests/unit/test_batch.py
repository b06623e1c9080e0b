"""The tally of a batch: verdicts, answers and losses that count once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvbus.core.keyspace import Keyspace
from kvbus.core.links import Links
from kvbus.core.locator import Located
from kvbus.core.quorum import ReplicaSet, Requirement
from kvbus.core.request import DEFAULT_OPTIONS, RequestColumns
from kvbus.core.types import BatchId, NodeIndex
from kvbus_modes.ap.batch import LINGER_SECONDS, Batch, Verdict
from kvbus_modes.ap.reads import ReadBatch

NODES = tuple(NodeIndex(i) for i in range(3))
REPLICAS = ReplicaSet(NODES, 0b111, {"dc1": 0b111})


def batch(count: int, *, demanded: bool, awaited: int = 0b111) -> Batch:
    columns = RequestColumns("put", "default", DEFAULT_OPTIONS)
    made = Batch(BatchId(1), columns, REPLICAS, Requirement(((0b111, count),), demanded), 10.0)
    made.awaited = awaited
    return made


def test_the_deadline_leaves_time_for_the_answer() -> None:
    assert batch(2, demanded=True).deadline == 10.0 + 4.5


@given(st.integers(1, 4), st.booleans(), st.integers(0, 7), st.lists(st.tuples(st.integers(0, 2), st.booleans())))
def test_verdicts_follow_from_who_answered_and_who_may_still(
    count: int, demanded: bool, responsive: int, happenings: list[tuple[int, bool]]
) -> None:
    tally = batch(count, demanded=demanded)
    first: dict[int, bool] = {}
    for node, answered in happenings:
        took = tally.take_answer(NodeIndex(node)) if answered else tally.take_loss(NodeIndex(node))
        assert took is (node not in first)
        first.setdefault(node, answered)
        assert tally.answered | tally.awaited | tally.lost == 0b111
        assert tally.answered.bit_count() + tally.awaited.bit_count() + tally.lost.bit_count() == 3
    answers = sum(first.values())
    if answers >= count:
        expected = Verdict.MET
    elif demanded:
        expected = Verdict.WAIT if answers + 3 - len(first) >= count else Verdict.SHORT
    else:
        waiting = [node for node in range(3) if node not in first and responsive >> node & 1]
        expected = Verdict.WAIT if waiting else Verdict.SHORT
    assert tally.verdict(responsive) is expected


def test_releasing_a_batch_forgives_its_peers_one_answer_each() -> None:
    links = Links(NODES[0], 3)
    for node in NODES[1:]:
        links.set(node, True)
        links.sent(node, 10.0)
    links.sent(NODES[2], 10.0)
    tally = batch(2, demanded=False, awaited=0b011)
    tally.release(links)
    assert tally.awaited == 0
    links.heard(NODES[1], 10.1)
    links.heard(NODES[2], 10.1)
    assert links.responsive(11.0) == 0b011


def test_a_retired_batch_waits_a_second_for_late_answers_and_never_longer_than_its_deadline() -> None:
    early, late = batch(2, demanded=True), batch(2, demanded=True)
    early.retire(11.0)
    first = early.deadline
    assert 11.0 + 0.9 * LINGER_SECONDS < first <= 11.0 + LINGER_SECONDS
    assert early.awaited == 0b111
    early.retire(13.0)
    assert early.deadline == first
    late.retire(14.0)
    assert late.deadline == 14.5


def test_a_retired_read_keeps_neither_operations_nor_records() -> None:
    columns = RequestColumns("get", "default", DEFAULT_OPTIONS)
    columns.keys = [b"k"]
    located = Located(REPLICAS, columns, [b"engine key"])
    read = ReadBatch(BatchId(1), located, Requirement(((0b111, 2),), False), 10.0, keyspace=Keyspace(name="default"))
    read.awaited = 0b111
    strange: list[list[bytes | None]] = [[], [None, None], [b"no record"]]
    assert not any(read.take_records(NODES[1], records) for records in strange)
    assert read.take_records(NODES[1], [None])
    read.retire(10.1)
    assert (read.columns.keys, read.keys, read.answers) == ([], [], {})
    assert read.take_answer(NODES[2])
