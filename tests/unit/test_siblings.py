"""The version algebra: merge laws on reachable records, a naive model of sets, and the classic scenarios."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvbus.errors import BadRequest
from kvbus_modes.ap import siblings
from kvbus_modes.ap.causality import ENTRY, VECTOR_OF_ONE, Context, Dot, join_all
from kvbus_modes.ap.record import Sibling, decode_record, encode_record
from kvbus_modes.ap.siblings import Hold, coordinate, merge, read, read_column, sibling_count

CAP = 100
NOW_MS = 1_000
SX, SY, SZ = 1, 2, 3

NaiveRecord: TypeAlias = dict[Dot, tuple[frozenset[Dot], bytes | None]]
Step: TypeAlias = tuple[str, int, int]

KINDS = ["blind put", "put", "put", "expiring put", "delete", "blind delete", "get", "send", "send", "new hold"]
histories = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 2), st.integers(0, 999)), max_size=25)


def put(
    current: bytes | None, hold: Hold, context: bytes | None = None, value: bytes | None = b"v"
) -> tuple[bytes, bytes]:
    return coordinate(current, context, value, None, 5, hold, CAP)


def supersedes(new: bytes, old: bytes) -> bool:
    return merge(new, old) == new


def clock(record: bytes) -> dict[int, int]:
    return Context.from_bytes(read(record, NOW_MS)[1]).clock()


def dots_of(context: Context) -> frozenset[Dot]:
    return frozenset((actor, n) for actor, first, last in context.dots() for n in range(first, last + 1))


def context_of(*dots: Dot) -> bytes:
    return join_all((), dots).to_bytes()


def copy_of(hold: Hold) -> Hold:
    copy = Hold(hold.server, hold.next_epoch, hold.last_epoch)
    copy.floor = hold.floor
    return copy


# ── a naive model: the rules of the design page in plain sets ──


def naive_merge(a: NaiveRecord, b: NaiveRecord) -> NaiveRecord:
    union = {**a, **b}
    return {dot: union[dot] for dot in union if not any(dot in context for context, _ in union.values())}


def naive_join(record: NaiveRecord) -> frozenset[Dot]:
    return frozenset(record).union(*(context for context, _ in record.values()))


def naive_view(record: bytes | None) -> NaiveRecord:
    """Decode ``record`` into the model's terms, through the strict decoder."""
    found = decode_record(record) if record is not None else []
    return {sibling.dot: (dots_of(sibling.context), sibling.value) for sibling in found}


def naive_dot(record: NaiveRecord, seen: frozenset[Dot], hold: Hold) -> Dot:
    """Pick the dot that the rules give; ``hold`` is as before the put."""
    known = naive_join(record)
    mine = [(epoch, n) for (server, epoch), n in known if server == hold.server and epoch >= hold.floor]
    if mine:
        epoch, counter = max(mine)
        if ((hold.server, epoch), counter + 1) not in seen:
            return ((hold.server, epoch), counter + 1)
    return ((hold.server, hold.next_epoch), 1)


@dataclass
class World:
    """Three replicas of one key, run side by side with the naive model, and all records and contexts they gave."""

    records: list[bytes | None] = field(default_factory=lambda: [None, None, None])
    naive: list[NaiveRecord] = field(default_factory=lambda: [{}, {}, {}])
    holds: list[Hold] = field(default_factory=lambda: [Hold(server, 1, 10_000) for server in (SX, SY, SZ)])
    tokens: list[tuple[bytes, frozenset[Dot]]] = field(default_factory=lambda: [(b"", frozenset())])
    pool: list[bytes] = field(default_factory=list)
    written: int = 0

    def play(self, steps: list[Step]) -> World:
        for kind, node, pick in steps:
            self.step(kind, node, pick)
        return self

    def step(self, kind: str, node: int, pick: int) -> None:
        current = self.records[node]
        if kind == "new hold":
            self.holds[node].end()
        elif kind == "get" and current is not None:
            values, context = read(current, 0)
            assert values == [value for _, (_, value) in sorted(self.naive[node].items()) if value is not None]
            self.tokens.append((context, naive_join(self.naive[node])))
        elif kind == "send":
            self.send(pick % 3, node)
        elif kind not in ("get", "send"):
            self.write(kind, node, self.tokens[0] if "blind" in kind else self.tokens[pick % len(self.tokens)])

    def send(self, source: int, target: int) -> None:
        sent, current = self.records[source], self.records[target]
        if sent is not None:
            self.keep(target, sent if current is None else merge(current, sent))
            self.naive[target] = naive_merge(self.naive[target], self.naive[source])
            assert naive_view(self.records[target]) == self.naive[target]

    def write(self, kind: str, node: int, token: tuple[bytes, frozenset[Dot]]) -> None:
        hold, (context, seen) = self.holds[node], token
        self.written += 1
        value = None if "delete" in kind else b"%d" % self.written
        expiry_ms = NOW_MS + self.written % 3 - 1 if kind == "expiring put" else None
        args = (self.records[node], context, value, expiry_ms, self.written)
        dot = naive_dot(self.naive[node], seen, hold)
        general = siblings._coordinate_any(*args, copy_of(hold), CAP)
        record, reply = coordinate(*args, hold, CAP)
        assert (record, reply) == general
        self.naive[node] = naive_merge(self.naive[node], {dot: (seen, value)})
        assert naive_view(record) == self.naive[node]
        assert dots_of(Context.from_bytes(reply)) == seen | {dot}
        self.keep(node, record)
        self.tokens.append((reply, seen | {dot}))

    def keep(self, node: int, record: bytes) -> None:
        self.records[node] = record
        self.pool.append(record)


@settings(deadline=None)
@given(histories)
def test_the_byte_algebra_equals_the_naive_model_of_sets(steps: list[Step]) -> None:
    World().play(steps)


# ── merge laws ──


@settings(deadline=None)
@given(histories, st.data())
def test_merge_is_commutative_associative_and_idempotent(steps: list[Step], data: st.DataObject) -> None:
    pool = World().play([("blind put", 0, 0), *steps]).pool
    a, b, c = (data.draw(st.sampled_from(pool)) for _ in range(3))
    assert merge(a, b) == merge(b, a)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, a) == a
    assert merge(merge(a, b), b) == merge(a, b)


@settings(deadline=None)
@given(histories)
def test_merge_gives_canonical_bytes(steps: list[Step]) -> None:
    for record in World().play(steps).pool:
        assert encode_record(decode_record(record)) == record


@settings(deadline=None)
@given(histories, st.data())
def test_fast_merge_supersede_and_read_equal_the_general_path(steps: list[Step], data: st.DataObject) -> None:
    pool = World().play([("blind put", 0, 0), *steps]).pool
    a, b = data.draw(st.sampled_from(pool)), data.draw(st.sampled_from(pool))
    assert merge(a, b) == siblings._merge_any(a, b)
    assert supersedes(a, b) == (siblings._merge_any(a, b) == a)
    for wall_ms in (NOW_MS - 2, NOW_MS - 1, NOW_MS, NOW_MS + 1):
        assert read(a, wall_ms) == siblings._read_any(a, wall_ms)


def one(dot: Dot, *seen: Dot, value: bytes = b"v", expiry_ms: int | None = None) -> bytes:
    return encode_record([Sibling(dot, join_all((), seen), 5, expiry_ms, value)])


A, B = (SX, 1), (SY, 1)


@pytest.mark.parametrize("expiry_ms", [None, 9])
@pytest.mark.parametrize(
    ("new", "old"),
    [
        pytest.param(((A, 5), (A, 1), (A, 2)), ((A, 2), (A, 5)), id="later dot claimed as a single dot"),
        pytest.param(((A, 1), (A, 3)), ((A, 3), (A, 1)), id="the older dot claims the newer"),
        pytest.param(((B, 1), (A, 1)), ((A, 1), (B, 1)), id="two actors claim each other"),
        pytest.param(((B, 2), (A, 1)), ((A, 1), (B, 1), (B, 2)), id="two actors, the newer counter is larger"),
        pytest.param(((B, 2), (A, 1), (A, 3)), ((A, 3), (B, 1), (B, 2)), id="longer contexts claim each other"),
    ],
)
def test_siblings_that_claim_each_other_supersede_neither(
    new: tuple[Dot, ...], old: tuple[Dot, ...], expiry_ms: int | None
) -> None:
    a, b = one(*new, expiry_ms=expiry_ms), one(*old)
    assert not supersedes(a, b)
    assert not supersedes(b, a)
    assert merge(a, b) == merge(b, a) == encode_record([])


def test_a_value_that_looks_like_a_context_supersedes_nothing() -> None:
    old = one((A, 1))
    new = one((B, 1), value=VECTOR_OF_ONE + old[3:23])
    assert not supersedes(new, old)
    assert sibling_count(merge(new, old)) == 2


few_dots: st.SearchStrategy[Dot] = st.tuples(st.sampled_from([(SX, 1), (SX, 2), (SY, 1)]), st.integers(1, 4))


@st.composite
def forged_records(draw: st.DrawFn) -> bytes:
    """A well-formed record of one sibling whose context may claim anything, later dots of its own actor too."""
    dot = draw(few_dots)
    seen = join_all((), draw(st.lists(few_dots.filter(lambda other: other != dot), max_size=6)))
    value = draw(st.none() | st.sampled_from([b"", b"v", VECTOR_OF_ONE + ENTRY.pack(SX, 1, 1)]))
    expiry_ms = draw(st.none() | st.just(9)) if value is not None else None
    return encode_record([Sibling(dot, seen, 5, expiry_ms, value)])


@settings(deadline=None, max_examples=300)
@given(forged_records(), forged_records())
def test_the_fast_paths_are_exact_on_forged_contexts_too(a: bytes, b: bytes) -> None:
    assert merge(a, b) == siblings._merge_any(a, b) == merge(b, a)
    assert supersedes(a, b) == (siblings._merge_any(a, b) == a)
    assert read(a, 5) == siblings._read_any(a, 5)


@settings(deadline=None, max_examples=300)
@given(forged_records(), st.none() | st.lists(few_dots, max_size=4), st.integers(1, 4), st.integers(0, 2))
def test_coordinate_equals_its_general_path_on_any_record(
    current: bytes, seen: list[Dot] | None, floor: int, issued: int
) -> None:
    hold = Hold(SX, floor + issued, 1_000)
    hold.floor = floor
    context = read(current, 5)[1] if seen is None else context_of(*seen)
    before = copy_of(hold)
    try:
        expected = siblings._coordinate_any(current, context, b"w", None, 6, before, CAP)
    except BadRequest:
        with pytest.raises(BadRequest):
            put(current, hold, context)
        return
    record, reply = coordinate(current, context, b"w", None, 6, hold, CAP)
    assert (record, reply) == expected
    assert hold.next_epoch == before.next_epoch
    assert b"w" in read(record, 5)[0], "the new version was obsolete from the start"


def test_merge_refuses_bytes_that_are_no_record() -> None:
    record, _ = put(None, Hold(SX, 1, 9))
    with pytest.raises(ValueError, match="cut short"):
        merge(record, b"\x01\x02\x00" + record[3:])


# ── scenarios ──


def test_classic_scenario_of_siblings_and_their_reconciliation() -> None:
    sx, sy, sz = Hold(SX, 1, 9), Hold(SY, 1, 9), Hold(SZ, 1, 9)
    d1, c1 = put(None, sx, value=b"D1")
    d2, c2 = put(d1, sx, c1, b"D2")
    d3, _ = put(d2, sy, c2, b"D3")
    d4, _ = put(d2, sz, c2, b"D4")
    assert [clock(d) for d in (d1, d2, d3, d4)] == [{SX: 1}, {SX: 2}, {SX: 2, SY: 1}, {SX: 2, SZ: 1}]
    assert supersedes(d2, d1)
    assert supersedes(d3, d2)
    assert supersedes(d4, d2)

    both = merge(d3, d4)
    values, seen = read(both, NOW_MS)
    assert values == [b"D3", b"D4"]
    d5, _ = put(both, sx, seen, b"D5")
    assert clock(d5) == {SX: 3, SY: 1, SZ: 1}
    assert read(d5, NOW_MS)[0] == [b"D5"]
    assert supersedes(d5, d3)
    assert supersedes(d5, d4)


def test_overwriting_ones_own_blind_put_keeps_the_blind_put_of_another() -> None:
    hold = Hold(SX, 1, 9)
    first, _ = put(None, hold, None, b"first")
    both, own = put(first, hold, None, b"second")
    assert read(both, NOW_MS)[0] == [b"first", b"second"]
    after, _ = put(both, hold, own, b"second, again")
    assert read(after, NOW_MS)[0] == [b"first", b"second, again"]


def test_a_delete_removes_what_it_saw_and_is_seen_in_the_context() -> None:
    hold = Hold(SX, 1, 9)
    record, context = put(None, hold)
    deleted, reply = put(record, hold, context, None)
    assert read(deleted, NOW_MS) == ([], reply)
    assert sibling_count(deleted) == 1
    assert supersedes(deleted, record)


def test_a_blind_delete_is_concurrent_with_what_exists() -> None:
    hold = Hold(SX, 1, 9)
    record, _ = put(None, hold)
    deleted, _ = put(record, hold, None, None)
    assert read(deleted, NOW_MS)[0] == [b"v"]
    assert sibling_count(deleted) == 2


def test_an_expired_value_reads_as_deleted_but_stays_in_the_context() -> None:
    hold = Hold(SX, 1, 9)
    record, context = coordinate(None, None, b"v", 500, 5, hold, CAP)
    assert read(record, 499) == ([b"v"], context)
    assert read(record, 500) == ([], context)
    both, _ = put(record, hold, None, b"w")
    assert read(both, 499)[0] == [b"v", b"w"]
    assert read(both, 500)[0] == [b"w"]
    assert read(both, 499)[1] == read(both, 500)[1]


def test_a_column_reads_as_its_records_do_and_absent_ones_as_nothing() -> None:
    hold = Hold(SX, 1, 9)
    one, context = put(None, hold)
    two, _ = put(one, hold)
    three, _ = put(one, hold, context)
    expected = [read(one, 5), read(two, 5), ([], b""), read(three, 5)]
    values, contexts = read_column([one, two, None, three], 5)
    assert list(zip(values, contexts, strict=True)) == expected
