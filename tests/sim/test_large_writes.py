"""Writes of more bytes than one frame may have: they go in several, and every one is counted by itself."""

from __future__ import annotations

from kvbus.wire.peer_frames import unpack_head
from kvbus_modes.ap.frames import WRITE
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
