"""What every engine must do. A plug-in's tests subclass :class:`EngineSuite` and give it a way to open one."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pytest

from kvbus.core.columns import pack_column
from kvbus.errors import ShuttingDown
from kvbus.ports.engine import Engine

LOWEST, HIGHEST = b"", b"\xff" * 40


class EngineSuite(ABC):
    """Conformance tests; :meth:`open` opens the same data each time within one test."""

    @abstractmethod
    def open(self) -> Engine:
        """Open the engine under test; after a close or an abandoned engine, recover its data."""

    @abstractmethod
    def abandon(self, engine: Engine) -> None:
        """Let go of ``engine`` as the end of its process would."""

    def test_new_engine_is_empty(self) -> None:
        engine = self.open()
        assert engine.get(b"k") is None
        assert engine.multi_get([b"k", b"l"]) == [None, None]
        assert list(engine.scan(LOWEST, HIGHEST)) == []
        assert (engine.applied_lsn, engine.durable_lsn) == (0, 0)
        engine.close()

    def test_applied_batch_is_seen_at_once_and_durable_after_commit(self) -> None:
        engine = self.open()
        assert engine.apply([b"a", b"b"], [b"1", b"2"]) == 1
        assert engine.multi_get([b"b", b"x", b"a"]) == [b"2", None, b"1"]
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
        assert self.open().get(b"k") == b""

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
        assert list(self.open().scan(LOWEST, HIGHEST)) == list(zip(keys, records, strict=True))

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
        engine.apply([b"k"], [b"1"])
        engine.commit()
        engine.apply([b"k"], [b"2"])
        self.abandon(engine)
        engine = self.open()
        assert (engine.get(b"k"), engine.applied_lsn) == (b"1", 1)
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

    def test_close_commits(self) -> None:
        engine = self.open()
        engine.apply([b"k"], [b"1"])
        engine.close()
        assert self.open().get(b"k") == b"1"

    def test_closed_engine_refuses_calls(self) -> None:
        engine = self.open()
        engine.close()
        engine.close()
        with pytest.raises(ShuttingDown):
            engine.get(b"k")
        with pytest.raises(ShuttingDown):
            engine.apply([b"k"], [b"1"])
        with pytest.raises(ShuttingDown):
            engine.commit()

    def test_stats_count_keys_and_bytes(self) -> None:
        engine = self.open()
        engine.apply([b"aa", b"b"], [b"123", b"4"])
        engine.apply([b"aa", b"aa", b"c"], [b"1", b"12", b""])
        engine.commit()
        stats = engine.stats()
        assert stats["keys"] == 3
        assert stats["memtable_bytes"] == len(b"aa12b4c")
        assert (stats["commits"], stats["synced_batches"], stats["log_segments"]) == (1, 2, 1)
        engine.close()
