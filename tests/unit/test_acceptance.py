"""Records from peers: the quick ways through must give what the slow one gives."""

from __future__ import annotations

from random import Random

import pytest

from kvbus_modes.ap import acceptance, siblings
from kvbus_modes.ap.acceptance import accept, all_sound, check
from kvbus_modes.ap.overwrites import overwrite, takes_place
from kvbus_modes.ap.record import decode_record
from kvbus_modes.ap.siblings import Hold, coordinate, read

BLOCK = 1 << 20
CAP = 100


def hold_of(server: int) -> Hold:
    return Hold(server, (server + 1) * BLOCK, (server + 2) * BLOCK - 1)


def twin(hold: Hold) -> Hold:
    other = Hold(hold.server, hold.next_epoch, hold.last_epoch)
    other.floor = hold.floor
    return other


class History:
    """One key on three replicas: puts through any of them, with contexts read anywhere, copies lost and late."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.holds = [hold_of(server) for server in range(3)]
        self.copies: list[bytes | None] = [None, None, None]
        self.seen: list[bytes] = [b""]
        self.records: list[bytes] = []
        self.quick = 0
        self.usual = 0

    def step(self) -> None:
        """Make one put at one coordinator and take it, or an old one, at another replica."""
        random = self.random
        at = random.randrange(3)
        here = self.copies[at]
        context = read(here, 0)[1] if here and random.random() < 0.7 else random.choice(self.seen)
        value = None if random.random() < 0.1 else bytes(random.randrange(4))
        expiry_ms = 10 if value is not None and random.random() < 0.1 else None
        before, arguments = twin(self.holds[at]), (here, context, value, expiry_ms, len(self.records))
        records, tokens, others = overwrite([here], [context], [value], expiry_ms, len(self.records), before)
        record, token = coordinate(*arguments, self.holds[at], CAP)
        if not others:
            assert (records, tokens) == ([record], [token])
            self.usual += 1
        assert (record, token) == siblings._coordinate_any(*arguments, before, CAP)
        if here is not None:
            # A replica that has the same record takes this one for the merged one, unseen.
            assert siblings._merge_any(record, here) == record
        assert before.next_epoch == self.holds[at].next_epoch
        self.copies[at] = record
        self.seen.append(token)
        self.records.append(record)
        for other in range(3):
            if other != at and random.random() < 0.7:
                self.take(other, record if random.random() < 0.8 else random.choice(self.records))
        if random.random() < 0.05:
            self.holds[at].end()

    def take(self, at: int, record: bytes) -> None:
        """Accept a copy, by both ways."""
        present = self.copies[at]
        accepted = accept(record, present)
        if present is not None:
            assert accepted == siblings._merge_any(record, present)
        self.quick += accepted is record
        self.copies[at] = accepted


@pytest.mark.parametrize("seed", range(40))
def test_the_quick_ways_give_what_the_general_way_gives(seed: int) -> None:
    history = History(seed)
    for _ in range(60):
        history.step()
    assert history.quick
    assert history.usual


def test_coordinators_in_turn_take_the_quick_ways() -> None:
    holds = [hold_of(server) for server in range(3)]
    record, context = coordinate(None, None, b"0", None, 0, holds[0], CAP)
    for number in range(1, 12):
        present = record
        record, context = coordinate(present, context, b"%d" % number, None, number, holds[number % 3], CAP)
        assert takes_place(record, present) or acceptance._follows_all(record, present) or number <= 3
    assert siblings.joined_vector(record) == context


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_record_is_refused_or_merged_by_the_rules(seed: int) -> None:
    history = History(seed)
    for _ in range(12):
        history.step()
    record, present = history.records[-1], history.copies[0]
    for at in range(len(record)):
        for bit in range(8):
            damaged = record[:at] + bytes([record[at] ^ 1 << bit]) + record[at + 1 :]
            try:
                check(damaged)
            except ValueError:
                assert not all_sound([None, damaged])
                with pytest.raises(ValueError, match=r".+"):
                    accept(damaged, present)
            else:
                decode_record(damaged)
                assert present is None or accept(damaged, present) == siblings._merge_any(damaged, present)


def test_an_overwrite_takes_the_usual_way_whatever_it_overwrites() -> None:
    hold, first_holds = hold_of(1), [hold_of(0), hold_of(2)]
    for actors in range(3):
        for first_expiry in (None, 9):
            record: bytes | None = None
            context: bytes | None = None
            for before in first_holds[:actors]:
                record, context = coordinate(record, context, b"b", None, 1, before, CAP)
            for _ in range(3):
                record, context = coordinate(record, context, b"c", first_expiry, 2, hold, CAP)
            for value, expiry_ms in ((b"", None), (b"d", None), (b"e", 7), (None, None), (b"f", 9)):
                records, tokens, others = overwrite([record], [context], [value], expiry_ms, 3, hold)
                assert not others
                assert (records[0], tokens[0]) == coordinate(record, context, value, expiry_ms, 3, twin(hold), CAP)
                assert takes_place(records[0], record)
                assert takes_place(records[0], None)
                record, context = records[0], tokens[0]
