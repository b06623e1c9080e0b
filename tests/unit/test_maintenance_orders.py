"""Orders to flush and to compact: what a node begins, what it answers, and when the command calls it done."""

from __future__ import annotations

from typing import Any, cast

import pytest

from kvbus.cli.maintenance import is_compacted, is_flushed
from kvbus.core.keyspace import Keyspace
from kvbus.core.links import Links
from kvbus.core.metrics import Metrics
from kvbus.core.node import Identity, Node
from kvbus.core.request import Call, ClientOrigin, NodeRequest
from kvbus.core.tick import Effects, Tick
from kvbus.core.topology import Member, Topology
from kvbus.core.types import NodeIndex
from kvbus.plugins import engine_plugin
from kvbus.ports.engine import Engine, EngineSettings
from kvbus.ports.mode import Limits
from kvbus.sim.disk import MemoryDisk
from kvbus_storage import open_lsm
from tests.unit.lsm_workload import Clock
from tests.unit.storage_directory import SMALL, put, work
from tests.workers import NO_WORKER, HandWorker


def node(engine: Engine) -> Node:
    """Return a node without a keyspace."""
    topology = Topology.first(members=[Member(name="n1", client="", peer="", gossip="")], partitions=4, replicas=1)
    keyspaces: dict[str, Keyspace] = {}
    return Node(
        identity=Identity(me=NodeIndex(0), name="n1", cluster="c", version="1"), topology=topology,
        keyspaces=keyspaces, modes={}, frame_modes={}, operations={}, links=Links(NodeIndex(0), 1),
        engine=engine, limits=Limits(), metrics=Metrics(),
    )  # fmt: skip


def asked(machine: Node, op: str) -> dict[str, int]:
    """Ask for an operation; return the stats in the reply."""
    tick, out = Tick(1.0, 1000), Effects()
    tick.node_requests = [NodeRequest(Call(ClientOrigin(b"c", False), 1, op, op, 1, False), {"op": op})]
    machine.step(tick, out)
    (call,) = out.replies
    assert call.error is None
    return cast("dict[str, int]", cast("Any", call.fields)["stats"])


def test_a_flush_is_begun_at_once_and_answered_with_the_stats_before_it() -> None:
    worker = HandWorker()
    engine = open_lsm(MemoryDisk(), SMALL, worker)
    machine = node(engine)
    put(engine, 0, 10)
    before = asked(machine, "admin.flush")
    assert (before["engine_frozen_memtables"], before["engine_tables"]) == (0, 0)
    assert before["engine_memtable_bytes"] > 0
    assert {name.partition("_")[0] for name in before} == {"engine"}
    assert not is_flushed(before, asked(machine, "stats"))
    work(worker)
    now = asked(machine, "stats")
    assert is_flushed(before, now)
    assert now["engine_tables"] == 1


def test_a_flush_is_done_although_later_writes_wait_in_memory_again() -> None:
    worker = HandWorker()
    engine = open_lsm(MemoryDisk(), SMALL, worker)
    machine = node(engine)
    put(engine, 0, 10)
    before = asked(machine, "admin.flush")
    put(engine, 10, 10)
    engine.flush()
    assert asked(machine, "stats")["engine_frozen_memtables"] == 2
    assert not is_flushed(before, asked(machine, "stats"))
    worker.work()
    now = asked(machine, "stats")
    assert now["engine_frozen_memtables"] == 1
    assert is_flushed(before, now)


def test_a_compaction_is_done_when_no_piece_of_it_is_left() -> None:
    worker = HandWorker()
    engine = open_lsm(MemoryDisk(), SMALL, worker, clock=Clock())
    machine = node(engine)
    for _ in range(2):
        engine.compact()
        work(worker)
        put(engine, 0, 40)
        engine.flush()
        work(worker)
    before = asked(machine, "admin.compact")
    assert before["engine_level0_depth"] == 1
    now = asked(machine, "stats")
    assert not is_compacted(before, now)
    for _ in range(20):
        work(worker)
        engine.compact_due()
    now = asked(machine, "stats")
    assert is_compacted(before, now)
    assert now["engine_level0_depth"] == 0


@pytest.mark.parametrize("op", ["admin.flush", "admin.compact"])
def test_an_engine_without_tables_is_done_at_once(op: str) -> None:
    engine = engine_plugin("memory")(MemoryDisk(), EngineSettings(), worker=NO_WORKER, clock=float)
    machine = node(engine)
    before = asked(machine, op)
    now = asked(machine, "stats")
    assert is_flushed(before, now)
    assert is_compacted(before, now)
