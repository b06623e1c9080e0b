"""In the end all replicas hold the same: by their final reads, and by their digests."""

from __future__ import annotations

from kvbus.testing import History, Operation, convergence, digests_converged
from tests.unit.set_notation import set_history


def test_nodes_that_show_the_same_have_converged() -> None:
    verdict = convergence(set_history("8 read* x,y 5 6 n1\n 9 read* y,x 5 6 n2\n 9 read* x,y 7 8 n3"))
    assert verdict.ok is True
    assert verdict.reason == "all nodes agree on 1 key, in 3 final reads"


def test_nodes_that_differ_are_told_with_what_they_alone_have() -> None:
    verdict = convergence(set_history("8 read* x,y,z 5 6 n1\n 9 read* z 5 6 n2\n 9 read* z,y 7 8 n3"))
    assert verdict.ok is False
    assert verdict.reason == (
        '1 of 1 keys differ between nodes: key "s": n1 has "x", "y"; n2 has nothing; n3 has "y", '
        "beside 1 value that all have"
    )


def test_a_node_that_changes_between_its_final_reads_has_not_converged() -> None:
    text = "8 read* x 5 6 n1\n 9 read* - 5 6 n2\n 9 read* x 7 8 n2"
    assert convergence(set_history(text)).ok is False


def test_siblings_in_another_order_are_the_same() -> None:
    gets = [
        Operation(client=1, op="get", key="k", start=0, end=1, outcome="ok", found=found, node=node, final=True)
        for node, found in (("n1", ("a", "b")), ("n2", ("b", "a")))
    ]
    assert convergence(History(tuple(gets))).ok is True


def test_reads_before_the_end_do_not_count() -> None:
    text = "8 read x 1 2 n1\n 8 read* x,y 5 6 n1\n 9 read* x,y 5 6 n2\n 9 read - 7 8 n2"
    assert convergence(set_history(text)).ok is True


def test_a_node_that_does_not_answer_leaves_it_undecided() -> None:
    verdict = convergence(set_history("8 read* x 5 6 n1\n 9 read* x 5 6 n2\n 9 !read* 5 6 n3"))
    assert verdict.ok is None
    assert verdict.reason == 'final reads had no answer: n3 for key "s"; read again when the nodes are back'


def test_a_node_that_answers_a_second_time_has_answered() -> None:
    assert convergence(set_history("8 read* x 5 6 n1\n 9 !read* 5 6 n2\n 9 read* x 7 8 n2")).ok is True


def test_one_node_has_nobody_to_agree_with() -> None:
    verdict = convergence(set_history("8 read* x 5 6 n1\n 9 read* x 7 8 n1"))
    assert (verdict.ok, verdict.judged) == (None, 0)


def test_of_many_keys_those_that_differ_are_told() -> None:
    text = "\n".join(f"k{n}: 8 read* x 5 6 n1\n k{n}: 8 read* {'x' if n else 'y'} 5 6 n2" for n in range(5))
    verdict = convergence(set_history(text))
    assert verdict.reason == '1 of 5 keys differ between nodes: key "k0": n1 has "x"; n2 has "y"'


def test_equal_digests_have_converged() -> None:
    verdict = digests_converged({"n1": {0: 7, 1: 8}, "n2": {0: 7, 2: 9}, "n3": {1: 8, 2: 9}})
    assert verdict.ok is True
    assert verdict.reason == "all holders agree on 3 partitions"


def test_digests_that_differ_are_told_by_partition_and_node() -> None:
    verdict = digests_converged({"n1": {0: b"a", 1: b"x"}, "n2": {0: b"b", 1: b"x"}, "n3": {0: b"a", 1: b"y"}})
    assert verdict.ok is False
    assert verdict.reason == "2 of 2 partitions differ: partition 0: n1=n3 ≠ n2 and 1 more"
    assert verdict.details == ("partition 0: n1=n3 ≠ n2", "partition 1: n1=n2 ≠ n3")


def test_digests_without_a_second_holder_prove_nothing() -> None:
    verdict = digests_converged({"n1": {0: 7}, "n2": {1: 7}})
    assert (verdict.ok, verdict.judged) == (None, 0)
