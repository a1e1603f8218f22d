"""`python -m serving start` with broken things: never ready with the wrong model, never silent, and never worse off."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

import psutil
import pytest

from tests.support.model_archive import ROOT
from tests.support.serving_start import ONE, TWO, Start, Volumes, gone, labels, write_version

root = pytest.mark.skipif(not shutil.which("mount") or os.geteuid() != 0, reason="needs root, to mount a small disk")
BAD = "9999dddd"


def truncated(volumes: Volumes) -> None:
    volumes.add(BAD)
    volumes.point(BAD)
    mar = volumes.mar(BAD)
    mar.write_bytes(mar.read_bytes()[: mar.stat().st_size // 2])


def truncated_before_it_was_deployed(volumes: Volumes) -> None:
    truncated(volumes)
    volumes.point(BAD)


def broken_handler(volumes: Volumes) -> None:
    folder = write_version(volumes.root / "files", BAD)
    (folder / "handler.py").write_text("raise ImportError('libnothing.so.1 is missing')\n")
    volumes.add(BAD, folder)
    volumes.point(BAD)


def broken_network(volumes: Volumes) -> None:
    folder = write_version(volumes.root / "files", BAD)
    (folder / "network.onnx").write_bytes(b"no network")
    volumes.add(BAD, folder)
    volumes.point(BAD)


def wrong_model(volumes: Volumes) -> None:
    """Its archive says that it answers otherwise than it does."""
    folder = write_version(volumes.root / "files", BAD)
    golden = json.loads((folder / "golden.json").read_text())
    golden[0]["label"] = golden[1]["label"]
    (folder / "golden.json").write_text(json.dumps(golden))
    volumes.add(BAD, folder)
    volumes.point(BAD)


def another_version(volumes: Volumes) -> None:
    """Its archive is of another version than the pointer says."""
    volumes.add(BAD, write_version(volumes.root / "files", TWO))
    volumes.point(BAD)


def missing_archive(volumes: Volumes) -> None:
    volumes.point(BAD)


def no_pointer(volumes: Volumes) -> None:
    (volumes.volume / "current.json").unlink(missing_ok=True)


def half_a_pointer(volumes: Volumes) -> None:
    volumes.write_pointer('{"name": "quar')


def pointer_outside(volumes: Volumes) -> None:
    volumes.write_pointer(json.dumps({"name": "n", "version": BAD, "mar": "../../x.mar", "sha256": "0"}))


# With what `start` ends with, and what it says.
BROKEN: dict[Callable[[Volumes], None], tuple[int, str]] = {
    truncated: (2, f"{BAD}.mar has SHA-256 "),
    truncated_before_it_was_deployed: (1, f"{BAD}.mar is no archive of this project (BadZipFile("),
    broken_handler: (1, f"{BAD}.mar does not load; the end of its log, "),
    broken_network: (1, f"{BAD}.mar does not load; the end of its log, "),
    wrong_model: (1, f"version {BAD} found '{BAD} upper right'"),
    another_version: (1, f"{BAD}.mar is of version {TWO}, and not of {BAD}: run make run"),
    missing_archive: (2, f"{BAD}.mar, which cannot be read (No such file or directory): restore it"),
    no_pointer: (2, "nothing is deployed yet, "),
    half_a_pointer: (2, "current.json is damaged (JSONDecodeError("),
    pointer_outside: (2, "current.json is damaged, mar is '../../x.mar' and not letters, digits"),
}


@pytest.mark.slow
@pytest.mark.parametrize("breaks", BROKEN, ids=lambda breaks: breaks.__name__)
def test_start_says_what_is_wrong_and_is_never_ready(breaks: Callable[[Volumes], None], tmp_path: Path) -> None:
    volumes = Volumes(tmp_path / "volumes")
    breaks(volumes)
    with Start(volumes.root, tmp_path) as start:
        status = start.until_ended()
        print(start.complained().splitlines()[0])
        wanted, words = BROKEN[breaks]
        assert status == wanted
        assert start.complained().startswith("error: ")
        assert words in start.complained().splitlines()[0]
        assert "Traceback" not in start.complained().split("the end of its log")[0]
        assert "ready" not in start.said()
        assert start.probe() == 1
        assert list(start.temporary.iterdir()) == []


@pytest.fixture(scope="module")
def following(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Start, Volumes]]:
    volumes = Volumes(tmp_path_factory.mktemp("volumes"))
    volumes.add(ONE)
    volumes.point(ONE)
    with Start(volumes.root, tmp_path_factory.mktemp("server")) as start:
        yield start.until_ready(), volumes


@pytest.mark.slow
@pytest.mark.parametrize("breaks", BROKEN, ids=lambda breaks: breaks.__name__)
def test_a_running_server_keeps_its_version_and_says_why(
    breaks: Callable[[Volumes], None], following: tuple[Start, Volumes]
) -> None:
    start, volumes = following
    workers = [each.pid for each in start.workers()]
    said = len(start.complained())
    shutil.rmtree(volumes.root / "files", ignore_errors=True)
    volumes.mar(BAD).unlink(missing_ok=True)
    breaks(volumes)
    try:
        start.until(lambda: f"; {ONE} is still served" in start.complained()[said:])
        complaint = start.complained()[said:]
        print(complaint.splitlines()[0])
        assert BROKEN[breaks][1].partition("; the end")[0] in complaint
        assert complaint.startswith("error: ")
        assert start.serves(ONE)
        assert start.probe() == 0
        assert start.canaries() == [ONE]
        assert [each.pid for each in start.workers()] == workers
        logged = [
            line["message"] for line in start.logged() if line["level"] == "ERROR" and line["logger"] == "serving"
        ]
        assert logged[-1].strip() == complaint.strip()
        time.sleep(2.5)
        assert complaint == start.complained()[said:], "once is enough"
    finally:
        volumes.point(ONE)


@pytest.mark.slow
def test_after_all_that_a_good_version_is_taken(following: tuple[Start, Volumes]) -> None:
    start, volumes = following
    volumes.add(TWO)
    volumes.point(TWO)
    start.until(lambda: f"switched from {ONE} to {TWO}" in start.said())
    assert start.serves(TWO)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Volumes:
    volumes = Volumes(tmp_path_factory.mktemp("volumes"))
    volumes.add(ONE)
    volumes.point(ONE)
    return volumes


@pytest.mark.slow
def test_killed_workers_are_started_again_and_cost_no_more_than_they_held(one: Volumes, tmp_path: Path) -> None:
    with Start(one.root, tmp_path) as start, ThreadPoolExecutor(6) as clients:
        start.until_ready()
        before = start.workers()
        stop = Event()

        def ask_on(client: int) -> Counter[int | str]:
            answers: Counter[int | str] = Counter()
            while not stop.is_set():
                try:
                    status, answer, _ = start.predict(client % 4)
                except OSError as error:
                    answers[repr(error)] += 1
                else:
                    answers[status] += 1
                    assert status != 200 or answer["label"] == labels(ONE)[client % 4]
            return answers

        asked = [clients.submit(ask_on, client) for client in range(6)]
        try:
            time.sleep(0.5)
            before[0].kill()
            start.until(lambda: len({each.pid for each in start.workers()} - {each.pid for each in before}) == 1)
            time.sleep(5)
        finally:
            stop.set()
        answers = sum((each.result() for each in asked), Counter())
        print(f"a worker killed under load: {dict(answers)}")
        assert set(answers) <= {200, 500, 507}, "what TorchServe answers where its worker died with the request"
        assert answers[200] > 500
        assert answers.total() - answers[200] <= 16, "one batch, which the worker had taken"
        assert start.serves(ONE)
        assert start.probe() == 0


@pytest.mark.slow
def test_a_killed_server_is_an_error_and_leaves_nothing(one: Volumes, tmp_path: Path) -> None:
    with Start(one.root, tmp_path) as start:
        children = start.until_ready().children()
        [java] = [each for each in children if each.name() == "java"]
        java.kill()
        assert start.until_ended(20) == 1
        assert start.complained().startswith("error: TorchServe ended by itself with status -9; ")
        assert gone(children, within=2)
        assert start.probe("--live") == 1
        assert list(start.temporary.iterdir()) == []


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file system of 4 MiB, in a folder whose name leaves room for a socket's."""
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
def test_a_full_disk_costs_log_lines_and_a_switch_but_no_prediction(one: Volumes, disk: Path, tmp_path: Path) -> None:
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
            start.until(lambda: f"; {ONE} is still served" in start.complained())
            print(start.complained()[:600])
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
    telemetry.record([Answer(status=200, rule=None, predictions=[(f"label {number}", 0.1)])], [("a", "")], 0.1, [False])
"""


@root
def test_what_is_counted_on_a_full_disk_does_not_end_the_worker(disk: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(disk), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", COUNT], cwd=disk, env=environment, check=False)
    assert done.returncode == 0, "SIGBUS, where a page of the files that it maps has no room"


@root
@pytest.mark.slow
def test_start_on_a_full_disk_says_so(one: Volumes, disk: Path, tmp_path: Path) -> None:
    (disk / "t").mkdir()
    fill(disk, spare=3 * 4096)  # with none at all another folder is found
    with Start(one.root, tmp_path, temporary=disk / "t") as start:
        assert start.until_ended() == 1
        print(start.complained()[:600])
        assert start.complained().startswith("error: ")
        assert "No space left on device" in start.complained()
        assert "Traceback" not in start.complained().split("the end of its log")[0]
        assert "ready" not in start.said()


@root
@pytest.mark.slow
def test_a_volume_that_goes_read_only_or_away_is_served_from_all_the_same(disk: Path, tmp_path: Path) -> None:
    volumes = Volumes(disk / "volumes")
    for version in (ONE, TWO):
        volumes.add(version)
    volumes.point(ONE)
    with Start(volumes.root, tmp_path) as start:
        start.until_ready()
        volumes.point(TWO)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        start.until(lambda: f"switched from {ONE} to {TWO}" in start.said())
        assert start.serves(TWO)
        subprocess.run(["mount", "-t", "tmpfs", "none", disk], check=True)  # in its place nothing
        try:
            start.until(lambda: f"; {TWO} is still served" in start.complained())
            print(start.complained())
            assert start.serves(TWO)
            assert start.probe() == 0
        finally:
            subprocess.run(["umount", "-l", disk], check=True)
        assert psutil.pid_exists(start.process.pid)
        assert start.serves(TWO)
