"""The file system goes down under an engine that writes, as in a power cut: what was synced is there afterwards.

ext4's shutdown without a flush of its journal loses whatever was not synced, files' names included.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from random import Random
from time import monotonic, sleep

import pytest

from kvbus.local.process import send_signal
from tests.live.command_server import environment
from tests.live.engine_process import EngineProcess, Line, check_folder
from tests.live.private_mounts import PrivateMounts, make_image, need_images
from tests.live.written_keys import WrittenKeys

SEED = 20_261_124
_SHUTDOWN = 0x8004587D
_WITHOUT_JOURNAL_FLUSH = struct.pack("I", 2)
_IMAGE_BYTES = 96 << 20
_MOST_FLUSHES = 12
_EXIT_SECONDS = 10.0
_GONE_SECONDS = 10.0

# Somebody's test run that is killed while an image is mounted and an engine writes to it.
_OWNER = """
import json, sys
from pathlib import Path
from tests.live.engine_process import EngineProcess
from tests.live.private_mounts import PrivateMounts, make_image

place = Path(sys.argv[1])
mounts = PrivateMounts()
make_image(place / "image", 32 << 20)
(place / "mounted").mkdir()
mounts.mount_image(place / "image", place / "mounted")
process = EngineProcess(place / "mounted" / "data", place / "output", mounts.within)
process.wait_until_written(flushes=1)
print(json.dumps([process.pid, *process.workers()]), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True, scope="module")
def machine() -> None:
    """Skip where no image can be mounted, with the reason."""
    need_images()


def shut_down(folder: Path) -> None:
    """Stop the ext4 file system of ``folder`` at once: it writes nothing any more."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(descriptor, _SHUTDOWN, _WITHOUT_JOURNAL_FLUSH)
    finally:
        os.close(descriptor)


def loop_devices(image: Path) -> list[str]:
    """Return the loop devices behind which ``image`` is."""
    backing = Path("/sys/block").glob("loop*/loop/backing_file")
    return [str(file) for file in backing if file.read_text(encoding="utf-8").strip() == str(image)]


def _one_life(mounts: PrivateMounts, mounted: Path, output: Path, random: Random) -> Line:
    """Run a writer on the mounted image until the file system goes down under it; return its last line."""
    process = EngineProcess(mounted / "data", output, mounts.within)
    try:
        process.wait_until_written(random.randrange(_MOST_FLUSHES))
        sleep(random.uniform(0.0, 0.05))
        shut_down(mounts.view(mounted))
        code = process.wait(_EXIT_SECONDS)
        assert code == 1, f"the writer ended with {code}: {process.errors}"
        return process.line()
    finally:
        process.clear()


def _run_rounds(place: Path, rounds: int) -> None:
    random, begun = Random(SEED), monotonic()
    image, mounted = place / "image", place / "mounted"
    mounted.mkdir()
    make_image(image, _IMAGE_BYTES)
    keys = WrittenKeys()
    stored = flushes = compactions = 0
    for _ in range(rounds):
        with PrivateMounts() as mounts:
            mounts.mount_image(image, mounted)
            line = _one_life(mounts, mounted, place / "output", random)
            mounts.unmount(mounted)
            mounts.mount_image(image, mounted)
            stored = check_folder(mounts.view(mounted) / "data", keys, max(line.number, stored))
            mounts.unmount(mounted)
        flushes, compactions = flushes + line.flushes, compactions + line.compactions
    print(
        f"{rounds} rounds in {monotonic() - begun:.0f} s: {stored} numbers, {flushes} flushes, "
        f"{compactions} compactions; seed {SEED}"
    )
    assert loop_devices(image) == []
    assert stored > 100 * rounds
    assert flushes > rounds
    assert compactions > rounds // 2


def test_acknowledged_numbers_survive_five_shutdowns_of_the_file_system(tmp_path: Path) -> None:
    _run_rounds(tmp_path, 5)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_acknowledged_numbers_survive_a_hundred_shutdowns_of_the_file_system(tmp_path: Path) -> None:
    _run_rounds(tmp_path, 100)


def test_what_was_not_synced_is_lost_in_a_shutdown(tmp_path: Path) -> None:
    """The fault is real: otherwise the tests above would prove nothing."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    make_image(tmp_path / "image", 16 << 20)
    with PrivateMounts() as mounts:
        mounts.mount_image(tmp_path / "image", mounted)
        view = mounts.view(mounted)
        with (view / "synced").open("wb") as file:
            file.write(b"synced")
            file.flush()
            os.fsync(file.fileno())
        (view / "unsynced").write_bytes(b"unsynced")
        shut_down(view)
        mounts.unmount(mounted)
        mounts.mount_image(tmp_path / "image", mounted)
        assert sorted(path.name for path in view.iterdir()) == ["lost+found", "synced"]
        assert (view / "synced").read_bytes() == b"synced"
        mounts.unmount(mounted)


def test_nothing_stays_mounted_when_the_tests_are_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", _OWNER, str(tmp_path)]
    with subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        writer, *workers = json.loads(owner.stdout.readline())
        assert len(workers) == 1
        assert len(loop_devices(tmp_path / "image")) == 1
        owner.send_signal(signal.SIGKILL)
    try:
        give_up = monotonic() + _GONE_SECONDS
        while loop_devices(tmp_path / "image") or Path(f"/proc/{writer}").exists():
            assert monotonic() < give_up, f"left: {loop_devices(tmp_path / 'image')}"
            sleep(0.02)
    finally:
        for worker in workers:
            send_signal(worker, signal.SIGKILL)
