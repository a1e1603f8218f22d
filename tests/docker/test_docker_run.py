"""The whole pipeline in containers: the same ids as in subprocesses, visible failures, and a served model."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.paths import ROOT
from pipeline.images.docker import UID
from tests.support.engine_tools import docker
from tests.support.examples import OPEN_GATE
from tests.support.pipeline_run import write_params

pytestmark = pytest.mark.docker

Run = Callable[..., subprocess.CompletedProcess[str]]
MADE = [
    ("data", "dataset"),
    ("model", "network"),
    ("model", "embeddings"),
    ("model", "index"),
    ("deploy-model", "archive"),
]


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parameters of a short training."""
    change = {"train": {"epochs": 3}, "gate": OPEN_GATE}
    return write_params(tmp_path_factory.mktemp("params") / "params.yaml", change)


@pytest.fixture(scope="module")
def ran(pipeline: Run, images: dict[str, str], params: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The volumes of a successful run in containers."""
    volumes = tmp_path_factory.mktemp("in-containers")
    done = pipeline("run", "--runner", "docker", "--params", params, "--volumes", volumes)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("DEPLOYED ")
    return volumes


def ids(volumes: Path, volume: str, kind: str) -> set[str]:
    return {path.name for path in (volumes / volume / kind).iterdir() if not path.name.startswith(".")}


def test_a_second_run_in_containers_changes_nothing(pipeline: Run, params: Path, ran: Path) -> None:
    done = pipeline("run", "--runner", "docker", "--params", params, "--volumes", ran)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("UNCHANGED ")
    assert done.stdout.count(": unchanged, ") == 7
    for line in done.stdout.splitlines():
        if line.startswith(("report ", "log ", "served model ")):
            assert Path(line.split(maxsplit=2 if line.startswith("served") else 1)[-1]).is_file()


def test_containers_and_subprocesses_make_the_same(pipeline: Run, params: Path, ran: Path, tmp_path: Path) -> None:
    done = pipeline("run", "--params", params, "--volumes", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for volume, kind in MADE:
        assert ids(ran, volume, kind) == ids(tmp_path, volume, kind)
    here, there = (json.loads((volumes / "deploy-model/current.json").read_text()) for volumes in (tmp_path, ran))
    assert here["version"] == there["version"]
    assert here["accuracy"] == pytest.approx(there["accuracy"], abs=0.02)


def test_subprocesses_find_unchanged_what_containers_made(pipeline: Run, params: Path, ran: Path) -> None:
    done = pipeline("run", "--params", params, "--volumes", ran)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("UNCHANGED ")


def test_what_containers_write_is_theirs_and_can_be_read(ran: Path) -> None:
    for volume in ("data", "model", "deploy-model"):
        for path in (ran / volume).rglob("*"):
            assert path.stat().st_uid == UID, path
            assert path.stat().st_mode & 0o004, path


def test_a_step_that_refuses_its_input_fails_the_run(pipeline: Run, params: Path, ran: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(params.read_text())
    content["validate"]["min_images_per_class"] = 100_000
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    before = (ran / "deploy-model/current.json").read_bytes()
    done = pipeline("run", "--runner", "docker", "--params", tmp_path / "params.yaml", "--volumes", ran)
    assert done.returncode == 1
    assert done.stderr.startswith("error: validate failed: ")
    assert "Traceback" not in done.stderr
    assert (ran / "deploy-model/current.json").read_bytes() == before


def test_a_container_that_is_killed_fails_the_run(
    pipeline: Run, images: dict[str, str], project: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "pipeline", "run", "--runner", "docker", "--project", project]
    command += ["--volumes", tmp_path / "volumes"]
    with subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert docker("kill", wait_for(lambda: containers(images["train"]))).returncode == 0
        output, error = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert error.startswith(("error: train failed: ", "error: starting a container failed: "))
    assert not containers(images["train"])


def test_an_interrupted_run_leaves_no_container(images: dict[str, str], project: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline", "run", "--runner", "docker", "--project", project]
    command += ["--volumes", tmp_path / "volumes"]
    with subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: containers(images["train"]))
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert not containers(images["train"])


@pytest.fixture
def served(ran: Path, project: Path, images: dict[str, str]) -> Iterator[int]:
    """The port of the model, served from the image."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pipeline", "serve", "--project", project, "--volumes", ran, "--port", port]
    with subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("ready after "):
                break
        else:
            pytest.fail("the server ended before it was ready")
        yield port
        process.send_signal(signal.SIGINT)
        assert process.stdout.read().endswith("stopped\n")
    assert not containers(images["serving"])


def test_the_image_serves_the_model(ran: Path, images: dict[str, str], served: int) -> None:
    environment = {**os.environ, "VOLUMES": str(ran)}
    command = [sys.executable, "-m", "serving", "predict", "--port", str(served), "samples/7.png"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == ["label", "7"]
    container = containers(images["serving"])
    for path in ("/deploy-model/new", "/deploy-model/current.json", "/app/new"):
        assert "Read-only file system" in docker("exec", container, "sh", "-c", f"echo x > {path}").stderr
    health = ["inspect", "--format", "{{.State.Health.Status}}", container]
    assert wait_for(lambda: docker(*health).stdout.strip() != "starting")
    assert docker(*health).stdout.strip() == "healthy"


def containers(image: str) -> str:
    """The containers of an image, running or not."""
    return docker("ps", "--all", "--quiet", "--filter", f"ancestor={image}").stdout.strip()


def wait_for(found: Callable[[], Any]) -> Any:
    """Poll `found` until it returns something."""
    for _ in range(600):
        if value := found():
            return value
        time.sleep(0.1)
    raise TimeoutError
