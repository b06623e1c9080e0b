"""What every engine must do. A plug-in's tests subclass :class:`EngineSuite` and give it a way to open one."""

from __future__ import annotations

import pytest

from kvbus.core.columns import pack_column
from kvbus.errors import ShuttingDown
from kvbus.ports.raft_log import HardState
from tests.conformance.engine_bench import HIGHEST, LOWEST
from tests.conformance.maintenance_suite import MaintenanceSuite

STATS = {
    "keys", "memtable_bytes", "memory_bytes", "log_bytes", "log_segments", "applied_lsn", "durable_lsn", "synced_lsn",
    "queued_batches", "commits", "syncs", "synced_batches", "last_sync_us", "failed_batches", "read_only",
}  # fmt: skip


class EngineSuite(MaintenanceSuite):
    """All conformance tests; what to fill in stands in :class:`~tests.conformance.engine_bench.EngineBench`."""

    def test_new_engine_is_empty(self) -> None:
        engine = self.open()
        assert engine.get(b"k") is None
        assert engine.multi_get([b"k", b"l"]) == [None, None]
        assert engine.multi_get([]) == []
        assert list(engine.scan(LOWEST, HIGHEST)) == []
        assert (engine.applied_lsn, engine.durable_lsn) == (0, 0)
        engine.close()

    def test_applied_batch_is_seen_at_once_and_durable_after_commit(self) -> None:
        engine = self.open()
        assert engine.apply([b"a", b"b"], [b"1", b"2"]) == 1
        assert engine.multi_get([b"b", b"x", b"a", b"b"]) == [b"2", None, b"1", b"2"]
        assert (engine.applied_lsn, engine.durable_lsn) == (1, 0)
        assert engine.commit() == 1
        assert engine.durable_lsn == 1
        engine.close()

    def test_one_commit_covers_all_queued_batches(self) -> None:
        engine = self.open()
        for number in range(1, 6):
            assert engine.apply([b"k%d" % number], [b"r"]) == number
        assert engine.commit() == 5
        assert engine.commit() == 5
        engine.close()

    def test_last_record_of_a_key_wins(self) -> None:
        engine = self.open()
        engine.apply([b"k", b"k"], [b"1", b"2"])
        assert engine.get(b"k") == b"2"
        engine.apply([b"k"], [b""])
        assert engine.get(b"k") == b""
        engine.close()
        engine = self.open()
        assert (engine.get(b"k"), engine.multi_get([b"k"])) == (b"", [b""])
        engine.close()

    def test_uneven_batch_stores_nothing(self) -> None:
        engine = self.open()
        with pytest.raises(ValueError, match="2 keys"):
            engine.apply([b"a", b"b"], [b"1"])
        assert engine.get(b"a") is None
        assert engine.applied_lsn == 0
        engine.close()

    def test_encoded_batch_is_the_same_batch(self) -> None:
        keys, records = [b"a", b"b"], [b"1" * 300, b""]
        engine = self.open()
        engine.apply(keys, records, pack_column(keys) + pack_column(records))
        engine.close()
        assert self.stored() == dict(zip(keys, records, strict=True))

    def test_scan_is_ordered_half_open_and_as_of_the_call(self) -> None:
        engine = self.open()
        engine.apply([b"c", b"a", b"d", b"b"], [b"3", b"1", b"4", b"2"])
        found = engine.scan(b"a", b"d")
        engine.apply([b"aa", b"b"], [b"new", b"changed"])
        assert list(found) == [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]
        assert list(engine.scan(b"a", b"c")) == [(b"a", b"1"), (b"aa", b"new"), (b"b", b"changed")]
        assert list(engine.scan(b"c", b"a")) == []
        engine.close()

    def test_committed_batches_survive_an_abandoned_engine(self) -> None:
        engine = self.open()
        for number in range(20):
            engine.apply([b"k%d" % (number % 7)], [b"r%d" % number])
        engine.commit()
        before = list(engine.scan(LOWEST, HIGHEST))
        self.abandon(engine)
        engine = self.open()
        assert list(engine.scan(LOWEST, HIGHEST)) == before
        assert (engine.applied_lsn, engine.durable_lsn) == (20, 20)
        engine.close()

    def test_uncommitted_batches_do_not_survive_an_abandoned_engine(self) -> None:
        engine = self.open()
        engine.apply([b"k", b"l"], [b"1", b"1"])
        engine.commit()
        engine.apply([b"k"], [b"2"])
        engine.purge([b"l"])
        self.abandon(engine)
        engine = self.open()
        assert (engine.multi_get([b"k", b"l"]), engine.applied_lsn) == ([b"1", b"1"], 1)
        engine.close()

    def test_numbers_go_on_across_restarts(self) -> None:
        for number in range(1, 6):
            engine = self.open()
            assert engine.apply([b"k"], [b"%d" % number]) == number
            if number % 2:
                engine.close()
            else:
                engine.commit()
                self.abandon(engine)
        engine = self.open()
        assert (engine.get(b"k"), engine.durable_lsn) == (b"5", 5)
        engine.close()

    def test_raft_logs_survive_with_what_they_applied(self) -> None:
        engine = self.open()
        log = engine.raft_log
        assert log.append(7, 1, [1, 1, 1, 1], [b"a", b"b", b"c", b"d"]) == 1
        log.append(7, 3, [2], [b"C"])
        log.save_hard_state(7, HardState(2, 3))
        log.apply(7, 2, [b"k"], [b"of b"])
        log.append(8, 1, [1], [b"x"])
        log.append(9, 1, [1, 1, 1], [b"x", b"y", b"z"])
        engine.commit()
        log.forget(8)
        log.trim(7, 1, 1)
        log.trim(9, 5, 2)
        self.move_to_disk(engine)
        durable = engine.durable_lsn
        log.append(7, 4, [2], [b"lost"])
        assert log.apply(7, 3, [b"k"], [b"lost"]) == durable + 2
        assert engine.get(b"k") == b"lost"
        self.abandon(engine)
        engine = self.open()
        log = engine.raft_log
        assert (engine.applied_lsn, engine.get(b"k"), log.groups()) == (durable, b"of b", [7, 9])
        assert (log.hard_state(7), log.applied_index(7), log.term(7, 1)) == (HardState(2, 3), 2, 1)
        assert (log.first_index(7), log.entries(7, 2, 3), log.term(7, 3)) == (2, [b"b", b"C"], 2)
        assert (log.last_index(7), log.first_index(9), log.last_index(9), log.term(9, 5)) == (3, 6, 5, 2)
        engine.close()

    def test_a_read_is_explained_and_an_idle_engine_asks_for_no_rest(self) -> None:
        engine = self.open()
        engine.apply([b"k"], [b"1"])
        assert [engine.explain(key)["memtable"] for key in (b"k", b"l")] == ["hit", "miss"]
        self.move_to_disk(engine)
        assert set(engine.explain(b"k")) == {"memtable", "blooms", "sstables"}
        assert engine.rest_seconds == 0
        engine.close()

    def test_close_commits(self) -> None:
        engine = self.open()
        engine.apply([b"k"], [b"1"])
        engine.close()
        assert self.stored() == {b"k": b"1"}

    def test_closed_engine_refuses_calls(self) -> None:
        engine = self.open()
        engine.apply([b"k"], [b"1"])
        engine.close()
        engine.close()
        for call in (
            lambda: engine.get(b"k"),
            lambda: engine.multi_get([b"k"]),
            lambda: engine.scan(LOWEST, HIGHEST),
            engine.snapshot,
            lambda: engine.apply([b"k"], [b"1"]),
            lambda: engine.purge([b"k"]),
            lambda: engine.drop_range(b"a", b"z"),
            engine.commit,
            engine.flush,
            engine.flush_due,
        ):
            with pytest.raises(ShuttingDown):
                call()

    def test_stats_say_what_every_engine_knows(self) -> None:
        engine = self.open()
        engine.apply([b"aa", b"b"], [b"123", b"4"])
        engine.apply([b"aa", b"aa", b"c"], [b"1", b"12", b""])
        assert engine.stats()["queued_batches"] == 2
        engine.commit()
        engine.apply([b"d"], [b""])
        stats = engine.stats()
        assert set(stats) >= STATS
        assert all(type(value) is int for value in stats.values())
        assert stats["keys"] >= 3
        assert (stats["commits"], stats["syncs"], stats["synced_batches"], stats["queued_batches"]) == (1, 1, 2, 1)
        assert (stats["applied_lsn"], stats["durable_lsn"], stats["synced_lsn"]) == (3, 2, 2)
        assert (stats["read_only"], stats["failed_batches"], stats["log_segments"]) == (0, 0, 1)
        assert min(stats["memtable_bytes"], stats["memory_bytes"], stats["log_bytes"]) > 0
        engine.close()
