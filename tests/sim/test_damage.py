"""A table with a damaged block: what stood there is asked of others, never served wrong, and repaired from them."""

from __future__ import annotations

from typing import cast

import pytest

from kvbus.client.replies import GetReply
from kvbus.errors import Corrupt
from kvbus.sim.client import SimClient
from tests.sim.flushed import KEYS, damage, flushed


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


@pytest.mark.parametrize("nodes", [1, 3])
def test_only_the_damaged_keys_of_a_batch_fail(nodes: int) -> None:
    world = flushed(nodes, random_bytes=1000)
    for name in world.names:
        damage(world, name, 0.2)
    with world.client("n1") as client:
        alone = {key: outcome(client, key) for key in KEYS}
        together = client.get_many(KEYS)
    assert 0 < list(alone.values()).count("corrupt") < len(KEYS)
    for key, found in zip(KEYS, together, strict=True):
        assert ("corrupt" if isinstance(found, Corrupt) else cast("GetReply", found).value) == alone[key]
    assert sum(process.metrics.damaged_reads_total for process in world.processes.values()) > 0
    told = {outcome for process in world.processes.values() for _, _, outcome in process.metrics.request_seconds}
    assert "too_large" not in told


def outcome(client: SimClient, key: bytes) -> bytes | str:
    try:
        return client.get(key).value or b""
    except Corrupt:
        return "corrupt"


@pytest.mark.parametrize(("nodes", "seconds"), [(1, 0.02), (3, 0.06)])
def test_damaged_keys_of_a_batch_are_told_apart_in_few_turns(nodes: int, seconds: float) -> None:
    world = flushed(nodes)
    for name in world.names:
        damage(world, name, 0.2)
    with world.client("n1") as client:
        assert outcome(client, KEYS[0]) == "corrupt"
        begun = world.timeline.now
        assert all(isinstance(found, Corrupt) for found in client.get_many(KEYS))
        assert world.timeline.now - begun < seconds
