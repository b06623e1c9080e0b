"""A table with a damaged block: what stood there is asked of others, never served wrong, and mended by a write."""

from __future__ import annotations

import pytest

from kvbus.errors import Corrupt
from kvbus.sim.world import World
from tests.sim.flushed import KEYS, flushed


def damage(world: World, name: str, share: float) -> None:
    """Flip a byte of each table of a node that is down, at ``share`` of its length, and start it again."""
    world.stop(name)
    world.timeline.run(10.0)
    tables = [file for path, file in world.processes[name].disk.files.items() if path.startswith("table-")]
    assert tables
    for file in tables:
        file.data[int(len(file.data) * share)] ^= 0xFF
    world.start(name)
    world.settle()


@pytest.mark.parametrize("share", [0.2, 0.9, 0.999])
def test_a_damaged_copy_is_not_served_and_the_others_answer(share: float) -> None:
    world = flushed(3)
    damage(world, "n1", share)
    with world.client("n1") as client:
        for key in KEYS:
            found = client.get(key)
            assert found.values == [b"value of " + key]
        keys: list[bytes] = []
        for key, values, _ in client.scan(with_values=True):
            keys.append(key)
            assert values == [b"value of " + key]
        assert sorted(keys) == KEYS


def test_where_no_intact_copy_is_left_the_client_hears_of_the_damage_and_a_write_mends_it() -> None:
    world = flushed(1)
    damage(world, "n1", 0.2)
    with world.client("n1") as client:
        refused: dict[bytes, str] = {}
        for key in KEYS:
            try:
                found = client.get(key).values
            except Corrupt as error:
                refused[key] = str(error)
                continue
            assert found == [b"value of " + key]
        assert refused
        assert all("table-" in message for message in refused.values())
        for key in refused:
            client.put(key, b"new")
            assert client.get(key).values == [b"new"]
        with pytest.raises(Corrupt):
            list(client.scan())
