"""The engine over RocksDB in real processes: a cluster that is killed, and a disk that is full for a while."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kvbus.client import Client
from kvbus.errors import ClientError
from tests.live.local_cluster import local_cluster

_KEYS = [b"rocks-%03d" % number for number in range(200)]
_ENTER = ("unshare", "--mount", "--map-root-user")

_UNTIL_FULL = """
import json, os, signal, subprocess, sys
from time import monotonic, sleep
from kvbus.errors import ReadOnly
from kvbus.runtime.os_disk import OsFolder
from kvbus_storage.options import EngineOptions
from kvbus_storage.rocks.opening import open_rocks

place = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "kvbus-test", place], check=True)

def opened():
    return open_rocks(OsFolder(place), EngineOptions(memory_bytes=1 << 20))

def put(engine, number):
    engine.apply([b"k%d" % number], [b"%d" % number * 2000])
    log = engine.raft_log
    log.append(1, log.last_index(1) + 1, [1], [b"entry"])
    engine.commit()

def fill_disk():
    with open(place + "/ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            pass

def fill():
    engine = opened()
    for number in range(50):
        put(engine, number)
    fill_disk()
    for number in range(50, 5000):
        try:
            put(engine, number)
        except ReadOnly:
            return engine, number
    raise AssertionError("the disk is not full")

def check(engine, refused):
    assert engine.applied_lsn == engine.durable_lsn == 2 * refused
    assert engine.raft_log.last_index(1) == refused
    assert engine.get(b"k%d" % refused) is None
    for number in range(refused):
        assert engine.get(b"k%d" % number) == b"%d" % number * 2000
"""

_MENDED = """
engine, refused = fill()
check(engine, refused)
for attempt in (lambda: put(engine, 1), lambda: engine.purge([b"k1"]), lambda: engine.drop_range(b"a", b"z")):
    try:
        attempt()
    except ReadOnly:
        continue
    raise AssertionError("a write was taken on a full disk")
assert engine.commit() == 2 * refused
check(engine, refused)
assert (engine.stats()["read_only"], engine.stats()["failed_batches"]) == (1, 2)
os.truncate(place + "/ballast", 0)
give_up = monotonic() + 60
while engine.stats()["read_only"]:
    assert monotonic() < give_up
    engine.commit()
    sleep(0.05)
put(engine, refused)
engine.close()
check(opened(), refused + 1)
"""

_KILLED = """
reader, writer = os.pipe()
child = os.fork()
if not child:
    engine, refused = fill()
    os.write(writer, json.dumps(refused).encode())
    os.kill(os.getpid(), signal.SIGKILL)
assert os.waitpid(child, 0)[1] == signal.SIGKILL
refused = json.loads(os.read(reader, 100))
os.truncate(place + "/ballast", 0)
engine = opened()
check(engine, refused)
put(engine, refused)
check(engine, refused + 1)
"""


def test_what_a_cluster_over_rocksdb_acknowledged_survives_the_death_of_all_its_nodes(tmp_path: Path) -> None:
    with local_cluster(tmp_path / "cluster", settings='[storage]\nengine = "rocks"\n') as cluster:
        with Client(cluster.addresses) as client:
            for reply in client.put_many([(key, b"first " + key) for key in _KEYS], w=3):
                assert not isinstance(reply, ClientError), reply
        for name in cluster.names:
            assert (cluster.folder / name / "data/rocks/CURRENT").exists()
            assert cluster.metric(name, "kvbus_log_bytes") > 0
            cluster.kill(name)
        cluster.restore()
        for name in cluster.names:
            with Client([cluster.node(name).client], routing="direct") as client:
                for key, found in zip(_KEYS, client.get_many(_KEYS, r=1), strict=True):
                    assert not isinstance(found, ClientError), found
                    assert list(found.values) == [b"first " + key]
                client.put(b"rocks-" + name.encode(), b"second")
                assert client.get(b"rocks-" + name.encode()).values == [b"second"]


@pytest.fixture
def enclosure(tmp_path: Path) -> Path:
    """Give a folder on which a process of its own may mount a small disk."""
    if (
        shutil.which("unshare") is None
        or subprocess.run([*_ENTER, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no mount namespace of its own: start as root, in a container with --privileged")
    return tmp_path


@pytest.mark.parametrize("then", [_MENDED, _KILLED], ids=["mended", "killed"])
def test_a_full_disk_refuses_writes_until_there_is_space_and_loses_nothing(enclosure: Path, then: str) -> None:
    command = [*_ENTER, sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{_UNTIL_FULL}{then}"]
    run = subprocess.run([*command, str(enclosure)], capture_output=True, text=True, check=False, timeout=100)
    assert run.returncode == 0, run.stderr
    assert os.listdir(enclosure) == []
