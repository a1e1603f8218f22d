"""The whole pipeline in containers whose volumes are a network file system: each step on the other one of two nodes."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract.paths import ROOT
from serving.pointer import read_deployed
from tests.support.pipeline_run import QUICK, write_params
from tests.support.shared_mounts import CACHED_SECONDS, mounted

pytestmark = pytest.mark.docker

Run = Callable[..., subprocess.CompletedProcess[str]]

_SCRIPT = """
import itertools, sys
from docker.types import Mount
from pipeline.__main__ import main
from pipeline.local import containers
first, second, *words = sys.argv[1:]
nodes, run = itertools.cycle([first, second]), containers._run_container
def run_on_the_next_node(steps, online, *, image, mounts, **options):
    node = next(nodes)
    print(steps[image].name, "on", node, file=sys.__stderr__)
    moved = [Mount(mount["Target"], node + mount["Target"], type="bind") for mount in mounts]
    return run(steps, online, image=image, mounts=moved, **options)
containers._run_container = run_on_the_next_node
sys.exit(main(words))
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """Two nodes' mounts of one server's folder."""
    folder = tmp_path_factory.mktemp("shared")
    places = [folder / "node-1", folder / "node-2"]
    with mounted(folder / "server", places, "allow_other"):
        yield places


def test_the_whole_pipeline_on_volumes_that_two_nodes_share(
    pipeline: Run, images: dict[str, str], project: Path, nodes: list[Path], tmp_path: Path
) -> None:
    refused = write_params(tmp_path / "refused.yaml", QUICK)
    allowed = write_params(tmp_path / "allowed.yaml", {**QUICK, "deploy": {"without_locks": True}})

    def run(file: Path) -> subprocess.CompletedProcess[str]:
        words = ["run", "--runner", "docker", "--project", project, "--params", file, "--volumes", nodes[0]]
        command = [sys.executable, "-c", _SCRIPT, *nodes, *words]
        return subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)

    first = run(refused)
    assert first.returncode == 1, first.stdout + first.stderr
    assert "error: deploy failed: the file system of /deploy-model has no locks that hold on every node" in first.stderr
    places = [line.split(" on ") for line in first.stderr.splitlines() if " on /" in line]
    assert {place for _, place in places} == set(map(str, nodes))
    assert [step for step, _ in places[:3]] == ["preprocess", "validate", "train"]
    assert not list(nodes[0].glob("deploy-model/current.json"))

    second = run(allowed)
    assert second.returncode == 0, second.stdout + second.stderr
    assert second.stdout.count(": unchanged, ") == 6
    assert second.stdout.splitlines()[-1].startswith("DEPLOYED ")
    assert "so nothing keeps two runs that deploy apart" in second.stdout

    _await(nodes[1] / "deploy-model/current.json")
    processes = pipeline("run", "--params", allowed, "--volumes", nodes[1])
    assert processes.returncode == 0, processes.stdout + processes.stderr
    version = read_deployed(nodes[0] / "deploy-model").version
    assert read_deployed(nodes[1] / "deploy-model").version == version
    assert processes.stdout.splitlines()[-1].startswith(f"UNCHANGED {version}")


def _await(file: Path) -> None:
    """Wait until a file that is there is seen here, too: analyse asked for it in vain, which this node has cached."""
    ends = time.monotonic() + 10 * CACHED_SECONDS
    while not file.exists():
        assert time.monotonic() < ends, f"{file} is not seen"
        time.sleep(0.1)
