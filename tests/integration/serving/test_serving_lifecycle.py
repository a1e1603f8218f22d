"""`python -m serving` as a user runs it: start, predict, stop, kill; no process or file is left behind."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from serving.torchserve import launch
from tests.support.model_archive import CLASSES, NAME, ROOT, VERSION, archive, picture, png, write_model

SERVING = [sys.executable, "-m", "serving"]


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes with the tiny model deployed."""
    volumes = tmp_path_factory.mktemp("volumes")
    mar = archive(write_model(tmp_path_factory.mktemp("model")), volumes / "deploy-model/model-store/quarters_1.mar")
    pointer = {"name": NAME, "version": VERSION, "mar": mar.name}
    pointer["sha256"] = hashlib.sha256(mar.read_bytes()).hexdigest()
    (volumes / "deploy-model/current.json").write_text(json.dumps(pointer))
    return volumes


class Start:
    """`python -m serving start` on a free port, with its own folder for temporary files."""

    def __init__(self, volumes: Path, temporary: Path, log: Path) -> None:
        [self.port, *_] = launch.free_ports()
        self.temporary = temporary
        environment = {**os.environ, "VOLUMES": str(volumes), "TMPDIR": str(temporary)}
        environment.pop("XDG_RUNTIME_DIR", None)
        self.process = subprocess.Popen(
            [*SERVING, "start", "--port", str(self.port), "--log", log],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until_ready(self) -> str:
        assert self.process.stdout is not None
        return "".join(self.process.stdout.readline() for _ in range(5))

    def children(self) -> list[psutil.Process]:
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def until_worker(self) -> list[psutil.Process]:
        """The processes as soon as there is a worker, which is still importing."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(psutil.NoSuchProcess):
                children = self.children()
                if [child for child in children if "model_service_worker.py" in " ".join(child.cmdline())]:
                    return children
            time.sleep(0.01)
        pytest.fail("no worker was started")


@pytest.fixture
def start(volumes: Path, tmp_path: Path) -> Iterator[Start]:
    with TemporaryDirectory(prefix="t-") as temporary:  # a path short enough for sockets
        started = Start(volumes, Path(temporary), tmp_path / "torchserve.log")
        yield started
        started.process.kill()
        started.process.communicate()


def gone(processes: list[psutil.Process], within: float) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if not [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]:
            return True
        time.sleep(0.02)
    return False


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SERVING, *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_start_predict_and_stop(start: Start, volumes: Path, tmp_path: Path) -> None:
    said = start.until_ready()
    url = f"http://127.0.0.1:{start.port}/predictions/{NAME}"
    assert said.startswith(f"starting {NAME} {VERSION} (log: ")
    page = f"http://127.0.0.1:{start.port}/"
    assert f": {NAME} {VERSION}, try it at {page}\n  curl -T digit.png {url}\n" in said

    image = tmp_path / "image.png"
    image.write_bytes(png(picture(2)))
    asked = run("predict", image, "--port", start.port, "--volumes", volumes)
    assert asked.stdout.splitlines() == [
        f"label       {CLASSES[2]}",
        "distance    0.0000",
        "by features 0.0000",
        f"neighbours  {CLASSES[2]}  0.0000  gallery image 8",
        f"            {CLASSES[2]}  0.0002  gallery image 7",
        f"            {CLASSES[2]}  0.0016  gallery image 6",
        f"model       {NAME} {VERSION}",
    ]
    assert json.loads(run("predict", image, "--url", url, "--json").stdout)["label"] == CLASSES[2]

    image.write_bytes(b"no image")
    refused = run("predict", image, "--url", url)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"error: {image}: not-an-image: 8 bytes")
    unknown = run("predict", image, "--url", url.replace(NAME, "other"))
    assert (unknown.returncode, unknown.stderr) == (
        2,
        f"error: {image}: there is nothing at this path: predictions are at /predictions/{NAME}\n",
    )

    second = run("start", "--port", start.port, "--volumes", volumes)
    assert second.returncode == 2
    assert second.stderr.startswith(f"error: port {start.port} of 127.0.0.1 cannot be used (Address already in use)")

    children = start.children()
    assert len(children) == 7, "Java and two workers, nginx's two processes, a watchdog of each"
    start.process.send_signal(signal.SIGINT)
    output, error = start.process.communicate(timeout=15)
    assert (start.process.returncode, output, error) == (0, "stopped\n", "")
    assert gone(children, within=0.5)
    assert list(start.temporary.iterdir()) == []


@pytest.mark.slow
def test_all_processes_end_with_a_killed_parent(start: Start) -> None:
    children = start.until_worker()
    assert list(start.temporary.iterdir())
    start.process.kill()
    assert gone(children, within=3)
    assert list(start.temporary.iterdir()) == []


@pytest.mark.slow
def test_sigterm_during_the_start_stops_it(start: Start) -> None:
    children = start.until_worker()
    start.process.terminate()
    output, error = start.process.communicate(timeout=15)
    assert (start.process.returncode, output.splitlines()[1:], error) == (0, ["stopped"], "")
    assert gone(children, within=0.5)
    assert list(start.temporary.iterdir()) == []
