"""Raft groups' logs in RocksDB agree with a model, whatever is truncated, trimmed, forgotten, refused or cut off."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from kvbus.runtime.os_disk import OsFolder
from kvbus_storage.options import EngineOptions
from kvbus_storage.rocks.opening import open_rocks
from tests.rocks_images import copy_at_rest
from tests.unit.test_raft_log import Model, act, check

_OPTIONS = EngineOptions(memory_bytes=1 << 20)


@pytest.mark.parametrize("seed", range(4))
def test_logs_agree_with_a_model_whatever_happens_between(tmp_path: Path, seed: int) -> None:
    rng = Random(seed)
    place = tmp_path / "0"
    place.mkdir()
    engine = open_rocks(OsFolder(place), _OPTIONS)
    models = {group: Model() for group in (1, 2, 3)}
    durable = {group: model.copy() for group, model in models.items()}
    for step in range(200):
        group = rng.choice((1, 1, 1, 2, 2, 3))
        act(rng, engine, group, models[group])
        if rng.random() < 0.05:
            engine.raft_log.trim(group, engine.raft_log.last_index(group) + 5, 99)
            models[group].offset += len(models[group].entries) + 5
            models[group].offset_term = 99
            models[group].terms, models[group].entries = [], []
        if rng.random() < 0.03:
            engine.raft_log.forget(3)
            engine.purge([b"g3"])
            models[3] = Model()
        if rng.random() < 0.4:
            engine.commit()
            durable = {number: model.copy() for number, model in models.items()}
        check(engine, models)
        if rng.random() < 0.05:
            if rng.random() < 0.5:
                engine.close()
                durable = models
            image = tmp_path / str(step + 1)
            copy_at_rest(place, image)
            place = image
            engine = open_rocks(OsFolder(place), _OPTIONS)
            models = {number: model.copy() for number, model in durable.items()}
            check(engine, models)
    engine.close()
