"""Fixtures of the tests with real images: an engine, a registry on loopback, and a project that uses them."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from contract.paths import ROOT
from pipeline.images.build import references
from pipeline.images.docker import Docker, DockerMissingError
from pipeline.images.platforms import here
from pipeline.settings import load_project
from tests.support.engine_tools import docker
from tests.support.settings import PROJECT_FILE

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session", autouse=True)
def engine() -> Docker:
    """The engine; without one no test of this folder can run."""
    try:
        return Docker()
    except DockerMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty registry."""
    if shutil.which("docker-registry") is None:
        pytest.skip("no registry to start: install Debian's docker-registry")
    folder = tmp_path_factory.mktemp("registry")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (folder / "config.yml").write_text(yaml.safe_dump(settings))
    with subprocess.Popen(["docker-registry", "serve", folder / "config.yml"], stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(100):
                with socket.socket() as client:
                    if client.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            yield f"localhost:{port}"
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def project(registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """This project with another registry; its images are removed afterwards."""
    content = yaml.safe_load(PROJECT_FILE.read_text())
    file = tmp_path_factory.mktemp("project") / "project.yaml"
    file.write_text(yaml.safe_dump({**content, "registry": registry}))
    yield file
    listed = docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    mine = [image for image in listed if image.startswith(f"{registry}/")]
    if mine:
        docker("rmi", "--force", "--no-prune", *mine)  # the layers stay for the next build


@pytest.fixture(scope="session")
def pipeline(project: Path) -> Run:
    """Run the pipeline's command line with the project: `pipeline("images", "train")`; `root` is a working tree."""

    def run(*words: str | Path, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline", words[0], "--project", project, *words[1:]]
        # BLAS has as many threads as in a container: the last bits of a sum follow from their number.
        environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
        return subprocess.run(
            list(map(str, command)), cwd=root, env=environment, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture(scope="session")
def images(pipeline: Run, project: Path) -> dict[str, str]:
    """The eight images, built: name to full name."""
    done = pipeline("images")
    assert done.returncode == 0, done.stdout + done.stderr
    return references(load_project(project), here())
