"""What every engine must do when data are removed, flushed and compacted: reads never notice."""

from __future__ import annotations

from random import Random

import pytest

from tests.conformance.engine_bench import HIGHEST, LOWEST, OLD_S, EngineBench, State


class MaintenanceSuite(EngineBench):
    """Conformance tests of removals, flushes, compactions, scans and snapshots across them."""

    def test_scan_joins_what_is_in_tables_in_memory_and_queued(self) -> None:
        engine = self.open()
        keys = [b"k%02d" % number for number in range(20)]
        engine.apply(keys, [b"table"] * 20)
        self.move_to_disk(engine)
        engine.apply(keys[::4], [b"flushed"] * 5)
        engine.purge([keys[1], keys[5]])
        engine.flush()
        self.settle(engine)
        engine.apply([keys[2], b"k021"], [b"memory"] * 2)
        engine.purge([keys[3]])
        engine.commit()
        engine.apply([keys[5], keys[8], b"k99"], [b"queued"] * 3)
        engine.purge([keys[12]])
        expected = dict.fromkeys(keys, b"table") | dict.fromkeys(keys[::4], b"flushed")
        expected |= {keys[2]: b"memory", b"k021": b"memory", keys[5]: b"queued", keys[8]: b"queued", b"k99": b"queued"}
        for gone in (keys[1], keys[3], keys[12]):
            del expected[gone]
        assert list(engine.scan(LOWEST, HIGHEST)) == sorted(expected.items())
        assert list(engine.scan(keys[3], keys[9])) == [
            pair for pair in sorted(expected.items()) if b"k03" <= pair[0] < b"k09"
        ]
        assert engine.multi_get(keys) == [expected.get(key) for key in keys]
        assert [engine.get(key) for key in keys] == [expected.get(key) for key in keys]
        engine.close()
        assert self.stored() == expected

    def test_scan_and_snapshot_show_nothing_of_what_comes_after_them(self) -> None:
        engine = self.open()
        engine.apply([b"a", b"b", b"c"], [b"1", b"1", b"1"])
        engine.flush()
        self.settle(engine)
        engine.apply([b"b"], [b"2"])
        before = [(b"a", b"1"), (b"b", b"2"), (b"c", b"1")]
        scan, snapshot = engine.scan(LOWEST, HIGHEST), engine.snapshot()
        assert snapshot.lsn == engine.applied_lsn
        engine.apply([b"b", b"d"], [b"3", b"3"])
        engine.purge([b"a"])
        engine.drop_range(b"c", b"d")
        self.move_to_disk(engine)
        assert list(engine.scan(LOWEST, HIGHEST)) == [(b"b", b"3"), (b"d", b"3")]
        assert list(scan) == list(snapshot.scan(LOWEST, HIGHEST)) == before
        assert list(snapshot.scan(b"b", b"c")) == [(b"b", b"2")]
        assert [snapshot.get(key) for key in (b"a", b"b", b"c", b"d")] == [b"1", b"2", b"1", None]
        crossing = zip(snapshot.scan(LOWEST, HIGHEST), snapshot.scan(b"b", HIGHEST), strict=False)
        assert list(crossing) == [(before[0], before[1]), (before[1], before[2])]
        snapshot.close()
        engine.close()

    def test_purged_keys_are_as_if_they_had_never_been(self) -> None:
        engine = self.open()
        engine.apply([b"a", b"b", b"c", b"d"], [b"1", b"2", b"3", b"4"])
        engine.flush()
        self.settle(engine)
        assert engine.purge([b"a", b"never", b"d"]) == 2
        assert engine.multi_get([b"a", b"b", b"never", b"d"]) == [None, b"2", None, None]
        assert engine.durable_lsn == 1
        assert engine.commit() == 2
        engine.apply([b"d"], [b"again"])
        engine.purge([b"b", b"b"])
        engine.commit()
        left = {b"c": b"3", b"d": b"again"}
        assert dict(engine.scan(LOWEST, HIGHEST)) == left
        self.abandon(engine)
        engine = self.open()
        assert (engine.get(b"a"), engine.applied_lsn) == (None, 4)
        self.move_to_disk(engine)
        assert dict(engine.scan(LOWEST, HIGHEST)) == left
        engine.close()
        assert self.stored() == left

    def test_dropped_range_is_gone_at_once_and_for_good(self) -> None:
        engine = self.open()
        keys = [b"k%d" % number for number in range(10)]
        engine.apply(keys[::2], [b"flushed"] * 5)
        self.move_to_disk(engine)
        engine.apply(keys[1::2], [b"queued"] * 5)
        assert engine.drop_range(b"k3", b"k7") == 3
        assert engine.durable_lsn == 3
        left = {key: b"queued" if index % 2 else b"flushed" for index, key in enumerate(keys) if not 3 <= index < 7}
        assert dict(engine.scan(LOWEST, HIGHEST)) == left
        assert engine.multi_get(keys) == [left.get(key) for key in keys]
        self.abandon(engine)
        engine = self.open()
        assert dict(engine.scan(LOWEST, HIGHEST)) == left
        engine.apply([b"k5"], [b"new"])
        self.move_to_disk(engine)
        assert engine.drop_range(b"k9", b"k9") == 5
        engine.close()
        assert self.stored() == {**left, b"k5": b"new"}

    def test_flush_and_compaction_change_nothing_that_is_read(self) -> None:
        engine = self.open()
        expected: State = {}
        for turn in range(6):
            batch = {b"k%03d" % (number * (turn + 1) % 97): b"%d" % turn * 50 for number in range(60)}
            engine.apply(list(batch), list(batch.values()))
            expected |= batch
            engine.flush()
            assert dict(engine.scan(LOWEST, HIGHEST)) == expected
            self.settle(engine)
            assert engine.multi_get(sorted(expected)) == [expected[key] for key in sorted(expected)]
        engine.compact()
        assert dict(engine.scan(LOWEST, HIGHEST)) == expected
        self.settle(engine)
        assert dict(engine.scan(LOWEST, HIGHEST)) == expected
        assert (engine.applied_lsn, engine.durable_lsn) == (6, 6)
        self.abandon(engine)
        assert self.stored() == expected

    def test_flush_is_due_once_data_are_old(self) -> None:
        engine = self.open()
        assert not engine.flush_due()
        engine.apply([b"k"], [b"1"])
        assert not engine.flush_due()
        assert engine.durable_lsn == 1
        self.now_s += OLD_S - 1
        assert not engine.flush_due()
        self.now_s += 1
        assert engine.flush_due()
        self.settle(engine)
        assert not engine.flush_due()
        assert engine.get(b"k") == b"1"
        engine.close()

    def test_much_data_in_memory_find_their_way_to_the_disk(self) -> None:
        engine = self.open()
        calls: list[int] = []
        engine.when_full(lambda: calls.append(1))
        expected: State = {}
        for number in range(60):
            batch = {b"%d-%d" % (number % 20, key): b"%03d" % number * 1000 for key in range(10)}
            engine.apply(list(batch), list(batch.values()))
            expected |= batch
            before = len(calls)
            engine.commit()
            if len(calls) > before:
                engine.flush_due()
                self.settle(engine)
        assert bool(calls) == self.tells_when_full
        assert dict(engine.scan(LOWEST, HIGHEST)) == expected
        self.abandon(engine)
        assert self.stored() == expected

    @pytest.mark.parametrize("seed", range(6))
    def test_engine_agrees_with_a_dict_whatever_happens_between(self, seed: int) -> None:
        random = Random(seed)
        engine, lsn = self.open(), 0
        state, durable = State(), State()
        durable_lsn = 0
        for _ in range(150):
            keys = [b"k%02d" % random.randrange(30) for _ in range(random.randint(1, 4))]
            choice = random.random()
            if choice < 0.55:
                records = [random.randbytes(random.choice((0, 5, 90))) for _ in keys]
                lsn = engine.apply(keys, records)
                state |= dict(zip(keys, records, strict=True))
            elif choice < 0.7:
                lsn = engine.purge(keys)
                state = {key: record for key, record in state.items() if key not in keys}
            elif choice < 0.75:
                start, end = min(keys), max(keys)
                lsn = engine.drop_range(start, end)
                state = {key: record for key, record in state.items() if not start <= key < end}
                durable, durable_lsn = dict(state), lsn
            else:
                random.choice((engine.commit, engine.commit, engine.flush, engine.flush_due))()
                durable, durable_lsn = dict(state), lsn
            if random.random() < 0.1:
                engine.compact()
                self.settle(engine)
            if random.random() < 0.06:
                self.abandon(engine)
                engine, state, lsn = self.open(), dict(durable), durable_lsn
            assert (engine.applied_lsn, engine.durable_lsn) == (lsn, durable_lsn)
            assert dict(engine.scan(LOWEST, HIGHEST)) == state
            assert engine.multi_get(keys) == [state.get(key) for key in keys]
        engine.close()
        assert self.stored() == state
