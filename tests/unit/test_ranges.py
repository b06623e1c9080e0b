"""A replica's answer to a SCAN: how much of its range it holds, and what of a peer's is believed."""

from __future__ import annotations

import pytest

from kvbus.core.keyspace import Keyspace
from kvbus.core.metrics import Metrics
from kvbus.plugins import engine_plugin
from kvbus.ports.engine import EngineSettings
from kvbus.sim.disk import MemoryDisk
from kvbus_modes.ap.causality import join_all
from kvbus_modes.ap.ranges import ANSWER_WORK, Range, collect, work_of
from kvbus_modes.ap.record import Sibling, encode_record
from kvbus_modes.ap.replica import Replica
from tests.sim.copies import version
from tests.workers import NO_WORKER

SPACE = Keyspace(name="default")
EVERYTHING = 1 << 32


def replica_with(*records: bytes, partitions: int = 1) -> Replica:
    """Return a replica that holds each record under a key of its own, in one partition after the other."""
    engine = engine_plugin("memory")(MemoryDisk(), EngineSettings(), worker=NO_WORKER, clock=float)
    keys = [SPACE.engine_head(n * partitions // len(records)) + b"%06d" % n for n in range(len(records))]
    engine.apply(keys, list(records))
    return Replica(engine, Metrics())


def all_of(replica: Replica, limit: int = EVERYTHING, prefix: bytes = b"") -> Range:
    return collect(replica, SPACE.engine_head(0), SPACE.engine_head(0xFF) + b"\xff" * 9, prefix, limit)


def conflict(count: int, entries: int = 0) -> bytes:
    """Return a record of ``count`` deleted siblings, each with a context of ``entries`` single dots."""
    context = join_all((), [((1, epoch), 2) for epoch in range(entries)])
    return encode_record([Sibling(((2, 5), n + 1), context, 5, None, None) for n in range(count)])


def test_a_whole_range_is_exhausted_across_partitions() -> None:
    found = all_of(replica_with(*[version(b"v")] * 30, partitions=4))
    assert (len(found.keys), len(found.records), found.exhausted) == (30, 30, True)
    assert found.keys == sorted(found.keys)


def test_an_answer_stops_at_the_asked_number_of_records() -> None:
    found = all_of(replica_with(*[version(b"v")] * 30), limit=7)
    assert (len(found.keys), found.exhausted) == (7, False)


def test_an_answer_never_holds_more_records_than_a_tick_can_take_whatever_was_asked() -> None:
    found = all_of(replica_with(*[version(None)] * 5000))
    assert (len(found.keys), found.exhausted, found.work) == (ANSWER_WORK, False, ANSWER_WORK)


def test_an_answer_stops_at_its_bytes() -> None:
    found = all_of(replica_with(*[version(bytes(100_000))] * 30))
    assert (len(found.keys), found.exhausted) == (11, False)


@pytest.mark.parametrize("record", [conflict(100), conflict(1, 3000), conflict(30, 50)])
def test_records_that_take_long_to_read_come_few_at_a_time_and_at_least_one(record: bytes) -> None:
    found = all_of(replica_with(*[record] * 50))
    assert not found.exhausted
    assert len(found.keys) == -(-ANSWER_WORK // work_of(record))
    assert len(found.keys) < 4


def test_large_values_take_no_longer_than_small_ones() -> None:
    values = encode_record([Sibling(((2, 5), n + 1), join_all((), ()), 5, None, bytes(10_000)) for n in range(2)])
    assert work_of(version(bytes(10_000))) == work_of(version(b"")) == 1
    assert work_of(values) == work_of(conflict(2))
    assert work_of(b"\x01\x00\x00") == 1


def test_a_peers_answer_must_be_one_to_what_was_asked() -> None:
    start, end = SPACE.engine_head(1), SPACE.engine_head(3)
    a, b, c = (SPACE.engine_head(1) + name for name in (b"ka", b"kb", b"kc"))
    good = version(b"v")
    assert Range([a, b, c], [good] * 3, False).answers(start, end, b"k")
    assert Range([], [], True).answers(start, end, b"k")
    for refused in (
        Range([], [], False),
        Range([b, a], [good] * 2, True),
        Range([a, a], [good] * 2, True),
        Range([SPACE.engine_head(0) + b"ka"], [good], True),
        Range([SPACE.engine_head(3) + b"ka"], [good], True),
        Range([SPACE.engine_head(1) + b"j"], [good], True),
        Range([a], [good[:-1]], True),
        Range([SPACE.engine_head(1) + b"k%06d" % n for n in range(ANSWER_WORK + 1)], [good] * (ANSWER_WORK + 1), False),
    ):
        assert not refused.answers(start, end, b"k")
