"""act runs a push and a pull request, with a real engine and a real registry on loopback."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from pipeline.images.tag import NAMES
from steps.registry import STEP_NAMES
from tests.stand_ins.kfp import Kfp, look
from tests.stand_ins.kfp_http import Server
from tests.support.engine_tools import docker
from tests.support.workflow_run import act, commit, copied, git, prepared, push

pytestmark = pytest.mark.docker

GATED = {step: "SUCCEEDED" for step in STEP_NAMES if step != "deploy"}

# Of the Pythons that GitHub tests with, the one that is here.
_THIS_PYTHON = f"python:python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def kfp() -> Iterator[tuple[Kfp, str]]:
    made = Kfp()
    made.script = [look("SUCCEEDED", **GATED)]
    with Server(made) as server:
        yield made, server.address


@pytest.fixture
def tree(tmp_path: Path, registry: str, images: dict[str, str]) -> Iterator[Path]:
    """A project with its own image names, in a folder of the registry; layers of `images` are reused."""
    place = f"{registry}/{tmp_path.name.replace('_', '-')}"
    yield prepared(copied(tmp_path / "project"), registry=place)
    listed = docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    if mine := [image for image in listed if image.startswith(f"{place}/")]:
        docker("rmi", "--force", "--no-prune", *mine)


def did(output: str, what: str) -> list[str]:
    """The images in the jobs' closing tables with one of these words: built, pushed, pulled, there."""
    return re.findall(rf"\| (\w+) +[0-9a-f]{{16}} [^\n]*\b{what}\b", output)


def held(project: Path) -> dict[str, list[str]]:
    """The tags in the registry, by image name without the project's name."""
    settings = yaml.safe_load((project / "project.yaml").read_text())
    host, _, folder = settings["registry"].partition("/")
    found = {}
    for name in NAMES:
        address = f"http://{host}/v2/{folder}/{settings['name']}-{name}/tags/list"
        answer = requests.get(address, timeout=20)
        assert answer.status_code in (200, 404), answer.text
        found[name] = answer.json().get("tags", [])
    return found


def test_a_push_builds_what_changed_and_nothing_else(tree: Path, kfp: tuple[Kfp, str]) -> None:
    done = push(tree, kfp[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(did(done.stdout, "built")) == set(NAMES)
    assert sorted(did(done.stdout, "pushed")) == sorted(NAMES)
    first = held(tree)
    assert {name: len(tags) for name, tags in first.items()} == dict.fromkeys(NAMES, 1)

    with (tree / "steps/deploy/deploy.py").open("a") as file:
        file.write("\n\n# One line more.\n")  # well formatted, since the push runs make lint
    commit(tree)
    done = push(tree, kfp[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert did(done.stdout, "built") == ["deploy"]
    assert did(done.stdout, "pushed") == ["deploy"]
    second = held(tree)
    assert [name for name in NAMES if second[name] != first[name]] == ["deploy"]

    specs: list[Any] = [version["pipeline_spec"]["pipeline_spec"]["deploymentSpec"] for version in kfp[0].versions]
    used = [{name: spec["executors"][f"exec-{name}"]["container"]["image"] for name in STEP_NAMES} for spec in specs]
    assert [name for name in STEP_NAMES if used[0][name] != used[1][name]] == ["deploy"]
    assert len(kfp[0].runs) == 2


def test_a_pull_request_is_tested_built_and_compared_and_pushes_nothing(tree: Path, tmp_path: Path) -> None:
    params = yaml.safe_load((tree / "params.yaml").read_text())
    params["train"]["epochs"] = 2
    (tree / "params.yaml").write_text(yaml.safe_dump(params))
    commit(tree)
    git(tree, "clone", "-q", "--bare", ".", str(tmp_path / "origin.git"))
    git(tree, "remote", "add", "origin", str(tmp_path / "origin.git"))
    git(tree, "fetch", "-q", "origin")
    git(tree, "checkout", "-q", "-b", "change")
    params["train"]["epochs"] = 3
    (tree / "params.yaml").write_text(yaml.safe_dump(params))
    commit(tree)
    event = {"pull_request": {"number": 1, "head": {"ref": "change"}, "base": {"ref": "master"}}}
    (tmp_path / "event.json").write_text(json.dumps(event))
    done = act(tree, "ci.yml", "pull_request", "--eventpath", str(tmp_path / "event.json"), "--matrix", _THIS_PYTHON)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert set(did(done.stdout, "built")) == set(NAMES)
    assert held(tree) == {name: [] for name in NAMES}
    assert "| | origin/master | this |" in done.stdout
    assert re.search(r"\| accuracy \| 0\.\d+[^|]*\| 0\.\d+", done.stdout)
    assert re.search(r"\| (DEPLOYED|REJECTED) ", done.stdout)
