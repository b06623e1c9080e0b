"""A node's disk is full: it takes no writes, it goes on reading, and it goes on writing when there is space again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from time import monotonic, sleep

import pytest

from kvbus.client import Client
from kvbus.errors import ClientError, ReadOnly
from tests.live.placed_nodes import PlacedNodes, placed_nodes
from tests.live.private_mounts import PrivateMounts, make_image, need_images, need_mounts
from tests.live.told_versions import ToldVersions

# So little that flushes and compactions run all the time, and so much that it is the log's append that fails.
_MUCH_UPKEEP = '[storage]\nmemory_budget = "1MiB"\n'
_NO_UPKEEP = '[storage]\nmemory_budget = "256MiB"\n'
_DISK_BYTES = 48 << 20
_BATCH = 64
_VALUE_BYTES = 300
_FILL_SECONDS = 30.0
_RECOVERY_SECONDS = 5.0
_CYCLES = 4
_BATCHES_MEANWHILE = 20
_FEW_KEYS = 300
_ALL_KEYS_AGAIN = _FEW_KEYS // _BATCH + 1
_BALLAST = "ballast"


class Disk:
    """The small file system below a node's data directory."""

    def __init__(self, mounts: PrivateMounts, folder: Path) -> None:
        self.mounts = mounts
        self._view = mounts.view(folder)
        self._ballast: list[Path] = []

    def fill(self, leave_bytes: int) -> None:
        """Leave no more than so many bytes free; the node writes meanwhile, so the first try may be too much."""
        ballast = self._view / f"{_BALLAST}-{len(self._ballast)}"
        self._ballast.append(ballast)
        with ballast.open("wb") as file:
            while True:
                found = os.statvfs(self._view)
                free_bytes = found.f_bavail * found.f_frsize
                if free_bytes <= leave_bytes:
                    return
                with suppress(OSError):
                    os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size + free_bytes - leave_bytes)

    def make_room(self) -> None:
        """Free what was filled."""
        for ballast in self._ballast:
            ballast.unlink()
        self._ballast.clear()


class Writer:
    """Writes its keys round and round through one node.

    It replaces what the last acknowledged put of the key has left; a ``blind`` one knows nothing of earlier puts, so
    that its values are siblings.
    """

    def __init__(self, client: Client, name: bytes, keys: int, *, blind: bool = False) -> None:
        self._client = client
        self._name = name
        self._keys = keys
        self._blind = blind
        self._number = 0
        self._contexts: dict[bytes, bytes | None] = {}
        self.versions = ToldVersions()
        # The values that must be there, and those whose puts have an outcome that nobody knows.
        self.acknowledged: dict[bytes, set[bytes]] = {}
        self.unknown: dict[bytes, set[bytes]] = {}

    def write(self, w: int | None = None) -> list[ClientError]:
        """Put a batch; return its errors."""
        items: list[tuple[bytes, bytes, bytes | None]] = []
        for number in range(self._number, self._number + _BATCH):
            key = self._name + b"-%d" % (number % self._keys)
            # Random, so that tables do not shrink it.
            items.append((key, Random(number).randbytes(_VALUE_BYTES), self._contexts.get(key)))
        self._number += _BATCH
        errors: list[ClientError] = []
        replies = self._client.put_many(items, w=w, deadline_ms=1000)
        for (key, value, ctx), reply in zip(items, replies, strict=True):
            if isinstance(reply, ClientError):
                errors.append(reply)
                if not reply.definite:
                    self.unknown.setdefault(key, set()).add(value)
                continue
            self.versions.note(key, value, ctx, reply.ctx)
            if self._blind:
                self.acknowledged.setdefault(key, set()).add(value)
            else:
                self.acknowledged[key], self._contexts[key] = {value}, reply.ctx
        return errors

    def write_until(self, done: Callable[[list[ClientError]], bool], limit_seconds: float) -> float:
        """Put batches until the errors of one are as wished; return after how many seconds."""
        begun = monotonic()
        while not done(errors := self.write()):
            assert monotonic() - begun < limit_seconds, f"after {limit_seconds} s: {errors[:1]}"
            sleep(0.01 if errors else 0)
        return monotonic() - begun

    def check(self, client: Client, r: int | None = None) -> None:
        """See that every acknowledged value can be read, and nothing that was refused."""
        for key, reply in zip(self.acknowledged, client.get_many(self.acknowledged, r=r), strict=True):
            assert not isinstance(reply, ClientError), reply
            found, needed, unknown = set(reply.values), self.acknowledged[key], self.unknown.get(key, set())
            assert found <= needed | unknown, f"{len(found - needed - unknown)} values at {key!r} are not its writer's"
            # A put of unknown outcome that was not blind may have replaced what was acknowledged before.
            replaced = bool(unknown) and not self._blind
            assert needed <= found or replaced, f"{len(needed - found)} of {len(needed)} values at {key!r} are gone"


def all_read_only(errors: Sequence[ClientError]) -> bool:
    """Say whether the whole batch was refused because the disk is full."""
    return len(errors) == _BATCH and all(isinstance(error, ReadOnly) and error.definite for error in errors)


def none(errors: Sequence[ClientError]) -> bool:
    """Say whether the whole batch was taken."""
    return not errors


@contextmanager
def small_disk(nodes: PlacedNodes, name: str, kind: str, image: Path) -> Iterator[Disk]:
    """Put a small file system below a node's data directory."""
    with PrivateMounts() as mounts:
        if kind == "ext4":
            make_image(image, _DISK_BYTES)
            mounts.mount_image(image, nodes.data(name))
        else:
            mounts.mount_memory(nodes.data(name), _DISK_BYTES)
        yield Disk(mounts, nodes.data(name))


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_full_node_reads_on_and_writes_again_when_there_is_space(kind: str, tmp_path: Path) -> None:
    need_images() if kind == "ext4" else need_mounts()
    with (
        placed_nodes(tmp_path / "cluster", 1, _MUCH_UPKEEP) as nodes,
        small_disk(nodes, "n1", kind, tmp_path / "image") as disk,
    ):
        nodes.start({"n1": disk.mounts.within})
        with nodes.client("n1") as client:
            writer = Writer(client, b"full", keys=30_000)
            writer.write_until(none, _RECOVERY_SECONDS)
            for leave_bytes in (2 << 20, 64 << 10):
                disk.fill(leave_bytes)
                writer.write_until(all_read_only, _FILL_SECONDS)
                assert nodes.stat("n1", "read_only") == 1
                writer.check(client)
                # Twice the pause between two looks for space: nothing may come to life or to harm without any.
                sleep(2.0)
                writer.write_until(all_read_only, _FILL_SECONDS)
                disk.make_room()
                seconds = writer.write_until(none, _RECOVERY_SECONDS)
                print(f"{kind}, {leave_bytes} bytes left: writes again after {seconds:.1f} s")
            flushes = nodes.stat("n1", "flushes")
            writer.write_until(lambda errors: nodes.stat("n1", "flushes") > flushes + 2, _FILL_SECONDS)
            writer.check(client)
            failures = nodes.stat("n1", "maintenance_failures")
            assert failures > 0
            print(f"{len(writer.versions)} puts, {failures} flushes or compactions failed")
        assert '"event": "fatal"' not in nodes.log("n1")
        nodes.kill("n1")
        nodes.start({"n1": disk.mounts.within})
        with nodes.client("n1") as client:
            writer.check(client)


def test_a_cluster_goes_on_while_one_node_is_full_and_no_version_is_given_twice(tmp_path: Path) -> None:
    need_mounts()
    with (
        placed_nodes(tmp_path / "cluster", 3, _NO_UPKEEP) as nodes,
        small_disk(nodes, "n1", "tmpfs", tmp_path / "image") as disk,
    ):
        within = disk.mounts.within
        nodes.start({"n1": within, "n2": within, "n3": within})
        with nodes.client("n1") as full, nodes.client("n2") as other:
            through_full, through_other = (
                Writer(full, b"one", keys=_FEW_KEYS, blind=True),
                Writer(other, b"two", keys=1000),
            )
            for cycle in range(_CYCLES):
                disk.fill(100 << 10)
                through_full.write_until(lambda errors: nodes.stat("n1", "read_only") == 1, _FILL_SECONDS)
                if cycle % 2:
                    # Otherwise nothing but the failed append itself tells the node to use its version numbers no more.
                    through_full.write_until(all_read_only, _RECOVERY_SECONDS)
                for _ in range(_BATCHES_MEANWHILE):
                    assert through_other.write(w=2) == []
                disk.make_room()
                nodes.wait_for_stat("n1", "read_only", 0)
                for _ in range(_ALL_KEYS_AGAIN):
                    assert through_full.write() == []
            for name in nodes.nodes:
                with nodes.client(name) as client:
                    through_full.check(client, r=2)
                    through_other.check(client, r=2)
        assert nodes.log("n1").count('"event": "read_only"') == _CYCLES, "an append failed in the middle of a write"
        print(f"{len(through_full.versions)} and {len(through_other.versions)} versions, none twice")
        assert all('"event": "fatal"' not in nodes.log(name) for name in nodes.nodes)


def test_a_full_node_stops_in_order(tmp_path: Path) -> None:
    need_mounts()
    with (
        placed_nodes(tmp_path / "cluster", 1, _NO_UPKEEP) as nodes,
        small_disk(nodes, "n1", "tmpfs", tmp_path / "image") as disk,
    ):
        nodes.start({"n1": disk.mounts.within})
        disk.fill(0)
        code = nodes.stop("n1")
        assert '"event": "stopped"' in nodes.log("n1")
        assert code == 0


def test_a_node_that_cannot_start_on_a_full_disk_says_so_and_starts_when_there_is_space(tmp_path: Path) -> None:
    need_mounts()
    with (
        placed_nodes(tmp_path / "cluster", 1, _NO_UPKEEP) as nodes,
        small_disk(nodes, "n1", "tmpfs", tmp_path / "image") as disk,
    ):
        nodes.start({"n1": disk.mounts.within})
        with nodes.client("n1") as client:
            writer = Writer(client, b"stop", keys=500)
            disk.fill(100 << 10)
            writer.write_until(all_read_only, _FILL_SECONDS)
            nodes.kill("n1")
            disk.fill(0)
            nodes.launch("n1", disk.mounts.within)
            assert nodes.wait_for_exit("n1") == 1
            assert "No space left on device" in nodes.log("n1").splitlines()[-1]
            disk.make_room()
            nodes.start({"n1": disk.mounts.within})
            writer.check(client)
            writer.write_until(none, _RECOVERY_SECONDS)
