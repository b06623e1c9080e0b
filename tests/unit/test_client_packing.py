"""What the client machine packs together, and where it sends it."""

from __future__ import annotations

from typing import cast

from kvbus.client.links import LinkState
from kvbus.client.machine import ClientMachine
from kvbus.client.operation import Operation
from kvbus.client.options import PLAIN, Terms
from kvbus.client.packing import FRAME_BYTES, FRAME_KEYS
from kvbus.client.replies import PutReply
from kvbus.errors import error_from_map
from tests.machine_steps import (
    A,
    B,
    C,
    answer,
    body,
    direct,
    get,
    introduced,
    keys_of,
    put,
    refuse,
    sent,
    topology,
    up,
)


def at_home(first_home: int) -> ClientMachine:
    """Return a machine that knows the topology and starts with that replica."""
    return introduced(first_home=first_home)


def without_b(first_home: int) -> ClientMachine:
    """Return such a machine that has lost B."""
    machine = at_home(first_home)
    machine.link_changed(B, LinkState.DOWN, 0.0)
    return machine


def test_one_operation_travels_as_a_single_frame() -> None:
    (send,) = sent(introduced(), put(b"k", b"v", b"c"))
    assert body(send) == {"id": send.request_id, "op": "put", "key": b"k", "value": b"v", "ctx": b"c"}


def test_operations_of_one_turn_share_a_frame() -> None:
    machine = introduced()
    operations = [put(b"a", b"1"), put(b"b", b"2", b"c")]
    (send,) = sent(machine, *operations)
    expected = {"op": "mput", "keys": [b"a", b"b"], "values": [b"1", b"2"], "ctxs": [None, b"c"]}
    assert body(send) == {"id": send.request_id, **expected}
    answer(machine, send, ctxs=[b"x", b"y"], errors=[], degraded=True, acks=1)
    assert [operation.outcome for operation in operations] == [PutReply(b"x", True, 1), PutReply(b"y", True, 1)]


def test_gets_and_puts_do_not_share_a_frame_and_deletes_travel_alone() -> None:
    delete = Operation("delete", Terms("default", 5000, PLAIN), b"c", None, b"ctx")
    sends = sent(
        introduced(),
        get(b"a"),
        put(b"a"),
        get(b"b"),
        put(b"b"),
        delete,
        Operation("delete", Terms("default", 5000, PLAIN), b"d"),
    )
    assert [body(send)["op"] for send in sends] == ["mget", "mput", "delete", "delete"]


def test_other_options_and_keyspaces_do_not_share_a_frame() -> None:
    weak = Operation("put", Terms("default", 5000, (("w", 1),)), b"b", b"v")
    other = Operation("put", Terms("ledger", 5000, PLAIN), b"c", b"v")
    bodies = [body(send) for send in sent(introduced(), put(b"a"), weak, other, put(b"d", deadline_ms=100))]
    assert [(fields.get("w"), fields.get("ks"), fields.get("deadline_ms")) for fields in bodies] == [
        (None, None, None), (1, None, None), (None, "ledger", None), (None, None, 100),
    ]  # fmt: skip


def test_a_key_stands_once_in_a_batch_and_its_writes_keep_their_order() -> None:
    delete = Operation("delete", Terms("default", 5000, PLAIN), b"a")
    sends = sent(introduced(), put(b"a", b"1"), put(b"b"), put(b"a", b"2"), put(b"c"), delete, put(b"a", b"3"))
    bodies = [body(send) for send in sends]
    assert [fields.get("keys", fields.get("key")) for fields in bodies] == [[b"a", b"b"], [b"a", b"c"], b"a", b"a"]
    assert [fields["op"] for fields in bodies] == ["mput", "mput", "delete", "put"]
    assert len({send.address for send in sends}) == 1


def test_a_frame_has_at_most_256_operations_and_about_a_mebibyte() -> None:
    counts = [len(cast("list[bytes]", body(send)["keys"])) for send in sent(
        introduced(), *(get(b"%d" % number) for number in range(2 * FRAME_KEYS + 2))
    )]  # fmt: skip
    assert counts == [256, 256, 2]
    big = [put(b"%d" % number, bytes(10_000)) for number in range(200)]
    assert all(len(send.body) < FRAME_BYTES + 20_000 for send in sent(introduced(), *big))


def test_submit_tells_when_there_is_a_full_frame_for_each_replica_set() -> None:
    for owners, groups in (([(0, 1, 2)], 1), ([(0, 1), (1, 2)], 2)):
        machine = introduced(owners)
        told = [machine.submit(get(b"%d" % number)) for number in range(groups * FRAME_KEYS)]
        assert told == [False] * (groups * FRAME_KEYS - 1) + [True]
        machine.flush(0.0)
        assert not machine.submit(get(b"next"))
    stuck = ClientMachine([A], routing="direct")
    for number in range(FRAME_KEYS):
        told_at_last = stuck.submit(get(b"%d" % number))
    assert told_at_last
    assert stuck.flush(0.0) == []
    assert not any(stuck.submit(get(b"%d" % number)) for number in range(FRAME_KEYS))


def test_a_node_that_takes_smaller_batches_gets_them() -> None:
    machine = ClientMachine([A])
    up(machine, A)
    hello, _ = machine.flush(0.0)
    answer(machine, hello, limits={"batch_keys": 2})
    assert len(sent(machine, *(get(b"%d" % number) for number in range(5)))) == 3


def test_packing_can_be_switched_off() -> None:
    bodies = [body(send) for send in sent(introduced(packing=False), put(b"a"), put(b"b"), get(b"c"))]
    assert [fields["op"] for fields in bodies] == ["put", "put", "get"]


def test_the_first_turn_says_hello_and_asks_for_the_topology_without_waiting_for_it() -> None:
    machine = ClientMachine([A])
    up(machine, A)
    bodies = [body(send) for send in sent(machine, put(b"k"))]
    assert sorted(str(fields["op"]) for fields in bodies) == ["hello", "put", "topology"]
    assert next(fields["v"] for fields in bodies if fields["op"] == "hello") == 1


def test_each_replica_set_gets_its_own_frame_at_one_of_its_replicas() -> None:
    machine = introduced([(0, 1), (2, 1)])
    first, second = keys_of(0, 2, 3), keys_of(1, 2, 3)
    for _ in range(4):
        sends = sent(machine, *(get(key) for pair in zip(first, second, strict=True) for key in pair))
        assert [body(send)["keys"] for send in sends] == [first, second]
        assert sends[0].address in (A, B)
        assert sends[1].address in (B, C)


def test_partitions_with_the_same_replicas_in_another_order_share_a_frame() -> None:
    machine = introduced([(0, 1, 2), (2, 1, 0)])
    assert len(sent(machine, *(get(key) for key in keys_of(0, 2, 2) + keys_of(1, 2, 2)))) == 1


def test_a_client_stays_with_one_replica_and_clients_are_spread_over_them() -> None:
    used = [{sent(machine, put(b"k"))[0].address for _ in range(6)} for machine in map(at_home, range(3))]
    assert sorted(used, key=sorted) == [{A}, {B}, {C}]


def test_a_node_that_is_down_is_not_asked() -> None:
    machine = introduced()
    machine.link_changed(B, LinkState.DOWN, 0.0)
    assert B not in {sent(each, get(b"k"))[-1].address for each in [machine, *map(without_b, range(3))]}


def test_when_no_replica_is_up_any_node_is_asked() -> None:
    machine = introduced([(1, 2)])
    machine.link_changed(B, LinkState.DOWN, 0.0)
    machine.link_changed(C, LinkState.DOWN, 0.0)
    assert [send.address for send in sent(machine, get(b"k"))] == [A]


def test_direct_routing_takes_the_first_address_and_asks_for_no_topology() -> None:
    machine = direct(A, B)
    assert [(send.address, body(send)["op"]) for send in sent(machine, get(b"k"))] == [(A, "get")]
    machine.link_changed(A, LinkState.DOWN, 0.0)
    assert [send.address for send in sent(machine, get(b"k"))][-1] == B


def test_direct_routing_waits_while_the_first_address_is_still_tried() -> None:
    machine = ClientMachine([A, B], routing="direct")
    up(machine, B)
    assert sent(machine, get(b"k")) == []
    machine.link_changed(A, LinkState.DOWN, 0.0)
    assert [send.address for send in machine.flush(0.0)] == [B]


def test_the_machine_wants_connections_to_what_the_topology_names() -> None:
    machine = introduced()
    assert machine.links.addresses == [A, B, C]
    machine.link_changed(B, LinkState.DOWN, 2.0)
    sent(machine, get(b"k"), now=2.0)
    assert machine.links.addresses == [A, B, C]


def test_an_unusable_topology_changes_nothing() -> None:
    machine = ClientMachine([A])
    up(machine, A)
    _, asked = machine.flush(0.0)
    answer(machine, asked, **{**topology([(0, 9)])})
    assert machine.links.addresses == [A]
    assert [send.address for send in sent(machine, get(b"k"))] == [A]


def test_stale_epoch_asks_for_the_topology_again_and_sends_the_operation_elsewhere() -> None:
    machine = introduced()
    operation = get(b"k")
    (send,) = sent(machine, operation, now=2.0)
    refuse(machine, send, error_from_map({"code": "stale_epoch", "definite": True}), 2.0)
    again = machine.flush(2.0)
    assert sorted(str(body(other)["op"]) for other in again) == ["get", "topology"]
    assert all(other.address != send.address for other in again)
