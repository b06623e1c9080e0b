"""What belongs into a history, and how one is recorded."""

from __future__ import annotations

from threading import Thread
from typing import Any

import pytest

from kvbus.errors import HistoryError
from kvbus.testing import Kind, Operation, Recorder


@pytest.mark.parametrize(
    ("fields", "mend"),
    [
        ({"op": "put"}, "a put needs value; record what the client sent"),
        ({"op": "cas"}, "a cas needs expected"),
        ({"op": "add"}, "an add needs element"),
        ({"op": "put", "value": "a", "element": "x"}, "a put has no element; leave it out"),
        ({"op": "delete", "final": True}, "a delete has no final"),
        ({"op": "cas", "expected": -1}, "expected must be a revision, or 0 for a key that must not exist, not -1"),
        ({"op": "get", "outcome": "ok"}, "an operation that is ok needs its end; without an answer the outcome is unk"),
        ({"op": "get", "outcome": "ok", "end": 2.0}, "a get that is ok needs found; [] is nothing"),
        ({"op": "get", "found": ("a",), "end": 2.0}, "a get that is unknown found nothing; leave found out or say ok"),
        ({"op": "get", "end": 0.5}, "end (0.5) must be a time in seconds and not before start (1.0)"),
        ({"op": "get", "end": float("nan")}, "end (nan) must be a time"),
        ({"op": "get", "start": float("inf")}, "start must be a time in seconds, not inf"),
        ({"op": "delete", "rev": 3}, "only an answer has a rev; leave it out where the outcome is unknown"),
        (
            {"op": "delete", "rev": 0, "outcome": "ok", "end": 2.0},
            "rev must be 1 or more, not 0; 0 belongs to a key th",
        ),
        ({"op": "incr"}, "op must be one of put, get, delete, cas, add, remove, read, not 'incr'"),
        ({"op": "get", "outcome": "fine"}, "outcome must be one of ok, failed, unknown, not 'fine'"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_its_mend(fields: dict[str, Any], mend: str) -> None:
    whole: dict[str, Any] = {"client": 1, "key": "k", "start": 1.0, **fields}
    with pytest.raises(HistoryError) as refused:
        Operation(**whole)
    assert mend in str(refused.value)


@pytest.mark.parametrize(
    ("operation", "line"),
    [
        (
            Operation(client=1, op="put", key="k", start=1, value="a\n"),
            'client 1 put "a\\n": outcome unknown, 1 never a',
        ),
        (
            Operation(client=2, op="get", key="k", start=1.5, end=1.75, outcome="ok", found=(), rev=0, node="n3"),
            "client 2 get at n3 found nothing (rev 0), 1.5 to 1.75 s",
        ),
        (
            Operation(
                client=3, op="cas", key="k", start=0, end=1, outcome="failed", error="conflict", expected=4, rev=5
            ),
            "client 3 cas rev 4 to nothing: conflict (rev 5), 0 to 1 s",
        ),
        (
            Operation(client=4, op="read", key="k", start=0, end=1, outcome="ok", found=tuple("abcdefgh")),
            'client 4 read found "a", "b", "c", "d", "e", "f" and 2 more, 0 to 1 s',
        ),
    ],
)
def test_an_operation_is_one_line_for_people(operation: Operation, line: str) -> None:
    assert operation.describe().startswith(line)


def test_a_conflict_is_an_answer_and_a_refusal_is_not() -> None:
    def cas(error: str) -> Operation:
        return Operation(client=1, op="cas", key="k", start=0, end=1, outcome="failed", expected=1, error=error)

    assert cas("conflict").answered
    assert not cas("no_quorum").answered


def test_what_was_recorded_is_the_history() -> None:
    recorder = Recorder({"seed": 7})
    put = recorder.begin(1.0, 1, "put", "k", value="a", node="n1")
    get = recorder.begin(1.5, 2, "get", "k")
    recorder.end(put, 2.0, "ok", rev=3, degraded=True)
    recorder.end(get, 2.5, "ok", found=["a"])
    recorder.begin(3.0, 1, "delete", "k")
    history = recorder.history()
    assert history.header == {"seed": 7}
    assert history.operations == (
        Operation(
            client=1, op="put", key="k", start=1, end=2, outcome="ok", value="a", rev=3, degraded=True, node="n1"
        ),
        Operation(client=2, op="get", key="k", start=1.5, end=2.5, outcome="ok", found=("a",)),
        Operation(client=1, op="delete", key="k", start=3, end=None, outcome="unknown"),
    )


def test_a_second_answer_is_refused_and_changes_nothing() -> None:
    recorder = Recorder()
    call = recorder.begin(1.0, 1, "put", "k", value="a")
    recorder.end(call, 2.0, "unknown", error="timeout")
    with pytest.raises(HistoryError, match="operation 0 is not under way; end each operation once"):
        recorder.end(call, 3.0, "ok")
    assert recorder.history().operations[0].error == "timeout"


def test_an_answer_that_does_not_fit_leaves_the_operation_under_way() -> None:
    recorder = Recorder()
    call = recorder.begin(1.0, 1, "get", "k")
    with pytest.raises(HistoryError, match="needs found"):
        recorder.end(call, 2.0, "ok")
    assert recorder.end(call, 2.0, "ok", found=()).found == ()


def test_what_begins_at_the_instant_of_an_end_is_later_in_the_history() -> None:
    recorder = Recorder()
    first = recorder.begin(5.0, 1, "delete", "k")
    recorder.end(first, 5.0, "ok")
    second = recorder.begin(5.0, 1, "delete", "k")
    recorder.end(second, 4.0, "ok")
    times = [time for each in recorder.history().operations for time in (each.start, each.end or 0.0)]
    assert times == sorted(times)
    assert len(set(times)) == 4
    assert max(times) == pytest.approx(5.0)


def test_threads_record_into_one_history() -> None:
    recorder = Recorder()
    kinds: tuple[Kind, ...] = ("get", "delete")

    def work(client: int) -> None:
        for number in range(200):
            op = kinds[number % 2]
            call = recorder.begin(number, client, op, "k")
            recorder.end(call, number + 1, "ok", found=() if op == "get" else None)

    threads = [Thread(target=work, args=(client,)) for client in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    operations = recorder.history().operations
    assert len(operations) == 1_600
    assert all(each.outcome == "ok" for each in operations)
    times = [time for each in operations for time in (each.start, each.end)]
    assert len(set(times)) == 3_200
