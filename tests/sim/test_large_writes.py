"""Writes of more bytes than one frame may have: they go in several, and every one is counted by itself."""

from __future__ import annotations

from kvbus.core.request import ClientOrigin
from kvbus.core.tick import Tick
from kvbus.ports.mode import Limits
from kvbus.wire.cbor import dumps
from kvbus.wire.client_requests import Intake, ServedKeyspace
from kvbus.wire.peer_frames import unpack_head
from kvbus_modes.ap.frames import WRITE
from kvbus_modes.ap.mode import OPERATIONS
from tests.sim.copies import store, version
from tests.sim.world import World

MIB = 1 << 20


def test_a_batch_whose_records_pass_a_frame_is_stored_everywhere() -> None:
    world = World(3)
    keys = [b"%d" % number for number in range(40)]
    for node in range(3):
        store(world, node, {key: version(bytes(MIB)) for key in keys})
    sizes: list[int] = []

    def tap(way: tuple[int, int], frames: list[bytes]) -> None:
        sizes.extend(len(frame) for frame in frames if unpack_head(frame).kind == WRITE)

    world.network.tap = tap
    reply = world.ask(0, "mput", keys=keys, values=[b"small"] * 40, w=3)
    assert reply["ok"]
    assert not reply["errors"]
    assert sum(sizes) > 80 * MIB
    assert max(sizes) <= 9 * MIB
    for key in keys:
        assert sorted(map(len, world.ask(1, "get", key=key, r=3)["values"])) == [5, MIB]


def test_a_key_in_both_halves_of_a_long_tick_is_counted_once() -> None:
    world = World(3)
    keys = [b"%d" % number for number in range(10)]
    for node in range(3):
        store(world, node, {key: version(bytes(MIB)) for key in keys})

    def fill(tick: Tick) -> None:
        intake = Intake({"default": ServedKeyspace("ap", "ctx", OPERATIONS)}, Limits())
        for number in range(2):
            body = dumps({"id": number, "op": "mput", "keys": keys, "values": [b"%d" % number] * 10})
            intake.add(ClientOrigin(b"client", False), body)
        intake.hand_over(tick)

    world.deliver(0, fill)
    world.time.run(0.1)
    engine = world.engines[0]
    held = sum(len(key) + len(record) for key, record in engine.scan(b"", b"\xff" * 8))
    assert engine.stats()["memtable_bytes"] == held
