"""The usual overwrite against the general algebra, on records and contexts that are almost usual."""

from __future__ import annotations

from random import Random

import pytest

from kvbus.errors import BadRequest
from kvbus_modes.ap import siblings
from kvbus_modes.ap.causality import EMPTY, ENTRY, VECTOR_OF_ONE, Actor, Context, Dot
from kvbus_modes.ap.overwrites import all_usual, overwrite, takes_place
from kvbus_modes.ap.record import DOT_BEGIN, DOT_END, TOMBSTONE, Sibling, decode_record, encode_one, encode_record
from kvbus_modes.ap.siblings import MAX_COUNTER, Hold

SERVER = 1
FLOOR, NEXT_EPOCH = 4, 7
ACTORS: list[Actor] = [(0, 5), (1, 3), (1, 4), (1, 5), (1, 6), (1, 8), (2, 5)]
CAP = 100
FLAGS_AT = DOT_END + 8


def hold() -> Hold:
    found = Hold(SERVER, NEXT_EPOCH, 1000)
    found.floor = FLOOR
    return found


def vector(random: Random, actors: list[Actor]) -> Context:
    seen = EMPTY
    for actor in actors:
        for counter in range(1, random.randint(1, 3) + 1):
            seen = seen.with_dot((actor, counter))
    return seen


def counter_behind(random: Random, seen: Context, actor: Actor) -> int:
    upto = max((counter for known, counter in seen.latest() if known == actor), default=0)
    return random.choice([upto + 1, upto + 1, upto + 1, upto + 2, MAX_COUNTER])


def some_record(random: Random) -> bytes:
    """Return a canonical record, mostly of one sibling whose dot follows its context."""
    actors = random.sample(ACTORS, random.choice([0, 1, 1, 1, 2, 3]))
    seen = vector(random, actors)
    if random.random() < 0.1:
        seen = seen.with_dot((random.choice(ACTORS), 9))
    actor = random.choice(actors) if actors and random.random() < 0.8 else random.choice(ACTORS)
    dot: Dot = (actor, counter_behind(random, seen, actor))
    value, expiry_ms = random.choice([(b"", None), (b"value" * 9, None), (b"v", 8), (b"w" * 40, 8), (None, None)])
    found = [Sibling(dot, seen, 5, expiry_ms, value)]
    if random.random() < 0.1:
        found.append(Sibling(((9, 9), 1), EMPTY, 5, None, b"other"))
    try:
        return encode_record(found)
    except ValueError:
        return some_record(random)


def some_context(random: Random, record: bytes) -> bytes:
    """Return the context of a request: all that the record is, or almost, or something like it."""
    seen = siblings._joined(record).to_bytes()
    match random.randrange(8):
        case 0:
            return vector(random, random.sample(ACTORS, random.randint(1, 3))).to_bytes()
        case 1:
            return Context.from_bytes(seen).with_dot((random.choice(ACTORS), random.randint(1, 3))).to_bytes()
        case 2:
            return damaged(random, seen)
        case 3:
            # The stored dot's bytes where no entry begins.
            return seen[:5] + bytes(random.randrange(1, 20)) + seen[5:]
        case 4:
            # A vector of the dot alone, which the stored context need not lie in.
            return VECTOR_OF_ONE + record[DOT_BEGIN:DOT_END]
        case 5:
            other = entry_of((random.choice(ACTORS), 2))
            return VECTOR_OF_ONE.replace(b"\x01\x01", b"\x01\x02") + random.choice(
                [other + seen[-20:], seen[-20:] + other]
            )
        case _:
            return seen


def entry_of(dot: Dot) -> bytes:
    (server, epoch), counter = dot
    return ENTRY.pack(server, epoch, counter)


def damaged(random: Random, data: bytes) -> bytes:
    at = random.randrange(random.choice([45, len(data)]) + 1)
    byte = bytes([random.choice([0, 1, 2, 5, 25, 255])])
    return random.choice([data[:at] + byte + data[at + 1 :], data[:at] + byte + data[at:], data[:at] + data[at + 1 :]])


@pytest.mark.parametrize("seed", range(20))
def test_a_usual_overwrite_is_what_the_general_algebra_makes(seed: int) -> None:
    random, usual = Random(seed), 0
    for _ in range(1500):
        current = some_record(random)
        context = some_context(random, current)
        value, expiry_ms = random.choice([(b"new", None), (b"", 99), (None, None), (b"n" * 50, None)])
        records, tokens, others = overwrite([current], [context], [value], expiry_ms, 6, hold())
        if others:
            assert (records, tokens, others) == ([b""], [None], [0])
            continue
        usual += 1
        try:
            expected = siblings._coordinate_any(current, context, value, expiry_ms, 6, hold(), CAP)
        except BadRequest as error:
            raise AssertionError(f"{context.hex()} over {current.hex()}") from error
        assert (records[0], tokens[0]) == expected
    assert usual > 20


@pytest.mark.parametrize("seed", range(20))
def test_what_takes_a_records_place_is_canonical_and_supersedes_it(seed: int) -> None:
    random, taken = Random(seed), 0
    for _ in range(1500):
        present = some_record(random)
        context = some_context(random, present)
        (actor, last), other = decode_record(present)[0].dot, random.choice(ACTORS)
        after = min(last + 1, MAX_COUNTER)
        dot: Dot = random.choice(
            [(actor, after), (actor, after), (actor, last), (actor, 1), (other, 2), (other, after)]
        )
        value, expiry_ms = random.choice([(b"new", None), (b"n" * 50, 99), (None, None), (b"", None)])
        record = encode_one(entry_of(dot), context, 6, expiry_ms, value)
        if random.random() < 0.3:
            record = damaged(random, record)
        elif random.random() < 0.1:
            record = record[:FLAGS_AT] + bytes([TOMBSTONE]) + record[FLAGS_AT + 1 :]
        for before in (present, None):
            if takes_place(record, before):
                taken += 1
                decode_record(record)
                assert before is None or siblings._merge_any(record, before) == record
    assert taken > 20


def own_overwrite(random: Random) -> bytes:
    actor, counter = random.choice(ACTORS), random.randint(1, 3)
    context = VECTOR_OF_ONE + ENTRY.pack(*actor, counter)
    entry = ENTRY.pack(*actor, counter + random.choice([1, 1, 2, 1 << 40]))
    return encode_one(entry, context, random.getrandbits(60), None, bytes(random.randrange(4)))


@pytest.mark.parametrize("seed", range(4))
def test_a_column_of_usual_records_is_sound_in_every_byte(seed: int) -> None:
    random = Random(seed)
    refused = 0
    for _ in range(2000):
        records = [own_overwrite(random) for _ in range(random.randint(1, 12))]
        assert all_usual(records)
        damaged = bytearray(random.choice(records))
        damaged[random.randrange(len(damaged))] = random.choice([0, 1, random.randrange(256)])
        for odd in (bytes(damaged), bytes(damaged) + b"x", bytes(damaged)[:-1], some_record(random), b""):
            records[random.randrange(len(records))] = odd
            refused += not all_usual(records)
            if all_usual(records):
                for record in records:
                    assert decode_record(record)[0].value is not None
    assert refused > 6000
