"""Full, read-only and missing disks: log lines and switches fail, predictions do not."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from tests.support.model_archive import ROOT
from tests.support.serving_start import ONE, TWO, Start, Volumes, deployed

root = pytest.mark.skipif(
    not shutil.which("mount") or os.geteuid() != 0, reason="needs root, to mount a small file system"
)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Volumes:
    return deployed(tmp_path_factory.mktemp("volumes"))


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file system of 4 MiB, in a folder with a path short enough for sockets."""
    with TemporaryDirectory(prefix="d-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "small", folder], check=True)
        yield Path(folder)
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path, spare: int = 0) -> None:
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(file.tell() - spare, 0))


@root
@pytest.mark.slow
def test_a_full_disk_fails_log_lines_and_a_switch_but_no_prediction(one: Volumes, disk: Path, tmp_path: Path) -> None:
    one.add(TWO)
    with Start(one.root, tmp_path, temporary=disk / "t", log=disk / "log") as start:
        workers = [each.pid for each in start.until_ready().workers()]
        fill(disk)
        for _ in range(200):
            assert start.serves(ONE)
        for kind in ("text/plain", "application/json", "multipart/form-data; boundary=x"):
            assert start.predict(headers={"Content-Type": kind})[0] in (400, 415)
        assert start.probe() == 0
        one.point(TWO)
        try:
            start.until(lambda: f"; {ONE} is still served" in start.errors())
            print(start.errors()[:600])
            assert start.serves(ONE)
            assert start.probe() == 0
            assert [each.pid for each in start.workers()] == workers
        finally:
            one.point(ONE)
            (disk / "filler").unlink()


COUNT = """
from serving.model.telemetry import Telemetry
from types import SimpleNamespace as Answer
telemetry = Telemetry("1")
with open("filler", "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
for number in range(60):
    answer = Answer(status=200, rule=None, predictions=[(f"label {number}", 0.1, ())])
    telemetry.record([answer], [("a", "")], 0.1, [""])
"""


@root
def test_metrics_on_a_full_disk_do_not_kill_the_worker(disk: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(disk), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", COUNT], cwd=disk, env=environment, check=False)
    assert done.returncode == 0, "SIGBUS: a page of a memory-mapped file had no disk space"


@root
@pytest.mark.slow
def test_start_on_a_full_disk_reports_it(one: Volumes, disk: Path, tmp_path: Path) -> None:
    (disk / "t").mkdir()
    fill(disk, spare=3 * 4096)  # with no space at all Python chooses another folder
    with Start(one.root, tmp_path, temporary=disk / "t") as start:
        assert start.until_ended() == 1
        print(start.errors()[:600])
        assert start.errors().startswith("error: ")
        assert "No space left on device" in start.errors()
        assert "Traceback" not in start.errors().split("the end of its log")[0]
        assert "ready" not in start.output()


@root
@pytest.mark.slow
def test_serving_continues_on_a_read_only_or_missing_volume(disk: Path, tmp_path: Path) -> None:
    volumes = Volumes(disk / "volumes")
    for version in (ONE, TWO):
        volumes.add(version)
    volumes.point(ONE)
    with Start(volumes.root, tmp_path) as start:
        start.until_ready()
        volumes.point(TWO)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        start.until(lambda: f"switched from {ONE} to {TWO}" in start.output())
        assert start.serves(TWO)
        subprocess.run(["mount", "-t", "tmpfs", "none", disk], check=True)  # an empty file system over it
        try:
            start.until(lambda: f"; {TWO} is still served" in start.errors())
            print(start.errors())
            assert start.serves(TWO)
            assert start.probe() == 0
        finally:
            subprocess.run(["umount", "-l", disk], check=True)
        assert psutil.pid_exists(start.process.pid)
        assert start.serves(TWO)
