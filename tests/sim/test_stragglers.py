"""A replica that stored only part of a batch: what it failed leaves the batch's tally, the rest is counted."""

from __future__ import annotations

from typing import Any

from kvbus.core.tick import Tick
from kvbus.core.types import Epoch, NodeIndex
from kvbus.wire.peer_frames import pack_head, unpack_head
from kvbus_modes.ap.frames import WRITE, WRITE_ACK, ack_payload
from tests.sim.world import World


class Batch:
    """Three puts of one tick at node 0, whose replicas 1 and 2 answer only what a test lets them."""

    def __init__(self, **demand: Any) -> None:
        self.world = World(3)
        sent: list[bytes] = []
        self.world.network.silence(0, 1, 2)
        self.world.network.tap = lambda way, frames: sent.extend(frames)
        puts = [{"op": "put", "key": b"%d" % number, "value": b"v", **demand} for number in range(3)]
        self.ids = self.world.send_together(0, puts)
        self.world.time.run(0.01)
        (self.number,) = {unpack_head(frame).batch for frame in sent if unpack_head(frame).kind == WRITE}

    def ack(self, node: int, *failed: int) -> None:
        """Let ``node`` acknowledge the batch but for the operations ``failed``."""
        frame = pack_head(WRITE_ACK, space=0, batch=self.number, epoch=Epoch(1)) + ack_payload(list(failed))

        def fill(tick: Tick) -> None:
            tick.frames.append((NodeIndex(node), frame))

        self.world.deliver(0, fill)

    def outcomes(self) -> list[str]:
        """Return for each put ``open``, ``ok``, ``degraded`` or its error's code."""
        found: list[str] = []
        for reply in (self.world.replies.get(number) for number in self.ids):
            if reply is None:
                found.append("open")
            elif reply["ok"]:
                found.append("degraded" if "degraded" in reply else "ok")
            else:
                found.append(reply["error"]["code"])
        return found


def test_failed_operations_wait_for_another_replica_and_the_others_do_not() -> None:
    batch = Batch()
    assert batch.outcomes() == ["open"] * 3
    batch.ack(1, 1)
    assert batch.outcomes() == ["ok", "open", "ok"]
    batch.ack(2)
    assert batch.outcomes() == ["ok", "ok", "ok"]
    batch.world.time.run(6)
    assert batch.world.nodes[0].modes["ap"].status()["open_writes"] == 0


def test_an_operation_that_both_replicas_failed_is_degraded() -> None:
    batch = Batch()
    batch.ack(1, 1, 2)
    assert batch.outcomes() == ["ok", "open", "open"]
    batch.ack(2, 0, 2)
    assert batch.outcomes() == ["ok", "ok", "degraded"]


def test_a_demand_that_a_failure_made_impossible_ends_at_once_for_that_operation_only() -> None:
    batch = Batch(w=3)
    batch.ack(1, 0)
    assert batch.outcomes() == ["timeout", "open", "open"]
    assert batch.world.replies[batch.ids[0]]["error"]["definite"] is False
    batch.ack(2)
    assert batch.outcomes() == ["timeout", "ok", "ok"]


def test_a_second_ack_of_the_same_replica_changes_nothing() -> None:
    batch = Batch(w=3)
    batch.ack(1)
    batch.ack(1, 0, 1, 2)
    assert batch.outcomes() == ["open"] * 3
    batch.ack(2)
    assert batch.outcomes() == ["ok"] * 3


def test_stragglers_end_with_a_lost_link_or_at_the_deadline() -> None:
    for lost in (True, False):
        batch = Batch(w=2, deadline_ms=1000)
        batch.ack(1, 1)
        if lost:
            batch.world.network.set_link(0, 2, False)
        batch.world.time.run(1)
        assert batch.outcomes() == ["ok", "timeout", "ok"]
        assert batch.world.nodes[0].pending() == 0


def test_everything_failed_and_failed_twice_is_counted_once() -> None:
    batch = Batch()
    batch.ack(1, 0, 0, 1, 2, 2)
    assert batch.outcomes() == ["open"] * 3
    batch.ack(2, 2, 1)
    assert batch.outcomes() == ["ok", "degraded", "degraded"]


def test_operations_that_failed_before_this_nodes_own_disk_had_them_still_count_it() -> None:
    world = World(3)
    world.network.silence(0, 2)
    world.network.slow = {(0, 1): 1.0, (1, 0): 1.0}
    ids = world.send_together(0, [{"op": "put", "key": b"%d" % n, "value": b"v", "w": 1} for n in range(2)])
    sent: list[bytes] = []
    world.network.tap = lambda way, frames: sent.extend(frames)
    world.time.run(0.0002)
    number = unpack_head(sent[0]).batch
    forged = pack_head(WRITE_ACK, space=0, batch=number, epoch=Epoch(1)) + ack_payload([0, 1])
    world.deliver(0, lambda tick: tick.frames.append((NodeIndex(1), forged)))
    assert world.replies == {}
    world.time.run(0.01)
    assert [world.replies[request]["ok"] for request in ids] == [True, True]


def test_what_was_durable_when_an_append_failed_is_acknowledged() -> None:
    world = World(1)
    put = world.send(0, "put", key=b"k", value=b"v")
    world.time.run(0.00015)

    def fill(tick: Tick) -> None:
        tick.persisted = world.engines[0].commit()
        tick.append_failed = True

    world.deliver(0, fill)
    assert world.replies[put]["ok"]


def test_writes_that_were_replied_to_are_forgotten_within_a_second() -> None:
    world = World(3)
    world.network.slow = {(1, 0): 100.0}
    for number in range(4):
        assert world.ask(0, "put", key=b"%d" % number, value=b"v", deadline_ms=600_000)["ok"]
    assert world.nodes[0].modes["ap"].status()["open_writes"] == 4
    world.time.run(1.1)
    assert world.nodes[0].modes["ap"].status()["open_writes"] == 0
    assert world.nodes[0].links.states(world.time.now)[NodeIndex(1)] == "silent"
