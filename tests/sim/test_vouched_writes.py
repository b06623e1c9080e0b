"""WRITEs that vouch for their records by a digest: taken as they are where it fits, judged where it does not."""

from __future__ import annotations

from functools import partial

import pytest

from kvbus.core.tick import Tick
from kvbus.core.types import Epoch, NodeIndex
from kvbus.wire.peer_frames import HEAD_BYTES, pack_head, unpack_head
from kvbus_modes.ap.acceptance import all_sound
from kvbus_modes.ap.frames import NO_DIGEST, WRITE, WRITE_HEAD_BYTES, judged_digest, read_write, write_payload
from kvbus_modes.ap.record import assemble, encode_one
from kvbus_modes.ap.siblings import sibling_count
from tests.sim.world import World

ALL = (b"", b"\xff" * 40)
ONE_SIBLING = b"\x01\x01\x00"
DAMAGED = [
    b"", b"\x01", b"\x01\x02\x00", b"junk" * 30, ONE_SIBLING + bytes(20), ONE_SIBLING + b"\xff" * 60,
    b"\x01\xff\xff" + bytes(60), ONE_SIBLING + bytes(29) + b"\x19\x00\x00\x00" + bytes(100),
    ONE_SIBLING + b"\x01" * 20 + bytes(8) + b"\x02" + bytes(8),
]  # fmt: skip


def entry(server: int, counter: int) -> bytes:
    return server.to_bytes(4, "little") + (1).to_bytes(8, "little") + counter.to_bytes(8, "little")


def take(world: World, node: int, frame: bytes) -> None:
    def arrive(tick: Tick) -> None:
        tick.frames.append((NodeIndex(0), frame))

    world.deliver(node, arrive)
    world.time.run(0.1)


def write(keys: list[bytes], records: list[bytes], digest: bytes) -> bytes:
    return pack_head(WRITE, space=0, batch=1, epoch=Epoch(1)) + digest + write_payload(keys, records)


def world_of_keys(count: int) -> tuple[World, list[bytes], list[bytes]]:
    """Return a world with one version of ``count`` keys on all nodes, the engine keys in order, and the records."""
    world = World(3)
    world.ask(0, "mput", keys=[b"%d" % number for number in range(count)], values=[b"old"] * count)
    world.time.run(1)
    found = dict(world.engines[1].scan(*ALL))
    return world, list(found), list(found.values())


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("damaged", DAMAGED)
def test_a_damaged_record_is_refused_whoever_vouches_for_it(damaged: bytes, count: int) -> None:
    world, keys, records = world_of_keys(count)
    broken = [*records[:-1], damaged]
    take(world, 1, write(keys, broken, judged_digest(write_payload(keys, broken), records)))
    assert dict(world.engines[1].scan(*ALL)) == dict(zip(keys, records, strict=True))
    assert world.nodes[1].metrics.peer_protocol_errors_total == 1
    assert world.ask(1, "get", key=b"0", r=1)["values"] == [b"old"]


@pytest.mark.parametrize("count", [1, 20])
def test_a_fitting_digest_stands_for_the_merge(count: int) -> None:
    """These records do not follow what they replace, which only a merge sees: so it shows whether there was one."""
    world, keys, records = world_of_keys(count)
    blind = [encode_one(entry(2, 1 + number), b"", 5, None, b"new") for number in range(count)]
    payload = write_payload(keys, blind)
    take(world, 1, write(keys, blind, judged_digest(payload, records)))
    assert [record for _, record in world.engines[1].scan(*ALL)] == blind
    for digest in (NO_DIGEST, judged_digest(payload, [None] * count), judged_digest(b"", records)):
        take(world, 2, write(keys, blind, digest))
        assert {sibling_count(record) for _, record in world.engines[2].scan(*ALL)} == {2}


@pytest.mark.parametrize("count", [1, 20])
def test_coordinators_vouch_for_what_they_merged(count: int) -> None:
    world = World(3)
    matched = 0

    def look(way: tuple[int, int], frames: list[bytes]) -> None:
        nonlocal matched
        for frame in frames:
            if way == (0, 1) and unpack_head(frame).kind == WRITE:
                keys, _ = read_write(frame, WRITE_HEAD_BYTES)
                present = world.engines[1].multi_get(keys)
                matched += frame[HEAD_BYTES:WRITE_HEAD_BYTES] == judged_digest(frame[WRITE_HEAD_BYTES:], present)

    world.network.tap = look
    keys = [b"%d" % number for number in range(count)]
    contexts = world.ask(0, "mput", keys=keys, values=[b"a"] * count)["ctxs"]
    world.time.run(1)
    world.ask(0, "mput", keys=keys, values=[b"b"] * count, ctxs=contexts)
    world.time.run(1)
    world.send_together(0, [{"op": "put", "key": b"0", "value": value} for value in (b"c", b"d")])
    world.time.run(1)
    assert matched == 3
    for node in range(3):
        assert sorted(world.ask(node, "get", key=b"0", r=1)["values"]) == [b"b", b"c", b"d"]


@pytest.mark.parametrize("count", [1, 20])
def test_no_flipped_bit_makes_an_unsound_record(count: int) -> None:
    world, keys, _ = world_of_keys(count)
    contexts = world.ask(0, "mget", keys=[b"%d" % number for number in range(count)])["ctxs"]
    sent: list[bytes] = []
    world.network.tap = lambda way, frames: sent.extend(frames if way == (0, 2) else [])
    world.network.cut = {(0, 2): None}
    names = [b"%d" % number for number in range(count)]
    world.send(0, "mput", keys=names, values=[b"new"] * count, ctxs=contexts)
    world.time.run(0.01)
    (frame,) = [frame for frame in sent if unpack_head(frame).kind == WRITE]
    before = dict(world.engines[2].scan(*ALL))
    assert list(before) == keys
    for bit in range(0, 8 * len(frame), 1 if count == 1 else 37):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        world.deliver(2, partial(_arrive, bytes(damaged)))
        assert all_sound(record for _, record in world.engines[2].scan(*ALL)), bit
        world.engines[2].apply(list(before), list(before.values()))


def _arrive(frame: bytes, tick: Tick) -> None:
    tick.frames.append((NodeIndex(0), frame))


def test_a_record_longer_than_honest_nodes_make_them_is_refused() -> None:
    world, keys, records = world_of_keys(1)
    for count in (4096, 4097):
        long = assemble([encode_one(entry(2, 1 + number), b"", 5, None, b"")[3:] for number in range(count)])
        take(world, 1, write(keys, [long], judged_digest(write_payload(keys, [long]), records)))
    assert sibling_count(world.engines[1].multi_get(keys)[0] or b"") == 4096
    assert world.nodes[1].metrics.peer_protocol_errors_total == 1


def test_more_siblings_than_a_record_holds_are_an_error_not_the_end() -> None:
    world, keys, _ = world_of_keys(1)
    for node, count in ((0, 65_535), (1, 4000)):
        many = [encode_one(entry(7 + node, 1 + number), b"", 5, None, b"")[3:] for number in range(count)]
        world.engines[node].apply(keys, [assemble(many)])
        world.engines[node].commit()
    assert world.ask(0, "put", key=b"0", value=b"blind")["error"]["code"] == "too_many_siblings"
    assert world.ask(0, "get", key=b"0", r=3)["error"]["code"] == "too_many_siblings"
    assert world.ask(0, "scan", r=3)["error"]["code"] == "too_many_siblings"
    assert world.ask(0, "ping")["ok"]
