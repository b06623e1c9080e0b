"""A real process writes, is killed at random moments, and nothing that it acknowledged is gone."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from kvbus.runtime.os_disk import OsDisk
from kvbus_storage import open_engine
from kvbus_storage.options import EngineOptions

_ROUNDS = 10
_KEYS = 50

_WRITER = """
import sys
from kvbus.runtime.os_disk import OsDisk
from kvbus_storage.options import EngineOptions
from kvbus_storage import open_engine

engine = open_engine(OsDisk(sys.argv[1]), EngineOptions(segment_bytes=1 << 16, rewrite_ratio=2))
lsn = engine.applied_lsn
while True:
    for _ in range(3):
        number = int.from_bytes(engine.get(b"last") or b"", "big") + 1
        keys = [b"last", b"k%d" % (number % 50)]
        lsn = engine.apply(keys, [number.to_bytes(8, "big"), b"%d;" % number * 40])
    engine.commit()
    engine.flush_due()
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def _acknowledged(output: bytes) -> int:
    """Return the newest number in ``output``; a line that the kill cut short does not count."""
    lines = output[: output.rfind(b"\n") + 1].split()
    return int(lines[-1]) if lines else 0


@pytest.mark.parametrize("seed", [1])
def test_acknowledged_batches_survive_kills(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    folder = tmp_path / "data"
    acknowledged = 0
    for _ in range(_ROUNDS):
        child = subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{_WRITER}", str(folder)],
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        head = child.stdout.readline()
        try:
            rest, _ = child.communicate(timeout=random.uniform(0.0, 0.25))
        except subprocess.TimeoutExpired:
            child.kill()
            rest, _ = child.communicate()
        assert child.returncode == -signal.SIGKILL, head + rest
        acknowledged = max(acknowledged, _acknowledged(head + rest))
        disk = OsDisk(folder)
        engine = open_engine(disk, EngineOptions(rewrite_ratio=1000))
        stored = int.from_bytes(engine.get(b"last") or b"", "big")
        assert stored >= acknowledged
        for number in range(max(stored - _KEYS, 0) + 1, stored + 1):
            assert engine.get(b"k%d" % (number % _KEYS)) == b"%d;" % number * 40
        engine.close()
        disk.close()
    assert acknowledged > _ROUNDS
